"""Worker operations: a build context from its manifest, what older contexts have of it, and a tar of the rest.
Blocking; standard library only.

A store holds contexts as STORE/ID/manifest, STORE/ID/bytes (of all files, a number) and STORE/ID/tree. Trees are never written to: those that have the
same file with the same mode and time share it as hard links. See jocker_protocol/contexts.py for the manifest.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator

from jocker_protocol.contexts import MAX_BYTES, MAX_ENTRIES, Entry, decode, encode, identity, ranges

from .copytree import TreeCopier, remove_tree

_CHUNK = 1 << 20
_DIRECTORY, _FILE = 0o700, 0o600


class ContextRefused(Exception):
    """The manifest or the tar is not as agreed; one line."""


def begin_context(store: str, partial: str) -> dict[str, list[list[int]]]:
    """PARTIAL/manifest becomes PARTIAL/tree with directories, links, and the files that the store has.

    Returns {"missing": ranges of the lines whose files it has not}. Raises ContextRefused, OSError.
    """
    entries = _manifest(partial)
    tree = os.path.join(partial, "tree")
    os.mkdir(tree, _DIRECTORY)
    known = _known(store, {entry[5] for entry in entries if entry[0] == "f"})
    missing = []
    for line, entry in enumerate(entries):
        path = os.path.join(tree, entry[1])
        if entry[0] == "d":
            os.mkdir(path, _DIRECTORY)
        elif entry[0] == "l":
            os.symlink(entry[2], path)
        elif not _take(known.get(entry[5], {}), path, entry):
            missing.append(line)
    return {"missing": ranges(missing)}


def finish_context(store: str, partial: str, tar: str) -> dict[str, str]:
    """Fill the tree from a tar ("": nothing was missing), and give it its place in the store.

    What the tar has is the truth, also where the manifest says something else. Returns {"id": ...}.
    Raises ContextRefused, OSError.
    """
    entries = {entry[1]: entry for entry in _manifest(partial)}
    tree = os.path.join(partial, "tree")
    absent = {
        path: entry
        for path, entry in entries.items()
        if entry[0] == "f" and not os.path.lexists(os.path.join(tree, path))
    }
    if absent:
        try:
            entries.update(_received(tree, tar, absent))
        except tarfile.TarError as error:
            raise ContextRefused(f"the files of the context came as a damaged tar: {error}") from None
        for path in absent:  # deleted meanwhile
            del entries[path]
    for entry in reversed(entries.values()):
        if entry[0] == "d":
            _attributes(os.path.join(tree, entry[1]), entry)
    os.chmod(tree, 0o755)
    manifest = encode(entries.values())
    with open(os.path.join(partial, "manifest"), "wb") as file:
        file.write(manifest)
    with open(os.path.join(partial, "bytes"), "w", encoding="ascii") as text:
        text.write(str(sum(entry[4] for entry in entries.values() if entry[0] == "f")))
    final = os.path.join(store, identity(manifest))
    try:
        os.rename(partial, final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        remove_tree(partial)  # somebody was faster
    return {"id": os.path.basename(final)}


def _manifest(directory: str) -> list[Entry]:
    try:
        with open(os.path.join(directory, "manifest"), "rb") as file:
            entries = decode(file.read())
    except ValueError as error:
        raise ContextRefused(f"the context's manifest cannot be used: {error}") from None
    size = sum(entry[4] for entry in entries if entry[0] == "f")
    if len(entries) > MAX_ENTRIES or size > MAX_BYTES:
        raise ContextRefused(
            f"the build context has {len(entries)} entries and {size} bytes; it may have {MAX_ENTRIES} and "
            f"{MAX_BYTES}: leave out what no COPY needs with a .dockerignore"
        )
    return entries


Known = dict[str, dict[tuple[int, int], str]]
"""Digest -> (mode, time) -> a file in the store."""


def _known(store: str, wanted: set[str]) -> Known:
    known: Known = {}
    for name in os.listdir(store):
        directory = os.path.join(store, name)
        try:
            with open(os.path.join(directory, "manifest"), "rb") as file:
                entries = decode(file.read())
        except (FileNotFoundError, NotADirectoryError):
            continue  # it is on its way out
        for entry in entries:
            if entry[0] == "f" and entry[5] in wanted:
                known.setdefault(entry[5], {})[entry[2], entry[3]] = os.path.join(directory, "tree", entry[1])
    return known


def _take(known: dict[tuple[int, int], str], path: str, entry: Entry) -> bool:
    """From the store, if it can be: the file itself, or a copy where mode or time differ."""
    try:
        same = known.get((entry[2], entry[3]))
        if same is not None:
            try:
                os.link(same, path, follow_symlinks=False)
                return True
            except OSError as error:
                if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV):
                    raise
        for other in known.values():
            TreeCopier().content(other, path, os.lstat(other))
            _attributes(path, entry)
            return True
    except FileNotFoundError:
        pass  # what is in the store may go at any time
    return False


def _received(tree: str, tar: str, absent: dict[str, Entry]) -> Iterator[tuple[str, Entry]]:
    """Write what came; it leaves `absent`."""
    if not tar:
        return
    size = 0
    with tarfile.open(tar, "r:") as archive:
        for member in archive:
            entry = absent.pop(member.name, None)
            content = archive.extractfile(member) if member.isreg() else None
            if entry is None or content is None:
                raise ContextRefused(f"{member.name!r} was not asked for")
            size += member.size
            if size > MAX_BYTES:
                raise ContextRefused(f"the build context has more than {MAX_BYTES} bytes")
            path = os.path.join(tree, member.name)
            digest = hashlib.sha256()
            with open(path, "xb") as file:
                while data := content.read(_CHUNK):
                    digest.update(data)
                    file.write(data)
                length = file.tell()
            if length != member.size:
                raise ContextRefused(f"{member.name!r} was cut short on its way")
            if digest.hexdigest() != entry[5]:
                mode, time = stat.S_IMODE(member.mode), int(member.mtime) * 10**9
                entry = ("f", member.name, mode, time, length, digest.hexdigest())
            _attributes(path, entry)
            yield member.name, entry


def _attributes(path: str, entry: Entry) -> None:
    os.chmod(path, entry[2] & 0o7777)
    os.utime(path, ns=(entry[3], entry[3]))
