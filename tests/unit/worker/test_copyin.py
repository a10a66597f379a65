"""COPY and ADD: Docker's rules one by one, and that nothing gets outside."""

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from conftest import need
from jocker_engine.platform.worker.copyin import copy_in
from jocker_engine.platform.worker.sources import CopyError


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A build context."""
    root = tmp_path / "context"
    for name in (
        "home.txt",
        "homer.txt",
        "a[1].txt",
        "dir/one",
        "dir/sub/two",
        "dir2/three",
        "x/1/y",
        "x/2/y",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "dir" / "link").symlink_to("../../../etc/passwd")
    (root / "in").symlink_to("dir")
    (root / "out").symlink_to("/../../etc/hostname")
    (root / "tofile").symlink_to("home.txt")
    (root / "dangling").symlink_to("nothing")
    (tmp_path / "secret").write_text("secret")
    return root


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("etc", "usr/bin", "app"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "abs").symlink_to("/app")
    (root / "escape").symlink_to("../../../../app")
    (root / "file").write_text("old")
    return root


def tree(root: Path) -> set[str]:
    """All files and links below."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}


# (sources, destination, what is new in the root)
COPIES = [
    (["home.txt"], "/", {"home.txt"}),
    (["home.txt"], "/new", {"new"}),
    (["home.txt"], "/new/", {"new/home.txt"}),
    (["home.txt"], "/new/deep/er", {"new/deep/er"}),
    (["home.txt"], "/app", {"app/home.txt"}),
    (["home.txt"], "/app/.", {"app/home.txt"}),
    (["/home.txt"], "/app/", {"app/home.txt"}),
    (["./dir/../home.txt"], "/app/", {"app/home.txt"}),
    (["../../home.txt"], "/app/", {"app/home.txt"}),
    (["dir/../../hom?.txt"], "/app/", {"app/home.txt"}),
    (["home.txt/"], "/app/", {"app/home.txt"}),
    (["hom*"], "/app/", {"app/home.txt", "app/homer.txt"}),
    (["home?.txt"], "/new", {"new"}),
    (["hom*"], "/new", {"new/home.txt", "new/homer.txt"}),
    (["home.txt", "homer.txt"], "/new", {"new/home.txt", "new/homer.txt"}),
    (["home.txt", "nothing*"], "/new/", {"new/home.txt"}),
    ([r"a\[1].txt"], "/app/", {"app/a[1].txt"}),
    (["a[[]1].txt"], "/app/", {"app/a[1].txt"}),
    (["x/*/y"], "/app/", {"app/y"}),
    (["dir"], "/app", {"app/one", "app/link", "app/sub/two"}),
    (["dir/"], "/new", {"new/one", "new/link", "new/sub/two"}),
    (["dir", "dir2"], "/new/", {"new/one", "new/link", "new/sub/two", "new/three"}),
    (["dir?"], "/new", {"new/three"}),
    (["dir/sub/.."], "/app", {"app/one", "app/link", "app/sub/two"}),
    (["in"], "/app", {"app/one", "app/link", "app/sub/two"}),
    (["in/one"], "/app/", {"app/one"}),
    (["in/*e"], "/app/", {"app/one"}),
    (["tofile"], "/app/", {"app/tofile"}),
    (["home.txt"], "/bin/", {"usr/bin/home.txt"}),
    (["home.txt"], "/abs", {"app/home.txt"}),
    (["home.txt"], "/escape/x", {"app/x"}),
    (["home.txt"], "/../../../app/x", {"app/x"}),
    (["dir/sub"], "/bin", {"usr/bin/two"}),
    (["*.none", "n?ne"], "/none/", set()),
    (["**/y"], "/app/", {"app/y"}),
    (["**/t*"], "/app/", {"app/two", "app/three", "app/tofile"}),
]


