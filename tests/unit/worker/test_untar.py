"""Extracting tar archives: hostile names, links, limits, damage, what is kept. Nothing ever gets outside."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import subprocess
import sys
import tarfile
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import need
from jocker_engine.platform.worker.untar import ArchiveError, import_tar

ROOT = os.geteuid() == 0
DIR, LINK, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE

Entry = tuple[str, bytes, str]
"""Name, type, and the content or where a link leads."""


def write(path: Path, *entries: Entry, mode: str = "w", **fields: object) -> str:
    """A tar file; `fields` for all entries."""
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name, kind, text in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755 if kind == DIR else 0o644
            for key, value in fields.items():
                setattr(info, key, value)
            if kind in (LINK, HARD):
                info.linkname = text
                archive.addfile(info)
            else:
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
    return str(path)


def file(name: str, text: str = "x") -> Entry:
    return name, tarfile.REGTYPE, text


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where to extract; beside it lies what must never change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def untouched(target: Path) -> bool:
    outside = target.parent / "outside"
    return os.listdir(outside) == ["secret"] and (outside / "secret").read_text() == "secret"


# (entries, what is in the target: name -> content)
WRITTEN: list[tuple[list[Entry], dict[str, str]]] = [
    ([file("../../outside/secret")], {"outside/secret": "x"}),
    ([file("/etc/passwd")], {"etc/passwd": "x"}),
    ([file("a/../../b")], {"b": "x"}),
    ([file("./a//b/./c")], {"a/b/c": "x"}),
    ([("link", LINK, "../outside"), file("link/secret")], {"outside/secret": "x"}),
    ([("link", LINK, "../outside/secret"), file("link")], {"link": "x"}),
    ([("one", LINK, ".."), ("two", LINK, "one/.."), file("two/outside/secret")], {"outside/secret": "x"}),
    ([("dir", DIR, ""), ("link", LINK, "dir"), file("link/file")], {"dir/file": "x"}),
    ([("link", LINK, "later"), file("link/file"), ("later", DIR, "")], {"later/file": "x"}),
    ([("link", LINK, "../outside"), ("link", DIR, ""), file("link/file")], {"link/file": "x"}),
    (
        [("l", LINK, "one"), file("l/x", "1"), ("l", LINK, "two"), file("l/x", "2")],
        {"one/x": "1", "two/x": "2"},
    ),
    ([file("a", "1"), ("b", HARD, "a"), file("a", "2")], {"a": "2", "b": "1"}),
    ([file("a", "1"), ("a", HARD, "a")], {"a": "1"}),
    ([file("a"), ("link", LINK, "../outside/secret"), ("hard", HARD, "../a")], {"a": "x", "hard": "x"}),
    ([file("a", "1"), file("a", "22")], {"a": "22"}),
    ([("d", DIR, ""), ("d", DIR, ""), file("d/f")], {"d/f": "x"}),
    ([(".", DIR, ""), ("/", DIR, ""), ("..", DIR, "")], {}),
    ([], {}),
]


@pytest.mark.parametrize(("entries", "expected"), WRITTEN)
def test_what_is_written(target: Path, entries: list[Entry], expected: dict[str, str]) -> None:
    import_tar(write(target.parent / "tar", *entries), str(target))
    found = {
        str(path.relative_to(target)): path.read_text()
        for path in target.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert found == expected
    assert untouched(target)


# (entries, what the error says)
REFUSED: list[tuple[list[Entry], str]] = [
    ([("dir", DIR, ""), file("dir")], "'dir' is a directory earlier in the archive"),
    ([("dir", DIR, ""), ("dir", LINK, "/")], "'dir' is a directory earlier in the archive"),
    ([file("a"), file("a/b")], "'a/b' lies in what is not a directory"),
    ([file("a"), file("a/b/c")], "'a/b/c' lies in what is not a directory"),
    ([file("a"), ("a/b", DIR, "")], "'a/b' lies in what is not a directory"),
    ([("h", HARD, "../outside/secret")], "hard link 'h' to '../outside/secret', which is no file there"),
    (
        [("l", LINK, "/outside"), ("h", HARD, "l/secret")],
        "hard link 'h' to 'l/secret', which is no file there",
    ),
    ([("d", DIR, ""), ("h", HARD, "d")], "hard link 'h' to 'd', which is no file there"),
    ([("h", HARD, "")], "hard link 'h' to '', which is no file there"),
]


@pytest.mark.parametrize(("entries", "message"), REFUSED)
def test_what_is_refused(target: Path, entries: list[Entry], message: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        import_tar(write(target.parent / "tar", *entries), str(target))
    assert str(caught.value) == message
    assert untouched(target)


def test_a_loop_of_links(target: Path) -> None:
    path = write(target.parent / "tar", ("a", LINK, "b"), ("b", LINK, "a"), file("a/x"))
    with pytest.raises(OSError, match="too many links"):
        import_tar(path, str(target))


NAMES = st.sampled_from(["a", "b", "a/b", "a/b/c", "../a", "/a/b", "./b", "b/../a", ".", ""])
TARGETS = st.sampled_from(["a", "b", "..", "../..", "/", "../outside", "../outside/secret", "a/b", "."])
ENTRIES = st.one_of(
    st.tuples(NAMES, st.just(DIR), st.just("")),
    st.tuples(NAMES, st.just(tarfile.REGTYPE), st.just("x")),
    st.tuples(NAMES, st.sampled_from([LINK, HARD]), TARGETS),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ENTRIES, max_size=8))
def test_nothing_gets_outside(tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]) -> None:
    top = tmp_path_factory.mktemp("t")
    (top / "outside").mkdir()
    (top / "outside" / "secret").write_text("secret")
    (top / "target").mkdir()
    path = write(top / "tar", *entries)
    try:
        import_tar(path, str(top / "target"))
    except (ArchiveError, OSError):
        pass
    assert untouched(top / "target")
    assert (top / "outside" / "secret").stat().st_nlink == 1
    assert sorted(os.listdir(top)) == ["outside", "tar", "target"]


def test_limits(target: Path) -> None:
    path = write(target.parent / "tar", file("a", "12345"), file("b", "12345"))
    assert import_tar(path, str(target), max_entries=2, max_bytes=10) == {"files": 2, "bytes": 10}
    with pytest.raises(ArchiveError, match=r"^the archive has more than 1 entries$"):
        import_tar(path, str(target), max_entries=1)
    with pytest.raises(ArchiveError, match=r"^the archive has more than 9 bytes of content$"):
        import_tar(path, str(target), max_bytes=9)


def test_a_bomb_stops_at_the_limit(target: Path) -> None:
    path = write(target.parent / "tar", file("a", "\0" * (64 << 20)), mode="w:gz")
    assert os.path.getsize(path) < 1 << 20
    with pytest.raises(ArchiveError, match="bytes of content"):
        import_tar(path, str(target), max_bytes=1 << 20)
    assert os.listdir(target) == []


def test_names_longer_than_any_system_takes(target: Path) -> None:
    for name in ("a/" * 2500 + "b", "a" * 5000):
        with pytest.raises(ArchiveError, match="a name in the archive is too long: a"):
            import_tar(write(target.parent / "tar", file(name)), str(target))
    assert not any(path.name == "b" for path in target.rglob("*"))


def test_holes_count_as_content(target: Path) -> None:
    with open(target.parent / "sparse", "wb") as content:
        content.truncate(1 << 40)
    path = target.parent / "tar"
    subprocess.run(["tar", "-C", target.parent, "--sparse", "-cf", path, "sparse"], check=True, timeout=60)
    with pytest.raises(ArchiveError, match="bytes of content"):
        import_tar(str(path), str(target))


def test_devices(target: Path) -> None:
    path = write(target.parent / "tar", ("null", tarfile.CHRTYPE, ""), devmajor=1, devminor=3)
    with pytest.raises(ArchiveError, match=r"^'null' is a device node, which is not allowed here$"):
        import_tar(path, str(target), devices=False)
    need(ROOT, "device nodes need root")
    assert import_tar(path, str(target)) == {"files": 1, "bytes": 0}
    assert (target / "null").stat().st_rdev == os.makedev(1, 3)
    fifo = write(target.parent / "tar", ("fifo", tarfile.FIFOTYPE, ""))
    import_tar(fifo, str(target), devices=False)
    assert stat.S_ISFIFO((target / "fifo").stat().st_mode)


def test_what_is_kept(target: Path) -> None:
    import_tar(
        write(
            target.parent / "tar",
            ("closed", DIR, ""),
            file("closed/file"),
            mode="w:xz",
            pax_headers={"mtime": "1234567890.123456789", "SCHILY.xattr.user.a": "1\udcff=\n"},
        ),
        str(target),
    )
    for path in (target / "closed", target / "closed" / "file"):
        assert path.stat().st_mtime_ns == 1_234_567_890_123_456_789
        if sys.platform == "linux":
            assert os.getxattr(path, "user.a") == b"1\xff=\n"
    import_tar(write(target.parent / "tar", file("suid"), file("cap"), uid=1000, gid=1001), str(target))
    if ROOT:
        assert ((target / "suid").stat().st_uid, (target / "suid").stat().st_gid) == (1000, 1001)


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities of files are Linux's")
def test_capabilities_and_set_uid_survive_the_change_of_owner(target: Path) -> None:
    need(ROOT, "needs root")
    capability = b"\x01\x00\x00\x02\x00\x20" + b"\0" * 14  # vfs_cap_data of revision 2, cap_net_raw+ep
    headers = {
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.trusted.overlay.opaque": "y",
    }
    path = write(target.parent / "tar", file("ping"), uid=1000)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("ping")
        info.uid, info.mode, info.pax_headers = 1000, 0o4755, headers
        archive.addfile(info)
    import_tar(path, str(target))
    assert stat.S_IMODE((target / "ping").stat().st_mode) == 0o4755
    assert os.listxattr(target / "ping") == ["security.capability"]
    assert os.getxattr(target / "ping", "security.capability") == capability


def test_archives_of_gnu_tar(target: Path) -> None:
    """Its own formats, long names and holes."""
    source = target.parent / "source"
    source.mkdir()
    (source / ("n" * 200)).write_text("long")
    (source / "link").symlink_to("l" * 300)
    with open(source / "sparse", "wb") as content:
        content.seek(1 << 30)
        content.write(b"end")
    for form in ("gnu", "posix"):
        path = target.parent / form
        subprocess.run(
            ["tar", "-C", source, f"--format={form}", "--sparse", "-cf", path, "."], check=True, timeout=60
        )
        place = target / form
        place.mkdir()
        import_tar(str(path), str(place))
        assert (place / ("n" * 200)).read_text() == "long"
        assert os.readlink(place / "link") == "l" * 300
        status = (place / "sparse").stat()
        assert status.st_size == (1 << 30) + 3
        assert status.st_blocks < 1 << 10
        with open(place / "sparse", "rb") as content:
            content.seek(1 << 30)
            assert content.read() == b"end"


ZSTD = "what this zstd file holds is not a tar archive"
NO_TAR = "this is not a tar archive (plain, or compressed with gzip, bzip2, xz or zstd)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", NO_TAR),
        (b"text\n" * 1000, NO_TAR),
        (gzip.compress(b"text\n" * 1000, mtime=0), NO_TAR),
        (b"\x28\xb5\x2f\xfd" + b"x" * 100, ZSTD),
    ],
)
def test_what_is_no_tar(target: Path, content: bytes, message: str) -> None:
    path = target.parent / "tar"
    path.write_bytes(content)
    with pytest.raises(ArchiveError) as caught:
        import_tar(str(path), str(target))
    assert str(caught.value) == message


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
@pytest.mark.parametrize("damage", ["cut", "cut in a header", "garbage"])
@pytest.mark.parametrize("seed", [0, 11, 13])  # the last two still look like a tar to the end
def test_damage(target: Path, compression: str, damage: str, seed: int) -> None:
    """An archive that is cut short or overwritten is never taken for a whole one."""
    path = target.parent / "tar"
    noise = random.Random(seed).randbytes(6000).hex()
    write(path, file("a", noise), file("b", noise), mode=f"w:{compression}")
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 + 100 :]
    elif damage == "cut in a header":
        del content[512 + 12288 + 200 if not compression else len(content) * 2 // 3 :]
    else:
        at = 512 + 12288 if not compression else len(content) // 2
        content[at : at + 100] = b"\xa5" * 100
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"^(damaged archive: |this is not a tar archive)"):
        import_tar(str(path), str(target))


@pytest.mark.parametrize(("key", "value"), [("path", "a\0b"), ("uid", str(2**70)), ("mtime", "1e40")])
def test_numbers_and_names_that_no_system_has(target: Path, key: str, value: str) -> None:
    if key == "uid":
        need(ROOT, "owners are root's to give")
    with pytest.raises(ArchiveError, match=r"^damaged archive: "):
        import_tar(write(target.parent / "tar", file("a"), pax_headers={key: value}), str(target))


def test_without_root(target: Path) -> None:
    """All belongs to the caller, and there are no device nodes; that is no error."""
    need(ROOT, "starts as root, to become somebody else")
    entries = [("d", DIR, ""), file("d/f")]
    path = write(target.parent / "tar", *entries, uid=0, gid=0)
    write(target.parent / "more", ("null", tarfile.CHRTYPE, ""), devmajor=1, devminor=3)
    for name in (target.parent, *target.parents):
        if not name.stat().st_mode & 0o001:
            name.chmod(name.stat().st_mode | 0o011)
    os.chown(target, 65534, 65534)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            import_tar(path, str(target))
            assert import_tar(str(target.parent / "more"), str(target)) == {"files": 0, "bytes": 0}
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert (target / "d" / "f").stat().st_uid == 65534
    assert os.listdir(target) == ["d"]
