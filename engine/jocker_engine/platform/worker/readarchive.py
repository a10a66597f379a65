"""Worker operation: what images an archive holds, and where in it their parts are. Blocking.

Understood are OCI image layouts (image-layout.md, image-index.md, manifest.md), what `docker save` and its likes
write (manifest.json), and the directories of skopeo's `dir:` transport, all as a tar, plain or compressed.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import tarfile
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

from .compression import Part, decompressed, unpack
from .untar import ArchiveError, Header, understood

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_LAYERS = re.compile(
    r"application/vnd\.(oci\.image\.layer(\.nondistributable)?\.v1\.tar(\+gzip|\+zstd)?"
    r"|docker\.image\.rootfs\.(foreign\.)?diff\.tar(\.gzip|\.zstd)?)"
)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_FILE_OF_CONFIG = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?")
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")

_MAX_ENTRIES = 100_000
_MAX_JSON = 8 << 20
_MAX_DEPTH = 4
_MAX_LAYERS = 1000

Document = dict[str, Any]


class _Place(NamedTuple):
    offset: int
    size: int


def read_archive(path: str, scratch: str, architecture: str, os_name: str) -> Document:
    """{"file": the tar itself, "images": [...]}; of a compressed archive the tar is `scratch`, the caller's to remove.

    An image is {"config": its JSON text, "names": [...], "layers": [{"offset", "size", "digest" or ""}]}. Of an index
    with several platforms the one of this machine is taken. Raises ArchiveError, OSError.
    """
    with open(path, "rb") as file:
        packed = decompressed(file)
        if packed is not None:
            unpack(packed, scratch, "the archive")
            path = scratch
    with open(path, "rb") as file:
        images = _Archive(file, (os_name, architecture)).images()
    if not images:
        raise ArchiveError("there is no image in this archive")
    return {"file": path, "images": images}


class _Archive:
    def __init__(self, file: IO[bytes], machine: tuple[str, str]) -> None:
        self._file = file
        self._machine = machine
        self._places: dict[str, _Place] = {}
        self._links: dict[str, str] = {}
        try:
            opened = tarfile.open(fileobj=file, mode="r:", tarinfo=Header)  # noqa: SIM115
        except tarfile.TarError:
            raise ArchiveError(
                "this is no image archive: not a tar (plain, or compressed with gzip, bzip2, xz or zstd)"
            ) from None
        end = os.fstat(file.fileno()).st_size
        with opened as archive, understood("damaged archive"):
            for number, member in enumerate(archive):
                if number == _MAX_ENTRIES:
                    raise ArchiveError(f"this is no image archive: it has more than {_MAX_ENTRIES} entries")
                name = posixpath.normpath(member.name)
                if member.isreg() and not member.issparse():
                    if member.offset_data + member.size > end:
                        raise ArchiveError(f"damaged archive: {name[:100]} is cut short")
                    self._places[name] = _Place(member.offset_data, member.size)
                elif member.issym():
                    self._links[name] = posixpath.normpath(
                        posixpath.join(posixpath.dirname(name), member.linkname)
                    )
                elif member.islnk():
                    self._links[name] = posixpath.normpath(member.linkname)

    def images(self) -> list[Document]:
        """See read_archive."""
        listed = (
            self._json("manifest.json", self._find("manifest.json")) if self._has("manifest.json") else None
        )
        if self._has("index.json"):
            return self._oci(listed if isinstance(listed, list) else [])
        if isinstance(listed, list):
            return [self._docker(each) for each in listed]
        if isinstance(listed, dict):  # a directory of skopeo's `dir:`
            return [self._manifest(listed, [])]
        what = (
            "one of the time before Docker 1.10" if self._has("repositories") else "nothing of an image in it"
        )
        raise ArchiveError(
            f"this is no image archive (index.json or manifest.json is missing; there is {what}); "
            "a root file system goes in with `jocker import`"
        )

    # --- what is in the tar ---

    def _has(self, name: str) -> bool:
        return name in self._places or name in self._links

    def _find(self, name: str) -> _Place:
        given = name
        name = posixpath.normpath(name)
        for _ in range(10):
            if name in self._places:
                return self._places[name]
            if name not in self._links:
                break
            name = self._links[name]
        raise ArchiveError(f"damaged archive: {given[:100]} is missing")

    def _read(self, what: str, place: _Place) -> bytes:
        if place.size > _MAX_JSON:
            raise ArchiveError(f"damaged archive: {what} has {place.size} bytes")
        data = Part(self._file, *place).read()
        if len(data) != place.size:
            raise ArchiveError(f"damaged archive: {what} is cut short")
        return data

    def _json(self, what: str, place: _Place) -> Any:
        return _parse(what, self._read(what, place))

    def _blob(self, descriptor: Any) -> tuple[str, _Place]:
        digest, size = _field(descriptor, "digest", str, ""), _field(descriptor, "size", int, -1)
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise ArchiveError(f"damaged archive: {digest[:100]!r} is no sha256 digest")
        name = next((name for name in (f"blobs/sha256/{match[1]}", match[1]) if self._has(name)), None)
        if name is None:
            raise ArchiveError(f"damaged archive: the blob {digest} is missing")
        place = self._find(name)
        if size not in (-1, place.size):
            raise ArchiveError(
                f"damaged archive: the blob {digest} should have {size} bytes and has {place.size}"
            )
        return digest, place

    def _document(self, descriptor: Any) -> bytes:
        """A blob that is JSON, verified."""
        digest, place = self._blob(descriptor)
        data = self._read(f"the blob {digest}", place)
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if found != digest:
            raise ArchiveError(f"damaged archive: the digest of a blob should be {digest} and is {found}")
        return data

    # --- OCI ---

    def _oci(self, listed: list[Any]) -> list[Document]:
        index = self._json("index.json", self._find("index.json"))
        found: dict[str, Document] = {}
        for descriptor in self._of_this_machine(index, 0):
            image = self._image(descriptor, 0)
            config = f"sha256:{hashlib.sha256(image['config'].encode()).hexdigest()}"
            for each in listed:  # what `docker save` writes has both, and the names only here
                if _FILE_OF_CONFIG.fullmatch(_field(each, "Config", str, "")) and config.endswith(
                    _field(each, "Config", str, "").removesuffix(".json").rpartition("/")[2]
                ):
                    image["names"] = _texts(each, "RepoTags") or image["names"]
            first = found.setdefault(config, image)
            first["names"] = list(dict.fromkeys([*first["names"], *image["names"]]))
        return list(found.values())

    def _of_this_machine(self, index: Any, depth: int) -> list[Any]:
        """The images of an index; of several under one name those of this platform."""
        groups: dict[str, list[Any]] = {}
        for descriptor in _field(index, "manifests", list, []):
            annotations = _field(descriptor, "annotations", dict, {})
            if annotations.get("vnd.docker.reference.type") or _platform(descriptor) == (
                "unknown",
                "unknown",
            ):
                continue  # about an image, not one
            groups.setdefault(_name(annotations) if depth == 0 else "", []).append(descriptor)
        chosen = []
        for group in groups.values():
            platforms = [_platform(descriptor) for descriptor in group]
            if (len(group) == 1 and depth == 0) or not all(platforms):
                chosen += group
                continue
            fitting = [
                each for each, platform in zip(group, platforms, strict=True) if platform == self._machine
            ]
            if not fitting:
                there = ", ".join(sorted({"/".join(platform) for platform in platforms if platform}))
                raise ArchiveError(
                    f"there is no image for {'/'.join(self._machine)} in this archive; there is: {there}"
                )
            chosen += fitting if depth == 0 else fitting[:1]
        return chosen

    def _image(self, descriptor: Any, depth: int) -> Document:
        """The image behind a descriptor in an index."""
        document = _parse("a manifest", self._document(descriptor))
        kind = _field(descriptor, "mediaType", str, "") or _field(document, "mediaType", str, "")
        annotations = _field(descriptor, "annotations", dict, {})
        if kind in _INDEXES or (not kind and "manifests" in document):
            inside = self._of_this_machine(document, depth + 1)
            if depth == _MAX_DEPTH or not inside:
                raise ArchiveError("damaged archive: an index without an image")
            image = self._image(inside[0], depth + 1)
            image["names"] = _names(annotations) or image["names"]
            return image
        if kind in _MANIFESTS or (not kind and "config" in document):
            return self._manifest(document, _names(annotations))
        raise ArchiveError(f"the archive has something of media type {kind[:100]!r}, which is no image")

    def _manifest(self, manifest: Any, names: list[str]) -> Document:
        config = _field(manifest, "config", dict, {})
        kind = _field(config, "mediaType", str, "")
        if kind not in _CONFIGS:
            raise ArchiveError(f"the archive has an artifact of type {kind[:100]!r}, which is no image")
        layers = _field(manifest, "layers", list, [])
        if len(layers) > _MAX_LAYERS:
            raise ArchiveError(f"damaged archive: an image with {len(layers)} layers")
        places = []
        for layer in layers:
            kind = _field(layer, "mediaType", str, "")
            if not _LAYERS.fullmatch(kind):
                raise ArchiveError(f"a layer is of media type {kind[:100]!r}, which is not supported")
            digest, place = self._blob(layer)
            places.append({"offset": place.offset, "size": place.size, "digest": digest})
        return {"config": _utf8(self._document(config)), "names": names, "layers": places}

    # --- docker save ---

    def _docker(self, listed: Any) -> Document:
        name = _field(listed, "Config", str, "")
        config = self._read(name[:100], self._find(name))
        match = _FILE_OF_CONFIG.fullmatch(name)
        if match is not None and hashlib.sha256(config).hexdigest() != match[1]:
            raise ArchiveError(f"damaged archive: {name} has another digest than its name says")
        places = []
        for layer in _texts(listed, "Layers"):
            place = self._find(layer)
            match = re.fullmatch(r"blobs/sha256/([0-9a-f]{64})", layer)
            digest = f"sha256:{match[1]}" if match else ""
            places.append({"offset": place.offset, "size": place.size, "digest": digest})
        return {"config": _utf8(config), "names": _texts(listed, "RepoTags"), "layers": places}


def _parse(what: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"damaged archive: {what} is not JSON: {error}") from None


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError(f"damaged archive: an image's configuration is not JSON: {error}") from None


def _field(document: Any, key: str, kind: type, default: Any) -> Any:
    if not isinstance(document, dict):
        raise ArchiveError("damaged archive: an object is missing in its JSON")
    value = document.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise ArchiveError(f"damaged archive: {key} is not what it should be")
    return value


def _texts(document: Any, key: str) -> list[str]:
    value: list[Any] = _field(document, key, list, [])
    if not all(isinstance(item, str) for item in value):
        raise ArchiveError(f"damaged archive: {key} has an item that is no text")
    return value


def _names(annotations: Mapping[str, Any]) -> list[str]:
    return [name] if (name := _name(annotations)) else []


def _name(annotations: Mapping[str, Any]) -> str:
    return next((str(annotations[key]) for key in _NAMES if annotations.get(key)), "")


def _platform(descriptor: Any) -> tuple[str, str] | None:
    platform = _field(descriptor, "platform", dict, None)
    return None if platform is None else (str(platform.get("os")), str(platform.get("architecture")))
