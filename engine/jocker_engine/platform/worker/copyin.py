"""Worker operation: COPY and ADD of the builder, from a build context into a root. Blocking; standard library
only.

Nothing is written outside the root: links in the destination are followed as if the root were "/". Nobody
else may write to the context or the root meanwhile. Source: Docker's Dockerfile reference, COPY and ADD.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zlib

from ..rootfs import resolve
from .copytree import TreeCopier, walk
from .sources import CopyError, find_sources

_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


def copy_in(
    context_dir: str,
    sources: list[str],
    rootfs: str,
    destination: str,
    chown: list[int] | None = None,
    chmod: int | None = None,
    unpack: bool = False,
) -> dict[str, int]:
    """Copy sources (patterns relative to the context) to `destination` (absolute, inside the root).

    Of a directory the content is copied. A destination that ends in "/", is a directory, or gets several
    sources is a directory. Modes and mtimes are kept, unless `chmod` sets the mode; all belongs to `chown`
    (uid, gid), 0:0 without. `unpack` extracts sources that are tar archives, also compressed, known by their
    content: what they hold keeps its mode and, without `chown`, its owner. Without root all belongs to the
    caller.

    Returns {"files": entries made that are not directories}. Raises CopyError (one line), OSError.
    """
    word = "ADD" if unpack else "COPY"
    try:
        found = find_sources(context_dir, sources)
        copier = _CopyIn(rootfs, chown, chmod)
        several = len(found) > 1 or destination.endswith(("/", "/.", "/.."))
        for name, path in found:
            if os.path.isdir(path):
                copier.directory(path, destination)
            elif unpack and (archive := open_archive(path)):
                with archive:
                    copier.archive(archive, destination)
            else:
                into = several or os.path.isdir(resolve(rootfs, destination))
                copier.file(
                    path, f"{destination}/{os.path.basename(name)}" if into else destination, follow=not into
                )
        return {"files": copier.files}
    except CopyError as error:
        raise CopyError(f"{word} failed: {error}") from None
    except NotADirectoryError as error:
        inside = os.path.relpath(str(error.filename), os.path.realpath(rootfs))
        raise CopyError(f"{word} failed: '/{inside}' is not a directory") from None
    except _DAMAGED as error:
        raise CopyError(f"{word} failed: damaged archive: {error}") from None


def open_archive(path: str) -> tarfile.TarFile | None:
    """The tar archive, plain or compressed (gzip, bzip2, xz), or None for a file that is none."""
    try:
        with tarfile.open(path, "r:*") as archive:
            if archive.next() is None:  # only zeros
                return None
    except _DAMAGED:
        return None
    return tarfile.open(path, "r:*")


class _CopyIn:
    """Writes into one root; paths named `inside` are absolute within it."""

    def __init__(self, rootfs: str, chown: list[int] | None, chmod: int | None) -> None:
        self.files = 0
        self._rootfs = os.path.realpath(rootfs)
        self._chown = chown
        self._owner = (chown[0], chown[1]) if chown else (0, 0)
        self._chmod = chmod
        self._root = os.geteuid() == 0
        self._copier = TreeCopier()

    def directory(self, source: str, destination: str) -> None:
        """The content of a directory, merged into what is there."""
        top = self._make_directory(destination)
        targets = {"": top}
        finish: list[tuple[str, os.stat_result]] = []
        for path, entry, status in walk(source):
            target = os.path.join(targets[os.path.dirname(path)], entry.name)
            if not stat.S_ISDIR(status.st_mode):
                self._entry(entry.path, target, status)
                continue
            if os.path.islink(target):
                # As /bin -> usr/bin: the link stays, the content goes where it leads.
                target = self._make_directory(self._inside(target))
            else:
                if not os.path.isdir(target):
                    self._refuse_other(target)
                    os.mkdir(target)
                finish.append((target, status))
            targets[path] = target
        for target, status in reversed(finish):
            self._attributes(target, status)

    def file(self, source: str, destination: str, *, follow: bool) -> None:
        """A single file; `follow` says whether a link at the destination names the file or is replaced."""
        if follow:
            destination = self._inside(resolve(self._rootfs, destination))
        parent = self._make_directory(os.path.dirname(destination))
        self._entry(source, os.path.join(parent, os.path.basename(destination)), os.stat(source))

    def archive(self, archive: tarfile.TarFile, destination: str) -> None:
        """What an archive holds, as tar -x would do it with the root as "/"."""
        top = self._inside(self._make_directory(destination))
        directories: list[tuple[str, tarfile.TarInfo]] = []
        for member in archive:
            name = os.path.normpath("/" + member.name).lstrip("/")
            if not name:
                continue
            parent = self._make_directory(os.path.join(top, os.path.dirname(name)))
            target = os.path.join(parent, os.path.basename(name))
            if member.isdir():
                if not os.path.isdir(target) or os.path.islink(target):
                    self._make_room(target)
                    os.mkdir(target)
                directories.append((target, member))
                continue
            self._make_room(target)
            if member.isfile():
                self._member_content(archive, member, target)
            elif member.issym():
                os.symlink(member.linkname, target)
            elif member.islnk():
                linked = os.path.normpath("/" + member.linkname).lstrip("/")
                above = resolve(self._rootfs, os.path.join(top, os.path.dirname(linked)))
                try:
                    os.link(os.path.join(above, os.path.basename(linked)), target, follow_symlinks=False)
                except FileNotFoundError:
                    raise CopyError(
                        f"hard link {member.name!r} to {member.linkname!r}, which is not there"
                    ) from None
            elif not self._special(member, target):
                continue
            self.files += 1
            if not member.islnk():
                self._member_attributes(target, member)
        for target, member in reversed(directories):
            self._member_attributes(target, member)

    def _member_content(self, archive: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
        content = archive.extractfile(member)
        assert content is not None  # it is a regular file
        with open(target, "xb") as file:
            while data := content.read(1 << 20):
                file.write(data)
        if os.path.getsize(target) != member.size:
            raise CopyError(f"damaged archive: {member.name!r} is cut short")

    def _special(self, member: tarfile.TarInfo, target: str) -> bool:
        kinds = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}
        if (kind := kinds.get(member.type)) is None:
            return False
        try:
            os.mknod(target, kind | 0o600, os.makedev(member.devmajor, member.devminor))
        except PermissionError:
            return False  # device nodes are root's
        return True

    def _member_attributes(self, target: str, member: tarfile.TarInfo) -> None:
        owner = self._owner if self._chown else (member.uid, member.gid)
        time = int(member.mtime * 10**9)
        self._set(target, owner, None if member.issym() else member.mode & 0o7777, time)

    def _entry(self, source: str, target: str, status: os.stat_result) -> None:
        self._make_room(target)
        if stat.S_ISREG(status.st_mode):
            self._copier.content(source, target, status)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(source), target)
        else:
            raise CopyError(f"{os.path.basename(source)!r} is neither a file nor a directory nor a link")
        self._attributes(target, status)
        self.files += 1

    def _attributes(self, target: str, status: os.stat_result) -> None:
        mode = stat.S_IMODE(status.st_mode) if self._chmod is None else self._chmod
        self._set(target, self._owner, None if stat.S_ISLNK(status.st_mode) else mode, status.st_mtime_ns)

    def _set(self, target: str, owner: tuple[int, int], mode: int | None, mtime_ns: int) -> None:
        if self._root:
            os.chown(target, *owner, follow_symlinks=False)
        if mode is not None:
            os.chmod(target, mode)  # after chown, which clears set-uid
        os.utime(target, ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def _make_directory(self, inside: str) -> str:
        """The real path of a directory, made with mode 755 where it is missing."""
        path = resolve(self._rootfs, inside)
        missing = []
        while not os.path.lexists(path):
            missing.append(os.path.basename(path))
            path = os.path.dirname(path)
        if not os.path.isdir(path):
            self._refuse_other(path)
        for name in reversed(missing):
            path = os.path.join(path, name)
            os.mkdir(path)
            os.chmod(path, 0o755)
            if self._root:
                os.chown(path, *self._owner)
        return path

    def _make_room(self, target: str) -> None:
        """Nothing is at the target afterwards; a directory is never replaced."""
        try:
            os.unlink(target)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            if not os.path.isdir(target):
                raise
            raise CopyError(f"{self._inside(target)!r} is a directory and cannot become a file") from None

    def _refuse_other(self, target: str) -> None:
        if os.path.lexists(target):
            raise CopyError(f"{self._inside(target)!r} is not a directory")

    def _inside(self, path: str) -> str:
        return os.path.normpath("/" + os.path.relpath(path, self._rootfs))
