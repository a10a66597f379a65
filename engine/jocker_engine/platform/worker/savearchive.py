"""Worker operations: images, or one tree, as a tar, to a client's socket. Blocking.

The same images give the same archive: names sorted, times zero. The client's connection was handed to this process,
so the engine is out of the way of the data; the last frame is the engine's.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jocker_protocol import wire

from .compression import CHUNK, Compressor
from .layertar import find_all, write_tar
from .recipe import RecipeError, Tar, replay
from .tarwriter import DIRECTORY, END, padding, plain

_LAYER_TYPES = {
    "none": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

Document = dict[str, Any]


class _Frames:
    """STDOUT frames on a socket. BrokenPipeError when the client is gone."""

    def __init__(self, client: socket.socket, framing: str) -> None:
        self._client, self._encode = client, wire.ENCODERS[framing]
        self._framing = framing
        self._buffer = bytearray()

    def write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= wire.MAX_FRAME:
            self.flush()

    def flush(self) -> None:
        view = memoryview(bytes(self._buffer))
        self._buffer = bytearray()
        for start in range(0, len(view), wire.MAX_FRAME):
            piece = view[start : start + wire.MAX_FRAME]
            if self._framing == "frames":  # without one more copy
                self._client.sendall(wire.HEADER.pack(wire.STDOUT, len(piece)))
                self._client.sendall(piece)
            else:
                self._client.sendall(self._encode(wire.STDOUT, bytes(piece)))


@contextmanager
def _frames(fd: int, framing: str) -> Iterator[Callable[[bytes], object]]:
    with socket.socket(fileno=fd) as client:
        client.setblocking(True)
        frames = _Frames(client, framing)
        yield frames.write
        frames.flush()


def save_tree(content: Document, fd: int, framing: str) -> Document:
    """All that a tree shows, as one tar. `content` is interfaces.Content."""
    with _frames(fd, framing) as output:
        tar = Tar(output)
        write_tar(find_all(**content), tar)
    return {"bytes": tar.bytes}


def save_archive(
    images: list[Document],
    roots: dict[str, str],
    form: str,
    compress: str,
    scratch: str,
    fd: int,
    framing: str,
) -> Document:
    """Write images, each {"config", "tags", "layers": [{"layer", "diff_id", "size", "recipe"}]}; layers lie at `roots`.

    `form` is oci-archive or docker-archive; `scratch` a directory that may be filled and is the caller's to remove.
    Raises RecipeError, OSError (EPIPE: the client is gone).
    """
    with _frames(fd, framing) as output:
        archive = _Archive(output, roots, compress, scratch)
        if form == "oci-archive":
            archive.oci(images)
        else:
            archive.docker(images)
        archive.close()
    return {"bytes": archive.bytes}


class _Archive:
    def __init__(
        self, output: Callable[[bytes], object], roots: dict[str, str], compress: str, scratch: str
    ) -> None:
        self.bytes = 0
        self._roots = roots
        self._output = output
        self._compress = compress
        self._scratch = scratch
        self._packed: dict[str, Document] = {}
        """Layers that were compressed: diff_id -> descriptor."""

    def _put(self, data: bytes) -> None:
        self.bytes += len(data)
        self._output(data)

    def _file(self, name: str, data: bytes) -> None:
        self._put(plain(name.encode(), size=len(data)) + data + padding(len(data)))

    def close(self) -> None:
        self._put(END)

    def oci(self, images: list[Document]) -> None:
        """An image layout that has Docker's manifest.json too."""
        for name in (b"blobs/", b"blobs/sha256/"):
            self._put(plain(name, DIRECTORY, mode=0o755))
        written: set[str] = set()
        index, listed = [], []
        for image in images:
            layers = [self._layer_blob(layer, written) for layer in image["layers"]]
            config = self._blob(image["config"].encode(), written)
            manifest = {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
                "layers": layers,
            }
            described = self._blob(_json(manifest), written)
            platform = json.loads(image["config"])
            base = {
                "mediaType": _MANIFEST,
                **described,
                "platform": {"architecture": platform.get("architecture", ""), "os": platform.get("os", "")},
            }
            index += [{**base, "annotations": _annotations(tag)} for tag in image["tags"]] or [base]
            listed.append(
                {
                    "Config": f"blobs/sha256/{config['digest'][7:]}",
                    "RepoTags": image["tags"] or None,
                    "Layers": [f"blobs/sha256/{layer['digest'][7:]}" for layer in layers],
                }
            )
        kind = "application/vnd.oci.image.index.v1+json"
        self._file("index.json", _json({"schemaVersion": 2, "mediaType": kind, "manifests": index}))
        self._file("manifest.json", _json(listed))
        self._file("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))

    def docker(self, images: list[Document]) -> None:
        """What `docker save` wrote before version 25."""
        written: set[str] = set()
        listed = []
        for image in images:
            names = []
            for layer in image["layers"]:
                names.append(f"{layer['diff_id'][7:]}.tar")
                if names[-1] not in written:
                    written.add(names[-1])
                    self._put(plain(names[-1].encode(), size=layer["size"]))
                    self._layer(layer)
            config = image["config"].encode()
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            self._file(name, config)
            listed.append({"Config": name, "RepoTags": image["tags"] or None, "Layers": names})
        self._file("manifest.json", _json(listed))

    def _blob(self, data: bytes, written: set[str]) -> Document:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in written:
            written.add(digest)
            self._file(f"blobs/sha256/{digest}", data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def _layer_blob(self, layer: Document, written: set[str]) -> Document:
        """A layer's descriptor; its blob is written when it is the first time."""
        kind, diff_id = _LAYER_TYPES[self._compress], layer["diff_id"]
        if self._compress == "none":
            if diff_id not in written:
                written.add(diff_id)
                self._put(plain(f"blobs/sha256/{diff_id[7:]}".encode(), size=layer["size"]))
                self._layer(layer)
            return {"mediaType": kind, "digest": diff_id, "size": layer["size"]}
        if diff_id not in self._packed:
            path = os.path.join(self._scratch, diff_id[7:])
            total = hashlib.sha256()
            with open(path, "xb") as file:

                def put(data: bytes) -> None:
                    total.update(data)
                    file.write(data)

                compressor = Compressor(self._compress, put)
                for data in self._verified(layer):
                    compressor.write(data)
                compressor.close()
            size, digest = os.path.getsize(path), total.hexdigest()
            self._put(plain(f"blobs/sha256/{digest}".encode(), size=size))
            with open(path, "rb") as packed:
                while data := packed.read(CHUNK):
                    self._put(data)
            self._put(padding(size))
            os.unlink(path)
            self._packed[diff_id] = {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}
        return self._packed[diff_id]

    def _layer(self, layer: Document) -> None:
        for data in self._verified(layer):
            self._put(data)
        self._put(padding(layer["size"]))

    def _verified(self, layer: Document) -> Iterator[bytes]:
        """The layer's tar. Raises RecipeError at its end when it is not what it was."""
        total, size = hashlib.sha256(), 0
        for data in replay(layer["recipe"], self._roots[layer["layer"]]):
            total.update(data)
            size += len(data)
            yield data
        found = f"sha256:{total.hexdigest()}"
        if (found, size) != (layer["diff_id"], layer["size"]):
            raise RecipeError(
                f"the content of layer {layer['diff_id'][:19]} has changed on the disk: it is {found[:19]} now; "
                "build or load the image anew"
            )


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _annotations(tag: str) -> dict[str, str]:
    """The names by which containerd and Docker, and those who follow the specification, find an image."""
    first, _, rest = tag.partition("/")
    if not rest:
        full = f"docker.io/library/{tag}"
    elif "." in first or ":" in first or first == "localhost":
        full = tag
    else:
        full = f"docker.io/{tag}"
    return {"io.containerd.image.name": full, "org.opencontainers.image.ref.name": tag}
