"""Worker operation: COPY and ADD of the builder, from a build context into a root. Blocking; standard library
only.

Nothing is written outside the root: links in the destination are followed as if the root were "/". Nobody
else may write to the context or the root meanwhile. Source: Docker's Dockerfile reference, COPY and ADD.
"""

from __future__ import annotations

import os
import stat

from ..rootfs import resolve
from .copytree import TreeCopier, copy_xattrs, make_node, walk
from .modes import parse_mode
from .sources import CopyError, Excluded, Source, find_sources
from .untar import ArchiveError, Extraction, is_archive


def copy_in(
    context_dir: str,
    sources: list[str],
    rootfs: str,
    destination: str,
    chown: list[int] | None = None,
    chmod: str = "",
    unpack: bool = False,
    extra: str = "",
    unpack_extra: bool = False,
    link: bool = False,
    parents: bool = False,
    exclude: list[str] | None = None,
    of_image: bool = False,
    where: str = "the build context",
) -> dict[str, int]:
    """Copy sources (patterns relative to the context), and all files of the directory `extra`, to `destination`
    (absolute, inside the root).

    Of a directory the content is copied. A destination that ends in "/", is a directory, or gets several
    sources is a directory. Modes and mtimes are kept, unless `chmod` (octal or symbolic) changes the modes; all
    belongs to `chown` (uid, gid), without to 0:0, or with `of_image` to whom it belongs there. A directory that is there already keeps its owner and mode.
    `unpack` extracts sources that are tar archives, also compressed, known by their content: what they hold keeps
    its mode and, without `chown`, its owner. With `link` nothing in the destination is followed: links on the way
    are replaced by directories. With `parents` sources keep their paths. `of_image` says that the sources are in an
    image, whose owners and hard links mean something; those of a context do not. Without root all belongs to the caller.

    Returns {"files": entries made that are not directories}. Raises CopyError (one line), OSError.
    """
    word = "ADD" if unpack else "COPY"
    try:
        excluded = Excluded(exclude or [])
        found = [(source, unpack) for source in find_sources(context_dir, sources, parents, where)]
        for name in sorted(os.listdir(extra)) if extra else []:
            found.append((Source(name, os.path.join(extra, name), ""), unpack_extra))
        copier = _CopyIn(rootfs, chown, chmod, link, of_image)
        several = len(found) > 1 or destination.endswith(("/", "/.", "/.."))
        for source, unpacks in found:
            if os.path.isdir(source.path):
                copier.directory(source, destination, excluded)
            elif excluded.file(source):
                continue
            elif unpacks and is_archive(source.path):
                copier.archive(source, destination)
            else:
                copier.file(source, destination, several)
        return {"files": copier.files}
    except (CopyError, ArchiveError) as error:
        raise CopyError(f"{word} failed: {error}") from None
    except NotADirectoryError as error:
        inside = os.path.relpath(str(error.filename), os.path.realpath(rootfs))
        raise CopyError(f"{word} failed: '/{inside}' is not a directory") from None


