"""Packing a directory: what is ignored, what is kept, what goes wrong."""

from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from conftest import need
from jocker_client.context import CHUNK, ContextError, pack, pack_dir


def members(chunks: Iterable[bytes]) -> dict[str, tarfile.TarInfo]:
    """By name, in the order of the archive."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        found = archive.getmembers()
    assert len({member.name for member in found}) == len(found)
    return {member.name: member for member in found}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    for name in (
        "Dockerfile",
        "app.py",
        "b/keep.txt",
        "b/drop.log",
        "b/deep/er/x.log",
        "b/deep/y.txt",
        ".git/config",
        "z",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def test_everything_without_an_ignore_file(context: Path) -> None:
    assert list(members(pack(str(context)))) == [
        ".git", ".git/config", "Dockerfile", "app.py", "b", "b/deep", "b/deep/er", "b/deep/er/x.log",
        "b/deep/y.txt", "b/drop.log", "b/keep.txt", "z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (
            ".git\n**/*.log\n.dockerignore",
            ["Dockerfile", "app.py", "b", "b/deep", "b/deep/er", "b/deep/y.txt", "b/keep.txt", "z"],
        ),
        ("*\n!app.py", ["app.py"]),
        ("# only this\n*\n!b/deep/y.txt\n", ["b", "b/deep", "b/deep/y.txt"]),
        ("*\n!b\nb/deep", ["b", "b/drop.log", "b/keep.txt"]),
        ("*\n!b/*/er\n!z", ["b", "b/deep", "b/deep/er", "b/deep/er/x.log", "z"]),
        ("**\n!**/*.log", ["b", "b/deep", "b/deep/er", "b/deep/er/x.log", "b/drop.log"]),
        ("Dockerfile\n.dockerignore\n.git\nb", ["app.py", "z"]),
    ],
)  # fmt: skip
def test_ignore_file(context: Path, lines: str, names: list[str]) -> None:
    (context / ".dockerignore").write_text(lines)
    assert list(members(pack(str(context)))) == names


def test_the_ignore_file_of_the_dockerfile_comes_first(context: Path, tmp_path: Path) -> None:
    (context / ".dockerignore").write_text("z")
    (context / "Dockerfile.dockerignore").write_text("*\n!app.py")
    (tmp_path / "Other").touch()
    (tmp_path / "Other.dockerignore").write_text("*\n!z")
    assert list(members(pack(str(context)))) == ["app.py"]
    assert list(members(pack(str(context), str(context / "Dockerfile")))) == ["app.py"]
    assert list(members(pack(str(context), str(tmp_path / "Other")))) == ["z"]
    assert "z" not in members(pack(str(context), str(context / "app.py")))


def test_a_bad_line_is_named(context: Path) -> None:
    (context / ".dockerignore").write_text("fine\n[\n")
    with pytest.raises(ContextError, match=r"\.dockerignore: line 2: "):
        pack(str(context))


def test_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(ContextError, match="cannot be read as a directory"):
            pack(str(path))


def test_the_same_directory_gives_the_same_bytes(context: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", str(context), str(tmp_path / "again")], check=True)
    assert b"".join(pack(str(context))) == b"".join(pack(str(tmp_path / "again")))
    if os.geteuid() == 0:
        os.chown(context / "z", 12, 34)
        assert b"".join(pack(str(context))) == b"".join(pack(str(tmp_path / "again")))


def test_links_modes_times_and_hard_links(context: Path) -> None:
    (context / "app.py").chmod(0o4751)
    os.utime(context / "app.py", (1, 1234567890))
    (context / "link").symlink_to("/outside")
    os.link(context / "app.py", context / "hard")
    os.mkfifo(context / "fifo")
    name = "long" * 60 + "\udcff☺"
    (context / name).touch()
    found = members(pack(str(context)))
    assert (found["app.py"].mode, found["app.py"].mtime) == (0o4751, 1234567890)
    assert (found["link"].type, found["link"].linkname) == (tarfile.SYMTYPE, "/outside")
    assert (found["hard"].type, found["hard"].linkname) == (tarfile.LNKTYPE, "app.py")
    assert "fifo" not in found
    assert name in found


def test_big_files_come_in_pieces(context: Path) -> None:
    content = os.urandom(5 * CHUNK + 17)
    (context / "big").write_bytes(content)
    chunks = list(pack(str(context)))
    assert max(map(len, chunks)) < 3 * CHUNK
    assert all(len(chunk) >= 65536 for chunk in chunks[:-1])
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        file = archive.extractfile("big")
        assert file is not None
        assert file.read() == content


def test_a_file_that_grows_is_cut_and_one_that_shrinks_is_an_error(context: Path) -> None:
    (context / "a").write_bytes(b"x" * (4 * CHUNK))
    stream = pack(str(context))
    chunks = [next(stream)]
    with open(context / "a", "ab") as file:
        file.write(b"more")
    found = members([*chunks, *stream])
    assert found["a"].size == 4 * CHUNK
    assert "z" in found

    stream = pack(str(context))
    next(stream)
    os.truncate(context / "a", 100)
    with pytest.raises(ContextError, match="became shorter"):
        list(stream)


def test_an_unreadable_file_is_one_line(context: Path) -> None:
    need(os.geteuid() == 0, "needs root, to become somebody else")
    for path in [context, *context.rglob("*")]:
        os.chown(path, 4242, 4242)
    (context / "app.py").chmod(0)
    for above in (context.parent, context.parent.parent, context.parent.parent.parent):
        above.chmod(0o755)
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setuid(4242)
            list(pack(str(context)))
        except ContextError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 1000).decode() == f"{context}/app.py cannot be read: Permission denied"
    os.close(read)


def test_pack_dir_keeps_owners_and_special_files(context: Path) -> None:
    os.mkfifo(context / "fifo", 0o640)
    (context / ".dockerignore").write_text("*")
    context.chmod(0o711)
    if os.geteuid() == 0:
        os.chown(context / "z", 12, 34)
        os.mknod(context / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(context / "socket"))
    found = members(pack_dir(str(context)))
    assert found["."].mode == 0o711
    assert found["fifo"].isfifo()
    assert "socket" not in found
    assert "app.py" in found
    if os.geteuid() == 0:
        assert (found["z"].uid, found["z"].gid, found["z"].uname) == (12, 34, "")
        assert (found["null"].type, found["null"].devmajor, found["null"].devminor) == (tarfile.CHRTYPE, 1, 3)