@pytest.mark.parametrize(("sources", "destination", "new"), COPIES)
def test_where_things_go(
    context: Path, rootfs: Path, sources: list[str], destination: str, new: set[str]
) -> None:
    before, outside = tree(rootfs), tree(context.parent) - tree(rootfs)
    result = copy_in(str(context), sources, str(rootfs), destination)
    assert tree(rootfs) - before == new
    assert result["files"] >= len(new)
    assert outside <= tree(context.parent)
    assert (rootfs / "bin").is_symlink()
    assert (rootfs / "abs").is_symlink()


# (sources, destination, the whole message)
REFUSED = [
    (["nothing"], "/", "no such file in the build context: 'nothing'"),
    (["../secret"], "/", "no such file in the build context: '../secret'"),
    (["dir/../../secret"], "/", "no such file in the build context: 'dir/../../secret'"),
    (["out"], "/", "no such file in the build context: 'out'"),
    (["dangling"], "/", "no such file in the build context: 'dangling'"),
    (["dang*"], "/", "'dangling' in the build context is a link to nothing there"),
    (["a[1"], "/", "pattern 'a[1' ends too early"),
    (["dir"], "/file", "'/file' is not a directory"),
    (["home.txt"], "/file/x", "'/file' is not a directory"),
    (["home.txt"], "/file/", "'/file' is not a directory"),
    (["x/1"], "/conflict", "'/conflict/y' is a directory and cannot become a file"),
]


@pytest.mark.parametrize(("sources", "destination", "message"), REFUSED)
def test_one_line_says_what_is_wrong(
    context: Path, rootfs: Path, sources: list[str], destination: str, message: str
) -> None:
    (rootfs / "conflict" / "y").mkdir(parents=True)
    with pytest.raises(CopyError) as caught:
        copy_in(str(context), sources, str(rootfs), destination)
    assert str(caught.value) == f"COPY failed: {message}"
    with pytest.raises(CopyError, match=r"^ADD failed: "):
        copy_in(str(context), sources, str(rootfs), destination, unpack=True)


def test_links_out_of_the_context_end_inside_it(context: Path, rootfs: Path) -> None:
    """`out` leads to /etc/hostname: of the context, never of the host."""
    (context / "etc").mkdir()
    (context / "etc" / "hostname").write_text("ours")
    copy_in(str(context), ["out"], str(rootfs), "/app/x")
    assert (rootfs / "app" / "x").read_text() == "ours"


def test_modes_times_owners(context: Path, rootfs: Path) -> None:
    (context / "home.txt").chmod(0o4751)
    (context / "dir" / "sub").chmod(0o750)
    os.utime(context / "home.txt", ns=(1, 1_000_000_001))
    os.utime(context / "dir" / "sub", ns=(1, 2_000_000_002))
    os.utime(context / "dir" / "link", ns=(1, 3_000_000_003), follow_symlinks=False)
    copy_in(str(context), ["home.txt", "dir"], str(rootfs), "/a/b/")
    top = rootfs / "a" / "b"
    assert stat.S_IMODE(top.stat().st_mode) == stat.S_IMODE(top.parent.stat().st_mode) == 0o755
    assert (stat.S_IMODE((top / "home.txt").stat().st_mode), (top / "home.txt").stat().st_mtime_ns) == (
        0o4751,
        1_000_000_001,
    )
    assert (stat.S_IMODE((top / "sub").stat().st_mode), (top / "sub").stat().st_mtime_ns) == (
        0o750,
        2_000_000_002,
    )
    assert (top / "link").lstat().st_mtime_ns == 3_000_000_003
    assert os.readlink(top / "link") == "../../../etc/passwd"
    owner = (os.geteuid(), os.getegid())
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in [top, *top.rglob("*")]} == {owner}


