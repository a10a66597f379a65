"""The sources of COPY and ADD: patterns into paths of the build context, never outside of it. Standard
library only.
"""

from __future__ import annotations

import os

from jocker_protocol.patterns import BadPattern, clean, has_wildcard, match, unescape

from ..rootfs import resolve


class CopyError(Exception):
    """COPY or ADD cannot be done as it is written; one line for the user."""


def find_sources(context: str, patterns: list[str]) -> list[tuple[str, str]]:
    """(name as the Dockerfile means it, real path on this host) of each source, patterns in order, matches
    sorted.

    Links are followed inside the context, also the last one. A wildcard may match nothing as long as
    something is left to copy. Raises CopyError.
    """
    found = [item for pattern in patterns for item in _matches(context, pattern)]
    if not found:
        raise CopyError(f"nothing in the build context matches {', '.join(map(repr, patterns))}")
    return found


def _matches(context: str, pattern: str) -> list[tuple[str, str]]:
    cleaned = clean(pattern)
    if cleaned == ".." or cleaned.startswith("../"):
        raise CopyError(f"{pattern!r} is outside the build context")
    parts = [part for part in cleaned.split("/") if part not in ("", ".")]
    fixed = next((index for index, part in enumerate(parts) if has_wildcard(part)), len(parts))
    base = "/".join(unescape(part) for part in parts[:fixed])
    if fixed == len(parts):
        path = resolve(context, "/" + base)
        if not os.path.lexists(path):
            raise CopyError(f"no such file in the build context: {pattern!r}")
        if pattern.endswith("/") and not os.path.isdir(path):
            raise CopyError(f"not a directory in the build context: {pattern!r}")
        return [(base, path)]
    names = [base]
    try:
        for part in parts[fixed:]:
            names = [name for directory in names for name in _below(context, directory, part)]
    except BadPattern as error:
        raise CopyError(str(error)) from None
    found = [(name, resolve(context, "/" + name)) for name in names]
    for name, path in found:
        if not os.path.lexists(path):
            raise CopyError(f"{name!r} in the build context is a link to nothing there")
    return found


def _below(context: str, directory: str, pattern: str) -> list[str]:
    match(pattern, "")  # says whether the pattern is one, also where there is nothing to match
    path = resolve(context, "/" + directory)
    if not os.path.isdir(path):
        return []
    prefix = f"{directory}/" if directory else ""
    return sorted(prefix + name for name in os.listdir(path) if match(pattern, name))
