"""Worker operation: what the build cache knows a COPY by. Blocking; standard library only."""

from __future__ import annotations

import hashlib
import os
import stat

from .copytree import walk
from .sources import Excluded, find_sources


def digest(
    context_dir: str,
    sources: list[str],
    parents: bool = False,
    exclude: list[str] | None = None,
    owners: bool = False,
    where: str = "the build context",
) -> dict[str, str]:
    """{"digest": sha256 in hex} over names, types, modes, link targets and contents of what COPY would take.

    Not over times, nor without `owners` over owners: a fresh checkout gives the same. Raises CopyError, OSError.
    """
    total = hashlib.sha256()
    excluded = Excluded(exclude or [])
    for source in find_sources(context_dir, sources, parents, where):
        status = os.stat(source.path)
        if not stat.S_ISDIR(status.st_mode):
            if not excluded.file(source):
                _add(total, source.kept or os.path.basename(source.name), source.path, status, owners)
            continue
        # Without --parents the content of a directory is copied, not itself.
        total.update(b"content\0" + os.fsencode(source.kept))
        entries = (
            (below.split("/"), entry.path, its)
            for below, entry, its in walk(source.path)
            if not excluded.below(source, below)
        )
        for parts, path, its in sorted(entries, key=lambda item: item[0]):
            _add(total, "/".join(parts), path, its, owners)
    return {"digest": total.hexdigest()}


def _add(total: hashlib._Hash, name: str, path: str, status: os.stat_result, owners: bool) -> None:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
    elif stat.S_ISLNK(mode):
        content = os.fsencode(os.readlink(path))
        mode = stat.S_IFLNK  # permissions of links differ between systems
    else:
        content = b""
    owner = [b"%d:%d" % (status.st_uid, status.st_gid)] if owners else []
    for part in (os.fsencode(name), b"%o" % mode, content, *owner):
        total.update(b"%d:%b" % (len(part), part))
