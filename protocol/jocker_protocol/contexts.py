"""How a build's contexts go over the stream of image.build. Pure; standard library only.

A context is described by its manifest: one JSON array a line, sorted so that a directory comes before what is in
it. Its id is the SHA-256 of this text.

    ["d", PATH, MODE, MTIME]   ["f", PATH, MODE, MTIME, SIZE, SHA256]   ["l", PATH, TARGET]

Paths are relative and clean, times in nanoseconds; bytes that are no UTF-8 are surrogates (PEP 383). The client
names the ids in `contexts` of its call. For each context that the engine does not hold it is asked, one after
the other, with a WANT frame, and answers with STDIN frames and EOF:

    {"what": "manifest", "context": NAME}                     the manifest
    {"what": "files", "context": NAME, "files": [[0, 7], ...]}  a tar of the files on these lines (ranges, both ends
                                                              included): all whose content the engine lacks
    {"what": "tar", "context": NAME}                          all of it, a tar, for a context without an id

A file may change between manifest and tar: the engine believes what it receives, and one that is missing there
was deleted. Last, {"what": "agent", "id": ID, "connection": N}: somebody connects to the ssh agent ID; AGENT and
TO_AGENT frames with this number carry the conversation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

MAX_ENTRIES = 1_000_000
MAX_BYTES = 1 << 36
"""Limits of one context: entries, and bytes of all files."""

MAX_SECRETS = 500 * 1024
"""Bytes of all secrets of a build."""

Entry = tuple[Any, ...]
"""A line of a manifest."""


def encode(entries: Iterable[Entry]) -> bytes:
    """The manifest."""
    return b"".join(json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in entries)


def decode(manifest: bytes) -> list[Entry]:
    """Its entries. Raises ValueError for what is no manifest, or names anything that would not be inside."""
    entries: list[Entry] = []
    directories, seen = {""}, set()
    for number, line in enumerate(manifest.splitlines(), 1):
        entry = json.loads(line)
        if not isinstance(entry, list) or not _well_formed(entry):
            raise ValueError(f"line {number}: not an entry")
        path = entry[1]
        above, _, name = path.rpartition("/")
        inside = above in directories and path == (f"{above}/{name}" if above else name)
        if not inside or name in ("", ".", "..") or "\0" in path or path in seen:
            raise ValueError(f"line {number}: {path!r} is no new path in a directory before it")
        seen.add(path)
        if entry[0] == "d":
            directories.add(path)
        entries.append(tuple(entry))
    return entries


_FORMS = {"d": (str, str, int, int), "f": (str, str, int, int, int, str), "l": (str, str, str)}


def _well_formed(entry: list[Any]) -> bool:
    form = _FORMS.get(entry[0]) if entry and isinstance(entry[0], str) else None
    if form is None or len(entry) != len(form):
        return False
    return all(type(value) is kind for value, kind in zip(entry, form, strict=True))


def identity(manifest: bytes) -> str:
    """The context's id."""
    return hashlib.sha256(manifest).hexdigest()


def ranges(lines: Iterable[int]) -> list[list[int]]:
    """Ascending numbers as ranges, both ends included."""
    found: list[list[int]] = []
    for line in lines:
        if found and line == found[-1][1] + 1:
            found[-1][1] = line
        else:
            found.append([line, line])
    return found
