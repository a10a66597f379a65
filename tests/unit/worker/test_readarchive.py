"""Archives of images: what is understood, what is refused with a line, and that nothing else ever happens."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jocker_engine.platform.worker.applylayer import apply_layer
from jocker_engine.platform.worker.readarchive import read_archive
from jocker_engine.platform.worker.recipe import replay
from jocker_engine.platform.worker.untar import ArchiveError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Layout:
    """An OCI layout being written."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def blob(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        self.blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}

    def json(self, document: Any, media_type: str, **more: Any) -> dict[str, Any]:
        return self.blob(json.dumps(document).encode(), media_type, **more)

    def image(self, said: str, *layers: bytes, **more: Any) -> dict[str, Any]:
        config = {"architecture": "amd64", "os": "linux", "author": said}
        return self.json(
            {
                "schemaVersion": 2,
                "config": self.json(config, CONFIG),
                "layers": [self.blob(layer, LAYER) for layer in layers],
            },
            MANIFEST,
            **more,
        )

    def tar(self, *manifests: Any, **files: bytes) -> bytes:
        index = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
        blobs = [(f"blobs/sha256/{name[7:]}", data) for name, data in self.blobs.items()]
        return tar(*(entry(*each) for each in [("index.json", index), *blobs, *files.items()]))


def read(tmp_path: Path, data: bytes) -> list[dict[str, Any]]:
    path, scratch = tmp_path / "archive", tmp_path / "scratch"
    path.write_bytes(data)
    scratch.unlink(missing_ok=True)
    images: list[dict[str, Any]] = read_archive(str(path), str(scratch), "amd64", "linux")["images"]
    return images


def said(image: dict[str, Any]) -> str:
    return str(json.loads(image["config"])["author"])


def platform(architecture: str) -> dict[str, Any]:
    return {"platform": {"os": "linux", "architecture": architecture}}


def named(name: str) -> dict[str, Any]:
    return {"annotations": {"org.opencontainers.image.ref.name": name}}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda data: zstandard.compress(data)])
def test_a_layout_plain_and_compressed(tmp_path: Path, pack: Any) -> None:
    layout = Layout()
    image = layout.image("one", tar(entry("f", b"x")), **named("one:1"))
    (found,) = read(tmp_path, pack(layout.tar(image)))
    assert (said(found), found["names"], len(found["layers"])) == ("one", ["one:1"], 1)


def test_of_several_platforms_this_machines(tmp_path: Path) -> None:
    layout = Layout()
    arm = layout.image("arm", **platform("arm64"))
    amd = layout.image("amd", **platform("amd64"))
    proof = layout.image("proof", annotations={"vnd.docker.reference.type": "attestation-manifest"},
                         **platform("unknown"))  # fmt: skip
    inner = layout.json({"schemaVersion": 2, "manifests": [arm, amd, proof]}, INDEX, **named("multi:1"))
    (found,) = read(tmp_path, layout.tar(inner))
    assert (said(found), found["names"]) == ("amd", ["multi:1"])
    (found,) = read(tmp_path, layout.tar(arm, amd, proof))
    assert said(found) == "amd"
    outer = layout.json({"schemaVersion": 2, "manifests": [arm]}, INDEX)
    with pytest.raises(ArchiveError, match=r"no image for linux/amd64.* there is: linux/arm64"):
        read(tmp_path, layout.tar(outer))
    # One that has only this is taken as it is.
    assert said(read(tmp_path, layout.tar(arm))[0]) == "arm"


def test_two_images_and_two_names_of_one(tmp_path: Path) -> None:
    layout = Layout()
    one, two = layout.image("one", **named("a:1")), layout.image("two", **named("b:1"))
    found = read(tmp_path, layout.tar(one, two, {**one, **named("a:2")}))
    assert [(said(image), image["names"]) for image in found] == [("one", ["a:1", "a:2"]), ("two", ["b:1"])]


def refusals() -> dict[str, bytes]:
    layout = Layout()
    good = layout.image("one", tar(entry("f", b"x")))
    config = layout.json({}, CONFIG)
    cases = {
        "no image in this archive": layout.tar(),
        "blob sha256:0+ is missing": layout.tar({**good, "digest": "sha256:" + "0" * 64}),
        "should have 1 bytes": layout.tar({**good, "size": 1}),
        "no sha256 digest": layout.tar({**good, "digest": "sha256:../../etc/passwd"}),
        "media type 'text/plain'": layout.tar({**good, "mediaType": "text/plain"}),
        "is not what it should be": layout.tar({**good, "annotations": 5}),
        "artifact of type": layout.tar(
            layout.json({"config": layout.json({}, "application/x"), "layers": []}, MANIFEST)
        ),
        "'application/zip', which is not supported": layout.tar(
            layout.json({"config": config, "layers": [layout.blob(b"x", "application/zip")]}, MANIFEST)
        ),
        "an object is missing": layout.tar("text"),
        "before Docker 1.10": tar(entry("repositories", b"{}")),
        "jocker import": tar(entry("etc/passwd", b"")),
    }
    deep = good
    for _ in range(9):
        deep = layout.json({"manifests": [deep]}, INDEX)
    cases["an index without an image"] = layout.tar(deep)
    spoilt = Layout()
    image = spoilt.image("one")
    spoilt.blobs[image["digest"]] = spoilt.blobs[image["digest"]].replace(b"2", b"3", 1)
    cases["the digest of a blob"] = spoilt.tar(image)
    return cases


