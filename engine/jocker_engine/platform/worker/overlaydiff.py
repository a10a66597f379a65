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
        below = _exists(path, lowers)
        if _is_whiteout(status):
            if below:
                changes.append(["D", "/" + path])
        else:
            changes.append(["C" if below else "A", "/" + path])
            if stat.S_ISDIR(status.st_mode) and _is_opaque(entry.path):
                gone = _names(path, lowers) - set(os.listdir(entry.path))
                changes += [["D", f"/{path}/{name}"] for name in gone]
    return {"changes": sorted(changes, key=lambda change: change[1])}


def _exists(path: str, lowers: list[str]) -> bool:
    """Whether a mount of these layers alone has this path. No link is followed on the way."""
    for lower in lowers:
        here, opaque = lower, False
        parts = path.split("/")
        for depth, part in enumerate(parts, start=1):
            here = os.path.join(here, part)
            try:
                status = os.lstat(here)
            except FileNotFoundError:
                if opaque:
                    return False
                break  # this layer says nothing about it
            if _is_whiteout(status):
                return False
            if depth == len(parts):
                return True
            if not stat.S_ISDIR(status.st_mode):
                return False
            opaque = opaque or _is_opaque(here)
    return False


def _names(path: str, lowers: list[str]) -> set[str]:
    """What the directory at this path has in a mount of these layers alone."""
    names = {name for lower in lowers for name in _listed(lower, path)}
    return {name for name in names if _exists(f"{path}/{name}", lowers)}


def _listed(lower: str, path: str) -> list[str]:
    here = lower
    for part in path.split("/"):
        here = os.path.join(here, part)
        if os.path.islink(here):
            return []
    return os.listdir(here) if os.path.isdir(here) else []


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False
