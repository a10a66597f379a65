"""Worker operation: the first entry in which the tars of two layers differ. Blocking; standard library only."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from typing import IO, Any, cast

from .recipe import CHUNK, replay

_WHITEOUT = "/.wh."


class _Reader:
    """The pieces of a tar, to be read as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int) -> bytes:
        """Fewer bytes only at the end."""
        buffer = bytearray(self._rest)
        while len(buffer) < size and (piece := next(self._pieces, None)) is not None:
            buffer += piece
        self._rest = bytes(buffer[size:])
        return bytes(buffer[:size])


Entry = dict[str, str]


def compare_layers(first: dict[str, str], second: dict[str, str]) -> dict[str, str]:
    """Layers are {"recipe", "root"}. Returns {"path", "what": presence, type, content, ..., "how": one line}.

    Entries of both are in the same order; {"path": ""} when all are the same.
    """
    ours, theirs = _entries(**first), _entries(**second)
    one, other = next(ours, None), next(theirs, None)
    while one is not None or other is not None:
        if one is None or other is None or one[0] != other[0]:
            only_first = other is None or (one is not None and one[0] < other[0])
            only = one if only_first else other
            assert only is not None
            path = "/" + "/".join(only[0])
            gone = _WHITEOUT in path
            where = "first" if only_first else "second"
            how = f"only in the {where} build it is {'deleted' if gone else 'there'}"
            return {"path": path.replace(_WHITEOUT, "/"), "what": "presence", "how": how}
        for what, value in one[1].items():
            if value != other[1][what]:
                path = "/" + "/".join(one[0])
                return {"path": path, "what": what, "how": f"{value} and {other[1][what]}"}
        one, other = next(ours, None), next(theirs, None)
    return {"path": "", "what": "", "how": ""}


def _entries(recipe: str, root: str) -> Iterator[tuple[list[str], Entry]]:
    """Path in parts, and what there is to say, the weightiest first."""
    source = cast("IO[bytes]", _Reader(replay(recipe, root)))
    with tarfile.open(fileobj=source, mode="r|") as archive:
        for member in archive:
            content: Any = archive.extractfile(member) if member.isreg() else None
            xattrs = {k: v for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")}
            yield (
                member.name.split("/"),
                {
                    "type": {b"0": "file", b"1": "hard link", b"2": "link", b"5": "directory"}.get(
                        member.type, "special"
                    ),
                    "content": _digest(content) if content else member.linkname,
                    "mode": f"{member.mode:o}",
                    "owner": f"{member.uid}:{member.gid}",
                    "mtime": str(int(member.mtime)),
                    "xattr": str(xattrs),
                    "device": f"{member.devmajor}:{member.devminor}",
                },
            )


def _digest(content: IO[bytes]) -> str:
    total = hashlib.sha256()
    while data := content.read(CHUNK):
        total.update(data)
    return f"sha256:{total.hexdigest()[:16]}"