@pytest.mark.parametrize("why", refusals())
def test_what_is_refused(tmp_path: Path, why: str) -> None:
    with pytest.raises(ArchiveError, match=why) as error:
        read(tmp_path, refusals()[why])
    assert "\n" not in str(error.value)


def test_links_stay_inside(tmp_path: Path) -> None:
    """podman's docker-archives have links to layers; none leads to a file of this host."""
    config = json.dumps({"author": "linked"}).encode()
    listed = json.dumps([{"Config": "c.json", "Layers": ["a/layer.tar"], "RepoTags": ["x:1"]}]).encode()
    head = [entry("manifest.json", listed), entry("c.json", config), entry("b.tar", b"layer")]
    link = {"type": tarfile.SYMTYPE}
    (found,) = read(tmp_path, tar(*head, entry("a/layer.tar", linkname="../b.tar", **link)))
    assert found["layers"][0]["size"] == 5
    for target in ("/etc/passwd", "../../../../etc/passwd", "layer.tar"):
        with pytest.raises(ArchiveError, match="is missing"):
            read(tmp_path, tar(*head, entry("a/layer.tar", linkname=target, **link)))


# --- layers ---


def applied(tmp_path: Path, layer: bytes, target: Path, **said: Any) -> dict[str, Any]:
    path = tmp_path / "layer"
    path.write_bytes(b"before" + layer + b"behind")
    wanted = {"digest": "", "diff_id": "", "offset": 6, "size": len(layer), **said}
    return apply_layer(
        archive=str(path), target=str(target), recipe=str(tmp_path / "recipe"),
        scratch=str(tmp_path / "unpacked"), **wanted,
    )  # fmt: skip


def below(root: Path) -> Path:
    for name in ("kept", "gone", "dir/old", "dir/sub/deep", "opaque/old", "replaced/x", "turned"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("below")
    return root


def test_a_layer_on_what_is_below(tmp_path: Path) -> None:
    root = below(tmp_path / "root")
    layer = tar(
        entry(".wh.gone"),
        entry("dir/new", b"new"),
        entry("dir/.wh.old"),
        entry("dir/.wh.new"),  # of what is below only
        entry("opaque/new", b"1"),
        entry("opaque/.wh..wh..opq"),
        entry(".wh..wh.plnk"),
        entry(".wh.never"),
        entry("replaced", b"a file"),
        entry("turned/into", b"directory"),
    )
    with pytest.raises(ArchiveError, match="not a directory"):
        applied(tmp_path, layer, root)
    root = below(tmp_path / "again")
    (root / "turned").unlink()
    done = applied(tmp_path, layer, root)
    files = {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}
    assert files == {
        "kept": "below", "dir/new": "new", "dir/sub/deep": "below", "opaque/new": "1", "replaced": "a file",
        "turned/into": "directory",
    }  # fmt: skip
    assert b"".join(replay(str(tmp_path / "recipe"), str(root))) == layer
    assert done == {"diff_id": digest(layer), "bytes": len(layer)}


def test_a_recipe_knows_what_was_replaced(tmp_path: Path) -> None:
    """The same name twice, a hard link to the first, a directory in place of a file's directory."""
    root = tmp_path / "root"
    root.mkdir()
    layer = tar(
        entry("twice", b"first"),
        entry("name", type=tarfile.LNKTYPE, linkname="twice"),
        entry("twice", b"other"),
        entry("d/inside", b"lost"),
        entry("d", b"file"),
        entry("link", type=tarfile.SYMTYPE, linkname="e"),
        entry("e/", type=tarfile.DIRTYPE),
        entry("link/through", b"resolved"),
        entry("empty"),
    )
    applied(tmp_path, layer, root)
    assert (root / "name").read_text() == "first" and (root / "e/through").read_text() == "resolved"
    assert b"".join(replay(str(tmp_path / "recipe"), str(root))) == layer


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: zstandard.compress(data)])
def test_digests_are_verified(tmp_path: Path, pack: Any) -> None:
    root = tmp_path / "root"
    root.mkdir()
    layer = tar(entry("f", b"x"))
    packed = pack(layer)
    assert applied(tmp_path, packed, root, digest=digest(packed), diff_id=digest(layer))["bytes"] == len(
        layer
    )
    for wrong in ({"digest": digest(b"")}, {"diff_id": digest(b"")}):
        with pytest.raises(ArchiveError, match="should be"):
            applied(tmp_path, packed, root, **wrong)
    with pytest.raises(ArchiveError):
        applied(tmp_path, packed[:-9], root)
    assert sorted(os.listdir(tmp_path)) == ["layer", "recipe", "root"]


