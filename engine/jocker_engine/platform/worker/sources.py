"""The sources of COPY and ADD: patterns into paths of the build context, never outside of it. Standard library
only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from jocker_protocol.patterns import BadPattern, Ignore, clean, has_wildcard, match, unescape

from ..rootfs import resolve
from .copytree import walk


class CopyError(Exception):
    """COPY or ADD cannot be done as it is written; one line for the user."""


class Source(NamedTuple):
    """One thing to copy."""

    name: str
    """As the Dockerfile means it, relative to the context."""
    path: str
    """The real path on this host."""
    kept: str
    """With --parents the path that it keeps below the destination; "" without."""


def find_sources(
    context: str, patterns: list[str], parents: bool = False, where: str = "the build context"
) -> list[Source]:
    """Sources of patterns in order, matches sorted; `where` is what messages call the context.

    The context is the root: there is nothing above it, so ".." at its top is left out, as Docker does it, and so
    are slashes at the end.
    Links are followed inside the context, also the last one. A wildcard may match nothing. Raises CopyError.
    """
    return [source for pattern in patterns for source in _matches(context, pattern, parents, where)]


def _matches(context: str, pattern: str, parents: bool, where: str) -> list[Source]:
    parts = [part for part in clean("/" + pattern).split("/") if part not in ("", ".")]
    pivot = 0  # so many parts are not kept
    if parents and "/./" in pattern:
        before = clean("/" + pattern.split("/./", 1)[0])
        pivot = len([part for part in before.split("/") if part])
    fixed = next((index for index, part in enumerate(parts) if has_wildcard(part)), len(parts))
    base = "/".join(unescape(part) for part in parts[:fixed])
    if fixed == len(parts):
        path = resolve(context, "/" + base)
        if not os.path.lexists(path):
            raise CopyError(f"no such file in {where}: {pattern!r}")
        return [Source(base, path, _kept(base, pivot) if parents else "")]
    names = [base]
    try:
        for part in parts[fixed:]:
            names = list(dict.fromkeys(name for above in names for name in _below(context, above, part)))
    except BadPattern as error:
        raise CopyError(str(error)) from None
    found = [(name, resolve(context, "/" + name)) for name in names if name]
    for name, path in found:
        if not os.path.lexists(path):
            raise CopyError(f"{name!r} in {where} is a link to nothing there")
    return [Source(name, path, _kept(name, pivot) if parents else "") for name, path in found]


def _kept(name: str, pivot: int) -> str:
    return "/".join(name.split("/")[pivot:])


def _below(context: str, directory: str, pattern: str) -> list[str]:
    """What a part of a pattern matches in a directory; "**" is the directory itself and all that are below it."""
    path = resolve(context, "/" + directory)
    if pattern == "**":
        return [directory, *_directories(path, directory)]
    match(pattern, "")  # says whether the pattern is one, also where there is nothing to match
    if not os.path.isdir(path):
        return []
    prefix = f"{directory}/" if directory else ""
    return sorted(prefix + name for name in os.listdir(path) if match(pattern, name))


def _directories(path: str, name: str) -> list[str]:
    """Links to directories are not among them, so that there is no way in circles."""
    if not os.path.isdir(path):
        return []
    prefix = f"{name}/" if name else ""
    return sorted(prefix + below for below, _, status in walk(path) if stat.S_ISDIR(status.st_mode))


class Excluded:
    """--exclude: patterns as in an ignore file, relative to a source that is a directory; of others to the context,
    or just the name.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        try:
            self._ignore = Ignore(patterns)
        except BadPattern as error:
            raise CopyError(f"--exclude: {error}") from None
        self.any = bool(list(patterns))

    def file(self, source: Source) -> bool:
        """Whether a source that is no directory is left out."""
        if not self.any:
            return False
        names = {os.path.basename(source.name), source.kept or source.name}
        return any(self._ignore.ignores(name) for name in names)

    def below(self, source: Source, path: str) -> bool:
        """Whether what is at a path in a directory is left out."""
        return self.any and self._ignore.ignores(f"{source.kept}/{path}" if source.kept else path)
