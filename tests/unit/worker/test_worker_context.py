"""Build contexts from manifests: what is refused, what older contexts give, what a tar may hold."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from jocker_engine.platform.worker.context import ContextRefused, begin_context, finish_context
from jocker_protocol.contexts import Entry, decode, encode, identity, ranges


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def file(path: str, content: str, mode: int = 0o644, time: int = 5_000_000_007) -> Entry:
    return ("f", path, mode, time, len(content), digest(content))


def tar(path: Path, **files: str) -> str:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size, info.mtime, info.mode = len(content), 9, 0o600
            archive.addfile(info, io.BytesIO(content.encode()))
    return str(path)


class Store:
    def __init__(self, path: Path) -> None:
        self.path = path / "store"
        self.path.mkdir()
        self._partial = path / "partial"
        self._tar = path / "tar"

    def begin(self, *entries: Entry) -> list[list[int]]:
        self._partial.mkdir()
        (self._partial / "manifest").write_bytes(encode(entries))
        return begin_context(str(self.path), str(self._partial))["missing"]

    def finish(self, **files: str) -> Path:
        sent = tar(self._tar, **files) if files else ""
        return self.path / finish_context(str(self.path), str(self._partial), sent)["id"] / "tree"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


ENTRIES = (
    ("d", "d", 0o751, 3_000_000_000),
    file("d/x", "content"),
    ("l", "link", "/etc/passwd"),
    file("y", "more"),
)


def test_a_context_is_made_and_then_shared(store: Store) -> None:
    assert store.begin(*ENTRIES) == [[1, 1], [3, 3]]
    tree = store.finish(d__x="content", y="more")
    assert tree.parent.name == identity(encode(ENTRIES))
    status = os.stat(tree / "d" / "x")
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o644, 5_000_000_007)
    assert stat.S_IMODE(os.stat(tree / "d").st_mode) == 0o751
    assert os.stat(tree / "d").st_mtime_ns == 3_000_000_000
    assert os.readlink(tree / "link") == "/etc/passwd"
    other = (file("same", "content"), file("mode", "content", 0o755), file("new", "new"))
    assert store.begin(*other) == [[2, 2]]
    second = store.finish(new="new")
    assert os.path.samefile(second / "same", tree / "d" / "x")
    assert not os.path.samefile(second / "mode", tree / "d" / "x")
    assert (second / "mode").read_text() == "content"
    assert store.begin(*ENTRIES) == []
    assert store.finish() == tree  # it was there already
    assert sorted(os.listdir(store.path)) == sorted({tree.parent.name, second.parent.name})


def test_what_is_received_is_what_counts(store: Store) -> None:
    store.begin(file("changed", "before"), file("deleted", "gone"), file("same", "same"))
    tree = store.finish(changed="after!", same="same")
    manifest = decode((tree.parent / "manifest").read_bytes())
    assert tree.parent.name == identity(encode(manifest))
    assert manifest == [("f", "changed", 0o600, 9 * 10**9, 6, digest("after!")), file("same", "same")]


@pytest.mark.parametrize(
    "entries",
    [
        (("f", "../x", 0, 0, 0, ""),),
        (("f", "/etc/x", 0, 0, 0, ""),),
        (("f", "a/../../x", 0, 0, 0, ""),),
        (("l", "d", "/etc"), ("f", "d/x", 0, 0, 0, "")),
        (("f", "nowhere/x", 0, 0, 0, ""),),
        (("d", "d", 0, 0), ("l", "d", "/etc")),
        (("d", ".", 0, 0),),
        (("c", "dev", 0, 0),),
        (("f", "x", "0", 0, 0, ""),),
        (("f", "x", 0, 0, 1 << 40, ""),),
        ({"x": 1},),
    ],
)
def test_a_manifest_that_means_harm(store: Store, tmp_path: Path, entries: tuple[Entry, ...]) -> None:
    with pytest.raises(ContextRefused):
        store.begin(*entries)
    assert not list(tmp_path.rglob("x"))


def test_a_tar_with_something_else(store: Store, tmp_path: Path) -> None:
    store.begin(file("x", "x"))
    with pytest.raises(ContextRefused, match="not asked for"):
        store.finish(y="y")
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        link = tarfile.TarInfo("x")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(ContextRefused, match="not asked for"):
        finish_context(str(store.path), str(tmp_path / "partial"), str(tmp_path / "link.tar"))


def test_a_tar_that_is_cut_short(store: Store, tmp_path: Path) -> None:
    store.begin(file("x", "x" * 5000))
    whole = Path(tar(tmp_path / "cut", x="x" * 5000))
    whole.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(ContextRefused, match=r"cut short|damaged"):
        finish_context(str(store.path), str(tmp_path / "partial"), str(whole))


def test_ranges() -> None:
    assert ranges([]) == []
    assert ranges([1, 2, 3, 7, 9, 10]) == [[1, 3], [7, 7], [9, 10]]