def attacks() -> list[bytes]:
    link = {"type": tarfile.SYMTYPE, "linkname": "/"}
    negative = bytearray(tar(entry("f", b"x")))
    negative[124:136] = b"\xff" * 11 + b"\x00"
    header = bytes(negative[:148]) + b" " * 8 + bytes(negative[156:512])
    negative[148:156] = b"%06o\0 " % sum(header)
    huge = bytearray(tar(entry("f", b"x")))
    huge[124:136] = b"77777777777\0"
    header = bytes(huge[:148]) + b" " * 8 + bytes(huge[156:512])
    huge[148:156] = b"%06o\0 " % sum(header)
    return [
        tar(entry("../../escaped", b"x")),
        tar(entry("/../escaped", b"x")),
        tar(entry("link", **link), entry("link/escaped", b"x")),
        tar(entry("link", **link), entry("link/.wh.victim")),
        tar(entry("link", type=tarfile.SYMTYPE, linkname=".."), entry("link/.wh.victim")),
        tar(entry("..", type=tarfile.SYMTYPE, linkname="x")),
        tar(entry(".wh...")),
        tar(entry(".wh..")),
        tar(entry("h", type=tarfile.LNKTYPE, linkname="../../victim")),
        bytes(negative),
        bytes(huge),
        tar(entry("f", b"x"))[:700],
        b"\0" * 5000,
        b"",
    ]


@pytest.mark.parametrize("number", range(len(attacks())))
def test_a_harmful_layer_stays_inside(tmp_path: Path, number: int) -> None:
    root = tmp_path / "above" / "root"
    root.mkdir(parents=True)
    (tmp_path / "victim").write_text("here")
    (tmp_path / "above" / "victim").write_text("here")
    try:
        applied(tmp_path, attacks()[number], root)
    except ArchiveError as error:
        assert "\n" not in str(error)
    assert (tmp_path / "victim").read_text() == (tmp_path / "above" / "victim").read_text() == "here"
    assert sorted(os.listdir(tmp_path / "above")) == ["root", "victim"]
    assert not set(os.listdir(tmp_path)) - {"above", "victim", "layer", "recipe"}
    assert not os.path.exists("/escaped")


def whole() -> bytes:
    layout = Layout()
    layer = tar(
        entry("d/", type=tarfile.DIRTYPE), entry("d/f", b"x" * 600), entry("d/é" * 60, b"long"),
        entry("h", type=tarfile.LNKTYPE, linkname="d/f"), entry("l", type=tarfile.SYMTYPE, linkname="d"),
        entry(".wh.x"), entry("d/.wh..wh..opq"),
    )  # fmt: skip
    return layout.tar(layout.image("one", layer, **named("one:1")))


WHOLE = whole()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.sampled_from(["archive", "layer", "packed"]))
def test_damage_is_a_line(tmp_path: Path, seed: int, where: str) -> None:
    """Bytes changed, cut and repeated at random: understood or refused, and nothing is left beside."""
    dice = random.Random(seed)
    (found,) = read(tmp_path, WHOLE)
    place = found["layers"][0]
    data = bytearray(WHOLE)
    if where != "archive":
        data = data[place["offset"] : place["offset"] + place["size"]]
    if where == "packed":
        data = bytearray(gzip.compress(bytes(data), mtime=0))
    for _ in range(dice.choice((1, 1, 2, 30))):
        start = dice.randrange(len(data))
        match dice.randrange(4):
            case 0:
                data[start] ^= 1 << dice.randrange(8)
            case 1:
                data[start : start + dice.randrange(600)] = b""
            case 2:
                data[start:start] = data[dice.randrange(len(data)) :][: dice.randrange(600)]
            case _:
                data[start : start + 12] = dice.choice((b"\xff" * 12, b"7" * 12, b"\0" * 12, b"../../../../"))
        if not data:
            data = bytearray(b"\0")
    root = tmp_path / f"root{seed}"
    root.mkdir(exist_ok=True)
    try:
        if where == "archive":
            read(tmp_path, bytes(data))
        else:
            applied(tmp_path, bytes(data), root)
    except ArchiveError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
    except OSError as error:
        assert error.errno is not None  # a name that is too long, a size that no file can have
    left = {name for name in os.listdir(tmp_path) if not name.startswith("root")}
    assert left <= {"archive", "layer", "recipe", "scratch"}
