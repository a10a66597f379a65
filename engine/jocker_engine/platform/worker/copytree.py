"""Worker operations on whole trees for the storage driver `copy`. Blocking; standard library only.

A copy keeps types, modes, owners, times, hard links, symlinks, holes, device nodes and xattrs. What this
user may not do is left out: without root all belongs to the caller and there are no device nodes; xattrs
that the target does not take are dropped.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Iterator

from ..rootfs import resolve

LINUX = sys.platform == "linux"
FICLONE = 0x40049409
"""ioctl_ficlone(2), linux/fs.h: _IOW(0x94, 9, int)."""

LCHFLAGS = getattr(os, "lchflags", None)
"""BSD only."""

_CANNOT_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EBADF, errno.ETXTBSY)
_CHUNK = 1 << 26


def copy_tree(source: str, target: str) -> dict[str, int]:
    """Copy the directory `source`, which nobody writes to, as `target`, which must not exist.

    Returns how many {"files", "links", "directories", "clones"}; raises OSError.
    """
    return TreeCopier().tree(source, target)


def fill_volume(rootfs: str, path: str, volume: str) -> dict[str, int]:
    """Copy what a container's root has at `path` into an empty volume, with the owner and mode of the directory.

    Nothing is copied when there is no such directory.
    """
    source = resolve(rootfs, path)
    if not os.path.isdir(source):
        return {"entries": 0}
    copier, entries = TreeCopier(), 0
    for entry in os.scandir(source):
        target, its = os.path.join(volume, entry.name), entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(its.st_mode):
            copier.tree(entry.path, target)
        else:
            copier.entry(entry.path, target, its)
        entries += 1
    status = os.stat(source)
    os.chown(volume, status.st_uid, status.st_gid)
    os.chmod(volume, stat.S_IMODE(status.st_mode))
    return {"entries": entries}


class TreeCopier:
    """Copies entries, and remembers over all of them the hard links seen and whether reflinks work here."""

    def __init__(self) -> None:
        self.count = {"files": 0, "links": 0, "directories": 0, "clones": 0}
        self._reflink = LINUX
        self._root = os.geteuid() == 0
        self._linked: dict[tuple[int, int], str] = {}

    def tree(self, source: str, target: str) -> dict[str, int]:
        """A directory with all that is below it."""
        directories = [(source, target, os.lstat(source))]
        os.mkdir(target, 0o700)
        for path, entry, status in walk(source):
            below = os.path.join(target, path)
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(below, 0o700)
                directories.append((entry.path, below, status))
            else:
                self.entry(entry.path, below, status)
        # Only now: the copying above changed the times, and a mode may forbid it.
        for old, new, status in reversed(directories):
            self.attributes(old, new, status)
            self.count["directories"] += 1
        return self.count

    def entry(self, source: str, target: str, status: os.stat_result) -> None:
        """One entry that is no directory."""
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and (first := self._linked.get(key)) is not None:
            os.link(first, target, follow_symlinks=False)
            self.count["links"] += 1
            return
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            self.content(source, target, status)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(source), target)
        elif not make_node(target, status):
            return
        self.attributes(source, target, status)
        self.count["files"] += 1
        if status.st_nlink > 1:
            self._linked[key] = target

    def content(self, source: str, target: str, status: os.stat_result) -> None:
        """The bytes of a regular file; `target` must not exist. Shared with the source where that can be."""
        with readable(source, status):
            old = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            new = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                if status.st_size and not self._clone(old, new):
                    _copy_data(old, new, status.st_size)
            finally:
                os.close(new)
        finally:
            os.close(old)

    def _clone(self, old: int, new: int) -> bool:
        if not self._reflink:
            return False
        try:
            fcntl.ioctl(new, FICLONE, old)
        except OSError as error:
            if error.errno not in _CANNOT_CLONE:
                raise
            self._reflink = False
            return False
        self.count["clones"] += 1
        return True

    def attributes(self, source: str, target: str, status: os.stat_result) -> None:
        """Owner, mode, xattrs, times: in this order, since chown clears set-uid bits and capabilities."""
        link = stat.S_ISLNK(status.st_mode)
        if self._root:
            os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
        copy_xattrs(source, target, status)
        if not link:
            os.chmod(target, stat.S_IMODE(status.st_mode))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def make_node(path: str, status: os.stat_result) -> bool:
    """A FIFO, a device node, or on Linux a socket, which mknod(2) makes only there. Whether it was made.

    A FIFO has no device number; on FreeBSD its st_rdev is NODEV, which mknod(2) does not take.
    """
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFSOCK and not LINUX:
        return False
    device = status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    try:
        os.mknod(path, kind | 0o600, device)
    except PermissionError:
        return False  # device nodes are root's
    return True


def copy_xattrs(source: str, target: str, status: os.stat_result) -> None:
    """All xattrs that can be read there and written here (file capabilities and ACLs among them)."""
    if sys.platform != "linux":
        return
    try:
        with readable(source, status):
            names = os.listxattr(source, follow_symlinks=False)
            values = {name: os.getxattr(source, name, follow_symlinks=False) for name in names}
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES):
            raise
        return
    for name, value in values.items():
        try:
            os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL):
                raise


@contextlib.contextmanager
def readable(path: str, status: os.stat_result) -> Iterator[None]:
    """Lets the owner, who is not root, read what its mode forbids, and puts the mode back."""
    wanted = stat.S_IMODE(status.st_mode) | (0o500 if stat.S_ISDIR(status.st_mode) else 0o400)
    held = stat.S_ISLNK(status.st_mode) or wanted == stat.S_IMODE(status.st_mode)
    if held or os.geteuid() == 0 or status.st_uid != os.geteuid():
        yield
        return
    os.chmod(path, wanted)
    try:
        yield
    finally:
        os.chmod(path, stat.S_IMODE(status.st_mode))


def _copy_data(old: int, new: int, size: int) -> None:
    """Copy the extents that hold data, leave holes holes."""
    at = 0
    while at < size:
        try:
            at = os.lseek(old, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # a hole up to the end
        end = os.lseek(old, at, os.SEEK_HOLE)
        os.lseek(old, at, os.SEEK_SET)
        os.lseek(new, at, os.SEEK_SET)
        while at < end:
            if (done := _copy_range(old, new, min(end - at, _CHUNK))) == 0:
                break
            at += done
        else:
            continue
        break  # the file became shorter
    os.ftruncate(new, size)


def _copy_range(old: int, new: int, count: int) -> int:
    if sys.platform == "linux":
        try:
            return os.copy_file_range(old, new, count)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
                raise
    data = os.read(old, min(count, 1 << 20))
    view = memoryview(data)
    while view:
        view = view[os.write(new, view) :]
    return len(data)


def walk(root: str) -> Iterator[tuple[str, os.DirEntry[str], os.stat_result]]:
    """(path relative to the root, entry, its own status) of all that is below, parents first."""
    queue = [("", root, os.lstat(root))]
    with contextlib.ExitStack() as opened:
        while queue:
            prefix, directory, status = queue.pop()
            opened.enter_context(readable(directory, status))
            with os.scandir(directory) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    yield prefix + entry.name, entry, status
                    if stat.S_ISDIR(status.st_mode):
                        queue.append((f"{prefix}{entry.name}/", entry.path, status))


def empty_tree(path: str) -> dict[str, int]:
    """Delete all that a directory holds, and leave it."""
    removed = 0
    for entry in list(os.scandir(path)):
        if entry.is_dir(follow_symlinks=False):
            removed += remove_tree(entry.path)["removed"]
        else:
            if LCHFLAGS:
                _unlock(entry.path, entry.stat(follow_symlinks=False))
            os.unlink(entry.path)
            removed += 1
    return {"removed": removed}


def remove_tree(path: str) -> dict[str, int]:
    """Delete a directory with all it holds, whatever the modes; no error if it is not there."""
    queue, found = [path], []
    removed = 0
    while queue:
        directory = queue.pop()
        try:
            _unlock(directory, os.lstat(directory))
        except FileNotFoundError:
            continue
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    queue.append(entry.path)
                else:
                    if LCHFLAGS:
                        _unlock(entry.path, entry.stat(follow_symlinks=False))
                    os.unlink(entry.path)
                    removed += 1
        found.append(directory)
    for directory in reversed(found):
        os.rmdir(directory)
    return {"removed": removed + len(found)}


def _unlock(path: str, status: os.stat_result) -> None:
    """Take away what forbids deleting: flags such as FreeBSD's schg, and a directory's mode."""
    if LCHFLAGS and getattr(status, "st_flags", 0):
        LCHFLAGS(path, 0)
    if stat.S_ISDIR(status.st_mode) and status.st_mode & 0o700 != 0o700:
        os.chmod(path, 0o700)


def tree_size(path: str) -> dict[str, int]:
    """Bytes that the tree takes on disk; hard links count once, blocks shared by reflinks each time."""
    seen: set[tuple[int, int]] = set()
    total = os.lstat(path).st_blocks * 512
    for _, _, status in walk(path):
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            key = (status.st_dev, status.st_ino)
            if key in seen:
                continue
            seen.add(key)
        total += status.st_blocks * 512
    return {"bytes": total}


def tree_sizes(paths: dict[str, str]) -> dict[str, dict[str, int]]:
    """{"sizes": {name: bytes}} of several; those that are gone meanwhile are left out."""
    sizes = {}
    for name, path in paths.items():
        try:
            sizes[name] = tree_size(path)["bytes"]
        except FileNotFoundError:
            continue
    return {"sizes": sizes}


def compare_trees(tree: str, parent: str | None) -> dict[str, list[list[str]]]:
    """What `tree` changed against `parent` (None: nothing): {"changes": [[kind, "/path"], ...]}, sorted.

    Kinds are A, C, D. Compared are type, mode, owner, link target, device number, and size and mtime of
    files; not the content: a copy keeps the mtime, and only who sets it back hides a change (as with rsync).
    A directory is changed when something in it is; of a deleted one only the directory itself is listed.
    """
    changes: dict[str, str] = {}
    old = {path: _facts(entry, status) for path, entry, status in walk(parent)} if parent else {}
    new = {path: _facts(entry, status) for path, entry, status in walk(tree)}
    for path, facts in new.items():
        if path not in old:
            changes[path] = "A"
        elif facts != old[path]:
            changes[path] = "C"
    for path in old.keys() - new.keys():
        above = os.path.dirname(path)
        if not above or (above in new and stat.S_ISDIR(new[above][0])):
            changes[path] = "D"
    for path in list(changes):
        while (path := os.path.dirname(path)) and path not in changes:
            changes[path] = "C"
    return {"changes": [[kind, "/" + path] for path, kind in sorted(changes.items())]}


def _facts(entry: os.DirEntry[str], status: os.stat_result) -> tuple[int, int, int, object]:
    mode = status.st_mode
    special: object = None
    if stat.S_ISREG(mode):
        special = (status.st_size, status.st_mtime_ns)
    elif stat.S_ISLNK(mode):
        special = os.readlink(entry.path)
    elif stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        special = status.st_rdev
    return mode, status.st_uid, status.st_gid, special


def seal_tree(tree: str, layer: str) -> dict[str, int]:
    """Bring a tree to disk, then give it its name as a layer, and bring that to disk too."""
    sync_file_system(tree)
    os.rename(tree, layer)
    for directory in {os.path.dirname(tree), os.path.dirname(layer)}:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return {}


def sync_tree(path: str) -> dict[str, int]:
    """Bring all that is below to disk."""
    sync_file_system(path)
    return {}


def sync_file_system(path: str) -> None:
    """syncfs(2) where there is one, else sync(2), which on FreeBSD does not wait for the disk."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "syncfs"):
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if library.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)