def test_chmod_and_chown(context: Path, rootfs: Path) -> None:
    need(os.geteuid() == 0, "needs root to give files away")
    for path in [context, *context.rglob("*")]:
        os.lchown(path, 77, 77)
    copy_in(str(context), ["dir"], str(rootfs), "/new/dir", chown=[12, 34], chmod="711")
    made = [rootfs / "new", *(rootfs / "new").rglob("*")]
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in made} == {(12, 34)}
    assert stat.S_IMODE((rootfs / "new" / "dir" / "one").stat().st_mode) == 0o711
    assert stat.S_IMODE((rootfs / "new" / "dir" / "sub").stat().st_mode) == 0o711
    assert stat.S_IMODE((rootfs / "new").stat().st_mode) == 0o755
    copy_in(str(context), ["dir"], str(rootfs), "/plain")
    assert (rootfs / "plain" / "one").stat().st_uid == 0
    assert (rootfs / "app").stat().st_uid == 0


def test_copies_replace_files_and_links_and_merge_directories(
    context: Path, rootfs: Path, tmp_path: Path
) -> None:
    (rootfs / "app" / "sub").mkdir()
    (rootfs / "app" / "sub" / "keep").touch()
    (rootfs / "app" / "one").symlink_to(tmp_path / "secret")
    (rootfs / "app" / "link").write_text("a file")
    (rootfs / "usr" / "sub").symlink_to("/app/sub")
    copy_in(str(context), ["dir"], str(rootfs), "/app")
    assert (rootfs / "app" / "one").read_text() == "dir/one"
    assert not (rootfs / "app" / "one").is_symlink()
    assert (rootfs / "app" / "link").is_symlink()
    assert (rootfs / "app" / "sub" / "keep").exists()
    assert (tmp_path / "secret").read_text() == "secret"
    (rootfs / "app" / "sub" / "two").unlink()
    copy_in(str(context), ["dir"], str(rootfs), "/usr")
    assert (rootfs / "usr" / "sub").is_symlink()
    assert (rootfs / "app" / "sub" / "two").exists()


def test_a_file_over_a_link_goes_where_the_link_leads(context: Path, rootfs: Path, tmp_path: Path) -> None:
    (rootfs / "current").symlink_to("/app/real")
    copy_in(str(context), ["home.txt"], str(rootfs), "/current")
    assert (rootfs / "current").is_symlink()
    assert (rootfs / "app" / "real").read_text() == "home.txt"


