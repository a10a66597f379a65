"""Worker operations: what a layer adds to its parent, and that as the tar of the OCI image specification (layer.md).

The same changes give the same bytes whatever the storage driver: entries are sorted, directories on the way to a
change are there, deletions are explicit whiteouts, never opaque ones. A file is changed when its type, mode, owner,
mtime, xattrs or content are others; a directory's mtime alone is no change. Blocking; standard library only.

The stack of an overlay is read as the kernel's overlayfs.rst says ("whiteouts and opaque directories").
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .copytree import readable
from .recipe import Cook, Tar, open_file, read_exactly
from .tarwriter import END, has_form, header, plain

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"

_PRIVATE_XATTRS = ("trusted.overlay.", "user.overlay.", "security.selinux", "security.ima", "security.evm")
"""Of this machine, not of the layer."""
_NO_XATTR = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.ENODATA)


class Entry(NamedTuple):
    """Something there; `source` is its host path."""

    source: str
    status: os.stat_result


@dataclass
class Changes:
    """By path relative to the root; "" is the root itself."""

    there: dict[str, Entry] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)


def layer_tar(content: dict[str, Any], recipe: str, output: str = "", sync: bool = False) -> dict[str, Any]:
    """Write the recipe of a layer's tar, and the tar itself to `output` if that is given.

    `content` is interfaces.Content as a dictionary. Returns {"diff_id": "sha256:...", "bytes": size of the tar}.
    """
    if output:
        with open(output, "xb") as file:
            return _layer_tar(content, Cook(recipe, file.write), sync)
    return _layer_tar(content, Cook(recipe), sync)


def _layer_tar(content: dict[str, Any], cook: Cook, sync: bool) -> dict[str, Any]:
    write_tar(find_changes(**content), cook)
    cook.close(sync=sync)
    return {"diff_id": cook.digest, "bytes": cook.bytes}


def write_tar(changes: Changes, tar: Tar) -> None:
    """All of it. Of what vanishes meanwhile, in a container that runs, nothing is written."""
    linked: dict[tuple[int, int], str] = {}
    for path, entry in _in_order(changes):
        if entry is None:
            tar.raw(plain(os.fsencode(path), mode=0))
            continue
        source, status = entry
        mode = status.st_mode
        try:
            if status.st_nlink > 1 and not stat.S_ISDIR(mode):
                first = linked.setdefault((status.st_dev, status.st_ino), path)
                if first != path:
                    tar.raw(header(path, status, target=first, link=True))
                    continue
            target = os.readlink(source) if stat.S_ISLNK(mode) else ""
            head = header(path or ".", status, target=target, xattrs=xattrs(source, status))
            if not stat.S_ISREG(mode):
                tar.raw(head)
                continue
            with readable(source, status), open_file(source) as file:
                tar.raw(head)
                tar.content(path, file, status.st_size)
        except FileNotFoundError:
            linked.pop((status.st_dev, status.st_ino), None)
    tar.raw(END)


def clamp_times(content: dict[str, Any], mount: str, epoch: int, exact: bool = False) -> dict[str, int]:
    """No mtime of what is changed is later than `epoch` (seconds), or with `exact` each is just that.

    `mount` is where the tree is mounted.
    """
    changes = find_changes(**content)
    entries = {**changes.there, "": Entry(mount, os.lstat(mount))}
    wanted, count = epoch * 10**9, 0
    for path in sorted(entries, reverse=True):
        mtime = entries[path].status.st_mtime_ns
        if mtime > wanted or (exact and mtime != wanted):
            os.utime(os.path.join(mount, path), ns=(wanted, wanted), follow_symlinks=False)
            count += 1
    return {"clamped": count}


def is_small(content: dict[str, Any], entries: int, size: int) -> bool:
    """Whether finding and reading the changes is a matter of a millisecond."""
    for root in [content["root"], *([] if content["stacked"] else content["below"])]:
        for _, _, names, status in _walk_files(root):
            entries -= names
            size -= status
            if entries < 0 or size < 0:
                return False
    return True


def _walk_files(root: str) -> Iterator[tuple[str, str, int, int]]:
    queue = [root]
    while queue:
        directory = queue.pop()
        with os.scandir(directory) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    queue.append(entry.path)
                    yield directory, entry.name, 1, 0
                else:
                    yield directory, entry.name, 1, entry.stat(follow_symlinks=False).st_size


def _in_order(changes: Changes) -> list[tuple[str, Entry | None]]:
    """Parents first, names in the order of their bytes; None is a whiteout."""
    gone = (os.path.join(os.path.dirname(path), WHITEOUT + os.path.basename(path)) for path in changes.gone)
    all_: list[tuple[str, Entry | None]] = [*changes.there.items(), *((path, None) for path in gone)]
    return sorted(all_, key=lambda item: os.fsencode(item[0]).split(b"/") if item[0] else [])


def find_changes(root: str, below: list[str], stacked: bool, since_ns: int) -> Changes:
    """What the tree at `root` changes; see interfaces.Content."""
    return _Finder(stacked, since_ns).run(root, below)


def find_all(root: str, below: list[str], stacked: bool, since_ns: int) -> Changes:
    """All that the tree at `root` shows; see interfaces.Content."""
    finder = _Finder(stacked, since_ns)
    shown = Changes({"": Entry(root, os.lstat(root))})
    queue = [("", [root, *below] if stacked else [root])]
    while queue:
        prefix, directories = queue.pop()
        for name in {name for directory in directories for name in _listed(directory)}:
            entry, inside = finder.below(name, directories)
            if entry is None or not has_form(entry.status):
                continue
            shown.there[prefix + name] = entry
            if stat.S_ISDIR(entry.status.st_mode):
                queue.append((f"{prefix}{name}/", inside))
    return shown


class _Finder:
    def __init__(self, stacked: bool, since_ns: int) -> None:
        self._stacked = stacked
        self._since = since_ns
        self._changes = Changes()
        self._same: dict[tuple[int, int], dict[str, Entry]] = {}
        """Inodes with several names, none of them changed so far."""

    def run(self, root: str, below: list[str]) -> Changes:
        status = os.lstat(root)
        old = os.lstat(below[0]) if below else None
        if old is None or not self._is_same(Entry(root, status), Entry(below[0], old)):
            self._changes.there[""] = Entry(root, status)
        queue = [("", root, below)]
        while queue:
            prefix, directory, lowers = queue.pop()
            for path, entry, belows in self._directory(prefix, directory, lowers):
                queue.append((f"{path}/", entry.source, belows))
        self._names_of_one()
        self._ways(root)
        return self._changes

    def _directory(
        self, prefix: str, directory: str, lowers: list[str]
    ) -> Iterator[tuple[str, Entry, list[str]]]:
        """Look at what is in one directory; gives the directories in it, with those they are merged with."""
        names = set()
        with readable(directory, os.lstat(directory)):
            for name in _listed(directory):
                names.add(name)
                path, source = prefix + name, os.path.join(directory, name)
                try:
                    entry = Entry(source, os.lstat(source))
                except FileNotFoundError:
                    continue
                old, belows = self.below(name, lowers)
                if self._stacked and _is_whiteout(entry.status):
                    if old is not None:
                        self._changes.gone.append(path)
                    continue
                if not has_form(entry.status):
                    continue
                if old is None or not self._is_same(entry, old):
                    self._changes.there[path] = entry
                elif entry.status.st_nlink > 1 and not stat.S_ISDIR(entry.status.st_mode):
                    key = (entry.status.st_dev, entry.status.st_ino)
                    self._same.setdefault(key, {})[path] = entry
                if stat.S_ISDIR(entry.status.st_mode):
                    yield path, entry, belows if old and stat.S_ISDIR(old.status.st_mode) else []
        if not self._stacked or (lowers and _is_opaque(directory)):
            gone = {name for lower in lowers for name in _listed(lower)} - names
            self._changes.gone += [prefix + name for name in gone if self.below(name, lowers)[0] is not None]

    def below(self, name: str, lowers: list[str]) -> tuple[Entry | None, list[str]]:
        """What these directories, the topmost first, show under this name, and what a directory is merged of."""
        first: Entry | None = None
        directories = []
        for lower in lowers:
            path = os.path.join(lower, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if self._stacked and _is_whiteout(status):
                break
            if first is None:
                first = Entry(path, status)
            if not stat.S_ISDIR(status.st_mode):
                break
            directories.append(path)
            if self._stacked and _is_opaque(path):
                break
        return first, directories

    def _is_same(self, new: Entry, old: Entry) -> bool:
        a, b = new.status, old.status
        if (a.st_mode, a.st_uid, a.st_gid) != (b.st_mode, b.st_uid, b.st_gid):
            return False
        kind = stat.S_IFMT(a.st_mode)
        if kind != stat.S_IFDIR and a.st_mtime_ns != b.st_mtime_ns:
            return False
        if kind == stat.S_IFREG and a.st_size != b.st_size:
            return False
        if kind in (stat.S_IFCHR, stat.S_IFBLK) and a.st_rdev != b.st_rdev:
            return False
        if a.st_ctime_ns < self._since or (a.st_ino, a.st_ctime_ns) == (b.st_ino, b.st_ctime_ns):
            return True
        if kind == stat.S_IFLNK and os.readlink(new.source) != os.readlink(old.source):
            return False
        return xattrs(*new) == xattrs(*old) and (kind != stat.S_IFREG or _same_content(new, old))

    def _names_of_one(self) -> None:
        """A file of which one name is changed comes with all its names, so that they stay one file."""
        there = self._changes.there
        for key in {
            (entry.status.st_dev, entry.status.st_ino) for entry in there.values()
        } & self._same.keys():
            there.update(self._same[key])

    def _ways(self, root: str) -> None:
        """The directories on the way to each change."""
        there = self._changes.there
        for path in [*there, *self._changes.gone]:
            while (path := os.path.dirname(path)) and path not in there:
                source = os.path.join(root, path)
                there[path] = Entry(source, os.lstat(source))


def _listed(directory: str) -> list[str]:
    """In a container that runs a directory may be gone when its turn comes."""
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def xattrs(path: str, status: os.stat_result) -> dict[str, bytes]:
    """Those that belong to a layer."""
    if sys.platform != "linux":
        return {}
    try:
        with readable(path, status):
            return {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in sorted(os.listxattr(path, follow_symlinks=False))
                if not name.startswith(_PRIVATE_XATTRS)
            }
    except OSError as error:
        if error.errno not in _NO_XATTR:
            raise
        return {}


def _same_content(new: Entry, old: Entry) -> bool:
    size = new.status.st_size
    with readable(*new), readable(*old), open_file(new.source) as one, open_file(old.source) as other:
        return all(a == b for a, b in zip(read_exactly(one, size), read_exactly(other, size), strict=True))


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False
