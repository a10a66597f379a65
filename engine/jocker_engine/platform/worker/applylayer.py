"""Worker operation: a layer's tar onto a tree, as the OCI image specification has it (layer.md). Blocking.

The tree is mounted on top of its parent, so that a whiteout is a plain deletion and the storage driver makes of it
what it has for that. Whiteouts concern what is below only, wherever they stand in the archive.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import IO, NamedTuple, cast

from ..rootfs import resolve
from .compression import CHUNK, Part, decompressed, unpack
from .copytree import remove_tree
from .layertar import OPAQUE, WHITEOUT
from .recipe import Cook
from .untar import ArchiveError, Extraction, Header, clean, is_directory, understood

NO_TAR = "this is not a tar archive (plain, or compressed with gzip, bzip2, xz or zstd)"


class _Content(NamedTuple):
    """A file's content: where it is in the tar, and what it has become."""

    offset: int
    size: int
    path: str
    inode: int


def apply_layer(
    archive: str, offset: int, size: int, digest: str, diff_id: str, target: str, recipe: str, scratch: str
) -> dict[str, int | str]:
    """Unpack the layer that is this part of a file, plain or compressed, and write its recipe.

    `digest` is that of the part, `diff_id` that of the tar; "" where nobody says. `target` is "" to check only.
    `scratch` is a file that may be made and is gone afterwards. Returns {"diff_id", "bytes" of the tar}.
    Raises ArchiveError, OSError.
    """
    with open(archive, "rb") as file:
        part = Part(file, offset, size)
        packed = decompressed(cast("IO[bytes]", part))
        if packed is None:
            return _apply(part, digest, diff_id, target, recipe)
        if digest and (found := _digest(part)) != digest:
            raise ArchiveError(f"damaged archive: a layer's digest should be {digest} and is {found}")
        try:
            found = unpack(packed, scratch, f"the layer {(digest or diff_id)[:19]}")
            with open(scratch, "rb") as plain:
                tar = Part(plain, 0, os.path.getsize(scratch))
                return _apply(tar, "", diff_id, target, recipe, found)
        finally:
            if os.path.exists(scratch):
                os.unlink(scratch)


def _digest(part: Part) -> str:
    part = part.again()
    total, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    while count := part.readinto(buffer):
        total.update(buffer[:count])
    return f"sha256:{total.hexdigest()}"


def _apply(
    tar: Part, digest: str, diff_id: str, target: str, recipe: str, known: str = ""
) -> dict[str, int | str]:
    """A digest that is not known is found by a thread while the tar is unpacked; the tree of one that is damaged is the
    caller's to drop.
    """
    with ThreadPoolExecutor(1) as threads:
        digesting = None if known else threads.submit(_digest, tar)
        failure = None
        try:
            if target:
                _unpack(tar, diff_id, target, recipe)
        except ArchiveError as error:
            failure = error
        found = digesting.result() if digesting else known
    for wanted in (digest, diff_id):
        if wanted and found != wanted:
            raise ArchiveError(f"damaged archive: the digest of a layer should be {wanted} and is {found}")
    if failure is not None:
        raise failure
    return {"diff_id": found, "bytes": tar.size}


def _unpack(tar: Part, diff_id: str, target: str, recipe: str) -> None:
    layer = _Layer(os.path.realpath(target), tar)
    try:
        opened = tarfile.open(fileobj=cast("IO[bytes]", tar), mode="r:", tarinfo=Header)  # noqa: SIM115
    except tarfile.ReadError as error:
        what = f"the layer {diff_id[:19]} is not a tar archive" if diff_id else NO_TAR
        raise ArchiveError(f"{what}: {error}") from None
    with opened as archive:
        layer.apply(archive)
    layer.write_recipe(recipe)


class _Layer(Extraction):
    """One layer's way onto one tree."""

    def __init__(self, root: str, tar: Part) -> None:
        super().__init__(root)
        self._tar = tar
        self._own: set[str] = set()
        """Paths that are this layer's, and the directories on the way to them."""
        self._contents: dict[str, _Content] = {}

    def apply(self, archive: tarfile.TarFile) -> None:
        """All of it. Raises ArchiveError, OSError."""
        with understood("damaged layer"):
            self._run(archive)

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = clean(member.name)
        above, _, last = name.rpartition("/")
        if last.startswith(WHITEOUT):
            self._whiteout(above, last)
            return
        super()._member(archive, member)
        if name:
            path = self._real(name)
            while path not in self._own and path != self._root:
                self._own.add(path)
                path = os.path.dirname(path)

    def _whiteout(self, above: str, last: str) -> None:
        try:
            directory = resolve(self._root, above)
            if last == OPAQUE:
                for name in os.listdir(directory):
                    self._remove(os.path.join(directory, name))
            elif not last.startswith(WHITEOUT * 2):  # of AUFS itself
                name = last.removeprefix(WHITEOUT)
                if name in ("", ".", ".."):
                    raise ArchiveError(f"damaged layer: a whiteout of {name!r}")
                self._remove(os.path.join(directory, name))
        except (FileNotFoundError, NotADirectoryError):
            return  # there is nothing to be hidden
        self._parents.clear()

    def _remove(self, path: str) -> None:
        """All of it that is not this layer's."""
        if path in self._own:
            if is_directory(path):
                for name in os.listdir(path):
                    self._remove(os.path.join(path, name))
        elif is_directory(path):
            remove_tree(path)
        else:
            os.unlink(path)

    def _make_room(self, path: str, member: tarfile.TarInfo) -> None:
        """Anything may be replaced by anything."""
        self._contents.pop(path, None)
        if is_directory(path):
            remove_tree(path)
            self._parents.clear()
            inside = path + "/"
            for gone in [name for name in self._contents if name.startswith(inside)]:
                del self._contents[gone]
            self._directories = [
                item for item in self._directories if item[0] != path and not item[0].startswith(inside)
            ]
        else:
            super()._make_room(path, member)

    def _content(self, content: IO[bytes] | None, path: str, member: tarfile.TarInfo) -> None:
        super()._content(content, path, member)
        if not member.issparse():
            inode = os.lstat(path).st_ino
            self._contents[path] = _Content(member.offset_data, member.size, path, inode)

    def _fill(self, file: IO[bytes], content: IO[bytes], member: tarfile.TarInfo) -> None:
        if member.issparse() or sys.platform != "linux":
            super()._fill(file, content, member)
            return
        at, left = self._tar.offset + member.offset_data, member.size
        while left:  # sendfile(2): the kernel copies, from page to page
            count = os.sendfile(file.fileno(), self._tar.fileno(), at, left)
            if not count:
                raise ArchiveError(f"damaged archive: {member.name!r} is cut short")
            at, left = at + count, left - count

    def write_recipe(self, recipe: str) -> None:
        """What is no longer where it was unpacked to is kept as raw bytes."""
        tar = self._tar
        cook = Cook(recipe)
        at = 0
        for content in sorted(self._contents.values()):
            try:
                status = os.lstat(content.path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not content.size or status.st_ino != content.inode or status.st_size != content.size:
                continue
            _keep(tar, at, content.offset, cook)
            cook.keep_content(os.path.relpath(content.path, self._root), content.size)
            at = content.offset + content.size
        _keep(tar, at, tar.size, cook)
        cook.close(sync=True)


def _keep(tar: Part, start: int, end: int, cook: Cook) -> None:
    tar.seek(start)
    while start < end:
        data = tar.read(min(end - start, CHUNK))
        if not data:
            raise ArchiveError("damaged layer: it is cut short")
        cook.keep(data)
        start += len(data)
