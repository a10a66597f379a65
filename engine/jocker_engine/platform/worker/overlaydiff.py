"""Worker operation: what an overlay's upper directory says has changed. Blocking; standard library only.

Source: the kernel's Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import os
import stat

from .copytree import walk


def overlay_changes(upper: str, lowers: list[str]) -> dict[str, list[list[str]]]:
    """{"changes": [kind, path]}, sorted by path; `lowers` are the layers below, the topmost first."""
    changes = []
    for path, entry, status in walk(upper):
        below = _exists_below(path, lowers)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            if below:
                changes.append(["D", "/" + path])
        else:
            changes.append(["C" if below else "A", "/" + path])
            if below and stat.S_ISDIR(status.st_mode) and _opaque(entry.path):
                kept = set(os.listdir(entry.path))
                changes += [["D", f"/{path}/{name}"] for name in _names_below(path, lowers) - kept]
    return {"changes": sorted(changes, key=lambda change: change[1])}


def _opaque(path: str) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False


def _whiteout(path: str) -> bool:
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _exists_below(path: str, lowers: list[str]) -> bool:
    for lower in lowers:
        here = os.path.join(lower, path)
        if os.path.lexists(here):
            return not _whiteout(here)
        above = os.path.dirname(path)
        while above:
            if _opaque(os.path.join(lower, above)) or (
                os.path.lexists(os.path.join(lower, above)) and _whiteout(os.path.join(lower, above))
            ):
                return False
            above = os.path.dirname(above)
    return False


def _names_below(path: str, lowers: list[str]) -> set[str]:
    names: set[str] = set()
    for lower in lowers:
        here = os.path.join(lower, path)
        if os.path.isdir(here) and not os.path.islink(here):
            names |= set(os.listdir(here))
    return {name for name in names if _exists_below(os.path.join(path, name), lowers)}
