"""State that survives: SQLite in WAL mode behind one actor. Knows rows and records, nothing of what they mean."""
