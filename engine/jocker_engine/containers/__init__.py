"""Containers: the manager, one actor per container, and the table of states. Knows platform and db, not the api."""