def test_special_files_of_other_images_are_copied(context: Path, rootfs: Path) -> None:
    os.mkfifo(context / "dir" / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(context / "dir" / "s"))
    copy_in(str(context), ["dir"], str(rootfs), "/new")
    assert stat.S_ISFIFO((rootfs / "new" / "fifo").stat().st_mode)
    assert not (rootfs / "new" / "s").exists()


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def make_archive(path: Path, mode: str, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    with tarfile.open(str(path), mode) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_add_unpacks_archives_whatever_their_name(context: Path, rootfs: Path, compression: str) -> None:
    make_archive(
        context / "plain.bin", f"w:{compression}",
        member("./", type=tarfile.DIRTYPE, mode=0o700),
        member("d/", type=tarfile.DIRTYPE, mode=0o711, uid=5, gid=6, mtime=1000),
        member("d/file", b"content", mode=0o4755, uid=5, gid=6, mtime=2000),
        member("d/sym", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("hard", type=tarfile.LNKTYPE, linkname="d/file"),
        member("fifo", type=tarfile.FIFOTYPE, mode=0o640),
    )  # fmt: skip
    assert copy_in(str(context), ["plain.bin"], str(rootfs), "/new", unpack=True) == {"files": 4}
    top = rootfs / "new"
    file = (top / "d" / "file").stat()
    assert (top / "d" / "file").read_text() == "content"
    assert (stat.S_IMODE(file.st_mode), file.st_mtime) == (0o4755, 2000)
    assert (top / "d").stat().st_mtime == 1000
    assert (top / "hard").samefile(top / "d" / "file")
    assert os.readlink(top / "d" / "sym") == "/etc/passwd"
    assert stat.S_ISFIFO((top / "fifo").stat().st_mode)
    if os.geteuid() == 0:
        assert (file.st_uid, file.st_gid) == (5, 6)
        copy_in(str(context), ["plain.bin"], str(rootfs), "/new", chown=[1, 2], unpack=True)
        assert (top / "d" / "file").stat().st_uid == 1
    copy_in(str(context), ["plain.bin"], str(rootfs), "/copied/")
    assert (rootfs / "copied" / "plain.bin").is_file()


@pytest.mark.parametrize("content", [b"", b"\0" * 10240, b"text\n", b"\x1f\x8bbroken", os.urandom(3000)])
def test_add_copies_what_is_no_archive(context: Path, rootfs: Path, content: bytes) -> None:
    (context / "a.tar.gz").write_bytes(content)
    copy_in(str(context), ["a.tar.gz"], str(rootfs), "/new/", unpack=True)
    assert (rootfs / "new" / "a.tar.gz").read_bytes() == content


def test_an_archive_cannot_write_outside(context: Path, rootfs: Path, tmp_path: Path) -> None:
    make_archive(
        context / "evil.tar", "w",
        member("../../../up", b"1"),
        member("/absolute", b"2"),
        member("way", type=tarfile.SYMTYPE, linkname="../../../.."),
        member("way/through", b"3"),
        member("abs", type=tarfile.SYMTYPE, linkname=str(tmp_path)),
        member("abs/secret", b"4"),
        member("link", type=tarfile.SYMTYPE, linkname=str(tmp_path / "secret")),
        member("link", b"5"),
    )  # fmt: skip
    outside = {path: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    copy_in(str(context), ["evil.tar"], str(rootfs), "/app", unpack=True)
    assert {path: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == outside
    assert (rootfs / "app" / "up").read_text() == "1"
    assert (rootfs / "app" / "absolute").read_text() == "2"
    assert (rootfs / "through").read_text() == "3"
    assert (rootfs / str(tmp_path)[1:] / "secret").read_text() == "4"
    assert (rootfs / "app" / "link").read_text() == "5"


def test_a_hard_link_out_of_an_archive_is_refused(context: Path, rootfs: Path, tmp_path: Path) -> None:
    make_archive(
        context / "evil.tar", "w", member("hard", type=tarfile.LNKTYPE, linkname=str(tmp_path / "secret"))
    )
    with pytest.raises(CopyError, match="which is no file there"):
        copy_in(str(context), ["evil.tar"], str(rootfs), "/app", unpack=True)


def test_a_damaged_archive_is_one_line(context: Path, rootfs: Path) -> None:
    make_archive(context / "a.tar", "w", member("one", b"x" * 2000), member("two", b"y" * 100_000))
    os.truncate(context / "a.tar", 20_000)
    with pytest.raises(CopyError, match=r"^ADD failed: damaged archive"):
        copy_in(str(context), ["a.tar"], str(rootfs), "/app", unpack=True)
    make_archive(context / "a.tgz", "w:gz", member("one", os.urandom(200_000)))
    os.truncate(context / "a.tgz", 100_000)
    with pytest.raises(CopyError, match=r"^ADD failed: damaged archive"):
        copy_in(str(context), ["a.tgz"], str(rootfs), "/app", unpack=True)


def test_directories_that_are_there_keep_owner_and_mode(context: Path, rootfs: Path) -> None:
    (rootfs / "app" / "sub").mkdir()
    (rootfs / "app").chmod(0o1777)
    (rootfs / "app" / "sub").chmod(0o700)
    copy_in(str(context), ["dir"], str(rootfs), "/app")
    assert stat.S_IMODE((rootfs / "app").stat().st_mode) == 0o1777
    assert stat.S_IMODE((rootfs / "app" / "sub").stat().st_mode) == 0o700


def test_symbolic_modes(context: Path, rootfs: Path) -> None:
    (context / "dir" / "one").chmod(0o600)
    (context / "dir" / "sub").chmod(0o700)
    copy_in(str(context), ["dir"], str(rootfs), "/new", chmod="u=rwX,go=rX")
    assert stat.S_IMODE((rootfs / "new" / "one").stat().st_mode) == 0o644
    assert stat.S_IMODE((rootfs / "new" / "sub").stat().st_mode) == 0o755


# (sources, patterns that are left out, what is new in the root)
EXCLUDED = [
    (["dir"], ["one"], {"new/link", "new/sub/two"}),
    (["dir"], ["sub"], {"new/link", "new/one"}),
    (["dir"], ["**/t*"], {"new/link", "new/one"}),
    (["dir"], ["*", "!sub/two"], {"new/sub/two"}),
    (["dir"], ["*"], set()),
    (["."], ["*/*", "*.txt", "[b-z]*"], set()),
    (["."], ["dir/sub", "x", "*.txt", "dir2", "i*", "out", "to*", "dang*"], {"new/dir/link", "new/dir/one"}),
    (["hom*", "x"], ["homer.txt", "1"], {"new/home.txt", "new/2/y"}),
    (["dir*"], ["two"], {"new/link", "new/one", "new/sub/two", "new/three"}),
]


@pytest.mark.parametrize(("sources", "patterns", "new"), EXCLUDED)
def test_exclude(context: Path, rootfs: Path, sources: list[str], patterns: list[str], new: set[str]) -> None:
    before = tree(rootfs)
    copy_in(str(context), sources, str(rootfs), "/new/", exclude=patterns)
    assert tree(rootfs) - before == new


# (sources, what is new in the root)
PARENTS = [
    (["dir/one"], {"new/dir/one"}),
    (["./dir/sub/two", "x/1/y"], {"new/dir/sub/two", "new/x/1/y"}),
    (["dir/sub"], {"new/dir/sub/two"}),
    (["dir/./sub"], {"new/sub/two"}),
    (["dir/./sub/two"], {"new/sub/two"}),
    (["x/./*/y"], {"new/1/y", "new/2/y"}),
    (["x/*/./y"], {"new/y"}),
    (["**/y"], {"new/x/1/y", "new/x/2/y"}),
    (["dir/./**/t*"], {"new/sub/two"}),
    (["in/one"], {"new/in/one"}),
    (["nothing*"], set()),
]


@pytest.mark.parametrize(("sources", "new"), PARENTS)
def test_parents(context: Path, rootfs: Path, sources: list[str], new: set[str]) -> None:
    (context / "dir").chmod(0o750)
    before = tree(rootfs)
    copy_in(str(context), sources, str(rootfs), "/new/", parents=True)
    assert tree(rootfs) - before == new
    if (rootfs / "new" / "dir").exists():
        assert stat.S_IMODE((rootfs / "new" / "dir").stat().st_mode) == 0o750


def test_parents_cannot_climb(context: Path, rootfs: Path, tmp_path: Path) -> None:
    for source in ("../secret", "dir/../../secret", "dir/./../../secret"):
        with pytest.raises(CopyError, match="no such file"):
            copy_in(str(context), [source], str(rootfs), "/new/", parents=True)
    (context / "up").symlink_to("../..")
    with pytest.raises(CopyError, match="no such file"):
        copy_in(str(context), ["up/secret"], str(rootfs), "/new/", parents=True)
    assert "secret" not in {path.name for path in rootfs.rglob("*")}


def test_link_follows_nothing_in_the_destination(context: Path, rootfs: Path, tmp_path: Path) -> None:
    (rootfs / "out").symlink_to(tmp_path)
    (rootfs / "name").symlink_to(tmp_path / "secret")
    copy_in(str(context), ["home.txt"], str(rootfs), "/bin/", link=True)
    copy_in(str(context), ["home.txt"], str(rootfs), "/out/x", link=True)
    copy_in(str(context), ["home.txt"], str(rootfs), "/name", link=True)
    assert not (rootfs / "bin").is_symlink() and (rootfs / "bin" / "home.txt").is_file()
    assert not (rootfs / "out").is_symlink() and (rootfs / "out" / "x").is_file()
    assert not (rootfs / "name").is_symlink() and (tmp_path / "secret").read_text() == "secret"
    copy_in(str(context), ["dir"], str(rootfs), "/abs", link=True)
    assert not (rootfs / "abs").is_symlink() and (rootfs / "abs" / "one").is_file()
    assert not list((rootfs / "app").iterdir())


def test_what_lies_beside_the_context(context: Path, rootfs: Path, tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.mkdir()
    make_archive(extra / "got.tar", "w", member("inside", b"1"))
    copy_in(str(context), ["home.txt"], str(rootfs), "/new", unpack=True, extra=str(extra))
    assert {path.name for path in (rootfs / "new").iterdir()} == {"home.txt", "got.tar"}
    copy_in(str(context), [], str(rootfs), "/other", unpack=True, extra=str(extra), unpack_extra=True)
    assert {path.name for path in (rootfs / "other").iterdir()} == {"inside"}
    copy_in(str(context), [], str(rootfs), "/file", extra=str(extra))
    assert tarfile.is_tarfile(rootfs / "file")


def test_hard_links_of_an_image_stay_what_they_are(context: Path, rootfs: Path) -> None:
    os.link(context / "dir" / "one", context / "dir" / "twin")
    copy_in(str(context), ["dir"], str(rootfs), "/new", of_image=True)
    copy_in(str(context), ["dir"], str(rootfs), "/apart")
    assert (rootfs / "new" / "one").samefile(rootfs / "new" / "twin")
    assert not (rootfs / "apart" / "one").samefile(rootfs / "apart" / "twin")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_of_an_image_stay_what_they_are(context: Path, rootfs: Path) -> None:
    os.chown(context / "dir" / "sub", 5, 6)
    os.chown(context / "dir" / "one", 7, 8)
    copy_in(str(context), ["dir"], str(rootfs), "/new/", of_image=True)
    copy_in(str(context), ["dir"], str(rootfs), "/context/")
    copy_in(str(context), ["dir"], str(rootfs), "/given/", of_image=True, chown=[3, 4])
    for name, sub, one in (("new", 5, 7), ("context", 0, 0), ("given", 3, 3)):
        top = rootfs / name
        assert ((top / "sub").stat().st_uid, (top / "one").stat().st_uid) == (sub, one)
    assert (rootfs / "new").stat().st_uid == 0


def test_zstd(context: Path, rootfs: Path) -> None:
    need(shutil.which("zstd"), "zstd is not installed")
    make_archive(
        context / "a.tar",
        "w",
        member("one", b"x" * 100_000),
        member("l", type=tarfile.SYMTYPE, linkname="one"),
    )
    subprocess.run(
        ["zstd", "-q", str(context / "a.tar"), "-o", str(context / "a.zst")], check=True, timeout=60
    )
    copy_in(str(context), ["a.zst"], str(rootfs), "/new", unpack=True)
    assert (rootfs / "new" / "l").read_bytes() == b"x" * 100_000
    with open(context / "sparse", "wb") as file:
        file.truncate(1 << 24)
        file.seek(0, os.SEEK_END)
        file.write(b"end")
    whole = ["tar", "-C", str(context), "--sparse", "--zstd", "-cf", str(context / "b.zst"), "sparse"]
    subprocess.run(whole, check=True, timeout=60)
    copy_in(str(context), ["b.zst"], str(rootfs), "/new", unpack=True)
    assert (rootfs / "new" / "sparse").read_bytes() == bytes(1 << 24) + b"end"
    os.truncate(context / "a.zst", 30)
    copy_in(str(context), ["a.zst"], str(rootfs), "/cut/", unpack=True)  # not to be told from any other file
    assert (rootfs / "cut" / "a.zst").stat().st_size == 30