class _CopyIn:
    """Writes into one root; paths named `inside` are absolute within it."""

    def __init__(self, rootfs: str, chown: list[int] | None, chmod: str, link: bool, of_image: bool) -> None:
        self.files = 0
        self._rootfs = os.path.realpath(rootfs)
        self._chown = (chown[0], chown[1]) if chown else None
        self._chmod = parse_mode(chmod) if chmod else None
        self._link = link
        self._of_image = of_image
        self._root = os.geteuid() == 0
        self._copier = TreeCopier()
        self._linked: dict[tuple[int, int], str] = {}

    def directory(self, source: Source, destination: str, excluded: Excluded) -> None:
        """The content of a directory, merged into what is there; with --parents the directory too."""
        top = (
            self._make_parents(destination, source.kept, source.path)
            if source.kept
            else self._make_directory(destination)
        )
        targets = {"": top}
        left_out: dict[str, os.stat_result] = {}
        made: list[tuple[str, str, os.stat_result]] = []

        def enter(path: str, status: os.stat_result) -> str:
            """The target of a directory, and of those left out above it, of which something is kept after all."""
            above, _, name = path.rpartition("/")
            if above not in targets:
                enter(above, left_out[above])
            target = os.path.join(targets[above], name)
            if os.path.islink(target) and not self._link:
                # As /bin -> usr/bin: the link stays, the content goes where it leads.
                target = self._make_directory(self._inside(target))
            elif os.path.islink(target) or not os.path.isdir(target):
                self._clear(target)
                os.mkdir(target)
                made.append((os.path.join(source.path, path), target, status))
            targets[path] = target
            return target

        for path, entry, status in walk(source.path):
            if excluded.below(source, path):
                left_out[path] = status
            elif stat.S_ISDIR(status.st_mode):
                enter(path, status)
            else:
                above = os.path.dirname(path)
                parent = targets[above] if above in targets else enter(above, left_out[above])
                self._entry(entry.path, os.path.join(parent, entry.name), status)
        for origin, target, status in reversed(made):
            self._attributes(origin, target, status)

    def file(self, source: Source, destination: str, several: bool) -> None:
        """A single file; a link at the destination names the file, unless the destination is a directory."""
        if source.kept:
            above, _, name = source.kept.rpartition("/")
            parent = self._make_parents(destination, above, os.path.dirname(source.path))
            self._entry(source.path, os.path.join(parent, name), os.stat(source.path))
            return
        into = several or (not self._link and os.path.isdir(resolve(self._rootfs, destination)))
        if into:
            destination = f"{destination}/{os.path.basename(source.name)}"
        elif not self._link:
            destination = self._inside(resolve(self._rootfs, destination))
        parent = self._make_directory(os.path.dirname(destination))
        self._entry(source.path, os.path.join(parent, os.path.basename(destination)), os.stat(source.path))

    def archive(self, source: Source, destination: str) -> None:
        """What an archive holds, as tar -x would do it with the root as "/"."""
        top = self._inside(self._make_directory(destination))
        extraction = Extraction(self._rootfs, top=top, owner=self._chown)
        extraction.extract(source.path)
        self.files += extraction.files

    def _entry(self, source: str, target: str, status: os.stat_result) -> None:
        self._make_room(target)
        key = (status.st_dev, status.st_ino)
        if key in self._linked:
            os.link(self._linked[key], target, follow_symlinks=False)
            self.files += 1
            return
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            self._copier.content(source, target, status)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(source), target)
        elif kind == stat.S_IFSOCK or not make_node(target, status):
            return  # nobody listens on a copy
        self._attributes(source, target, status)
        if self._of_image and status.st_nlink > 1:
            self._linked[key] = target
        self.files += 1

    def _attributes(self, source: str, target: str, status: os.stat_result) -> None:
        """Owner, xattrs, mode, time: in this order, since chown clears set-uid bits and capabilities."""
        if self._root:
            theirs = (status.st_uid, status.st_gid) if self._of_image else (0, 0)
            os.chown(target, *(self._chown or theirs), follow_symlinks=False)
        copy_xattrs(source, target, status)
        if not stat.S_ISLNK(status.st_mode):
            mode = stat.S_IMODE(status.st_mode)
            os.chmod(target, self._chmod(mode, stat.S_ISDIR(status.st_mode)) if self._chmod else mode)
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns), follow_symlinks=False)

    def _make_directory(self, inside: str) -> str:
        """The real path of a directory, made with mode 755 where it is missing."""
        if self._link:
            return self._make_own(inside)
        path = resolve(self._rootfs, inside)
        missing = []
        while not os.path.lexists(path):
            missing.append(os.path.basename(path))
            path = os.path.dirname(path)
        if not os.path.isdir(path):
            self._refuse_other(path)
        for name in reversed(missing):
            path = os.path.join(path, name)
            self._mkdir(path)
        return path

    def _make_parents(self, destination: str, kept: str, source: str) -> str:
        """The directories that --parents keeps below the destination; those made have the modes of their sources."""
        path, parts = self._make_directory(destination), [part for part in kept.split("/") if part]
        for index, name in enumerate(parts, 1):
            there = os.path.lexists(os.path.join(path, name))
            path = self._make_directory(f"{self._inside(path)}/{name}")
            if not there:
                origin = os.path.normpath(os.path.join(source, *[".."] * (len(parts) - index)))
                self._attributes(origin, path, os.stat(origin))
        return path

    def _make_own(self, inside: str) -> str:
        """The directory of this very name: what is no directory on the way to it is replaced."""
        path = self._rootfs
        for name in os.path.normpath("/" + inside).strip("/").split("/"):
            path = os.path.join(path, name)
            if os.path.islink(path) or not os.path.isdir(path):
                self._clear(path)
                self._mkdir(path)
        return path

    def _mkdir(self, path: str) -> None:
        os.mkdir(path)
        os.chmod(path, 0o755)
        if self._root:
            os.chown(path, *(self._chown or (0, 0)))

    def _clear(self, target: str) -> None:
        """Before a directory is made: with `link` what is there goes, else it is an error."""
        if not os.path.lexists(target):
            return
        if not self._link:
            self._refuse_other(target)
        os.unlink(target)

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
