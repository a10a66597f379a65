"""POSIX shared memory that a jail's processes left behind: it keeps the jail dying for ever. posixshmcontrol(1). Pure."""

from __future__ import annotations

LISTING = ["posixshmcontrol", "ls"]


def parse_listing(text: str, root: str) -> list[str]:
    """Names of objects made inside a root: the kernel puts the jail's path before them."""
    inside = root.rstrip("/") + "/"
    names = (line.split(maxsplit=4) for line in text.splitlines()[1:])
    return [words[4] for words in names if len(words) == 5 and words[4].startswith(inside)]


def remove(name: str) -> list[str]:
    """posixshmcontrol rm."""
    return ["posixshmcontrol", "rm", name]
