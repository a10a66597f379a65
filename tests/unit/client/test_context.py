"""Packing a directory: what is ignored, what is kept, what goes wrong."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import need
from jocker_client.context import CHUNK, ContextError, pack_dir
from jocker_client.manifest import Context
from jocker_protocol.contexts import decode


def members(chunks: Iterable[bytes]) -> dict[str, tarfile.TarInfo]:
    """By name, in the order of the archive."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        found = archive.getmembers()
    assert len({member.name for member in found}) == len(found)
    return {member.name: member for member in found}


def entries(path: Path | str, dockerfile: str = "") -> dict[str, Any]:
    """The lines of a context's manifest by name, in their order."""
    found = Context(str(path), dockerfile or f"{path}/Dockerfile")
    return {entry[1]: entry for entry in decode(found.manifest)}


def everything(context: Context) -> Iterator[bytes]:
    """A tar of all its files."""
    return context.tar([[0, len(decode(context.manifest)) - 1]])


def scan(path: Path) -> Context:
    return Context(str(path), str(path / "Dockerfile"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


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
    assert list(entries(context)) == [
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
    assert list(entries(context)) == names


def test_the_ignore_file_of_the_dockerfile_comes_first(context: Path, tmp_path: Path) -> None:
    (context / ".dockerignore").write_text("z")
    (context / "Dockerfile.dockerignore").write_text("*\n!app.py")
    (tmp_path / "Other").touch()
    (tmp_path / "Other.dockerignore").write_text("*\n!z")
    assert list(entries(context)) == ["app.py"]
    assert list(entries(context, str(context / "Dockerfile"))) == ["app.py"]
    assert list(entries(context, str(tmp_path / "Other"))) == ["z"]
    assert "z" not in entries(context, str(context / "app.py"))


def test_a_bad_line_is_named(context: Path) -> None:
    (context / ".dockerignore").write_text("fine\n[\n")
    with pytest.raises(ContextError, match=r"\.dockerignore: line 2: "):
        scan(context)


def test_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(ContextError, match="cannot be read as a directory"):
            scan(path)


def test_the_same_directory_is_the_same_context(context: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", str(context), str(tmp_path / "again")], check=True)
    assert scan(context).id == scan(tmp_path / "again").id
    if os.geteuid() == 0:
        os.chown(context / "z", 12, 34)
        assert scan(context).id == scan(tmp_path / "again").id
    (context / "z").write_text("Z")
    assert scan(context).id != scan(tmp_path / "again").id


def test_links_modes_and_times(context: Path) -> None:
    (context / "app.py").chmod(0o4751)
    os.utime(context / "app.py", ns=(1, 1234567890987654321))
    (context / "link").symlink_to("/outside")
    os.link(context / "app.py", context / "hard")
    os.mkfifo(context / "fifo")
    name = "long" * 60 + "\udcff☺"
    (context / name).touch()
    found = entries(context)
    assert found["app.py"][2:5] == (0o4751, 1234567890987654321, 6)
    assert found["link"] == ("l", "link", "/outside")
    assert found["hard"][2:] == found["app.py"][2:]
    assert "fifo" not in found
    assert name in found
    assert name in members(everything(scan(context)))


def test_only_what_is_asked_for_is_sent(context: Path) -> None:
    lines = list(entries(context))
    wanted = [[lines.index("app.py"), lines.index("app.py")], [lines.index("z"), lines.index("z")]]
    assert list(members(scan(context).tar(wanted))) == ["app.py", "z"]


def test_big_files_come_in_pieces(context: Path) -> None:
    content = os.urandom((8 << 20) + 5 * CHUNK + 17)
    (context / "big").write_bytes(content)
    chunks = list(everything(scan(context)))
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        file = archive.extractfile("big")
        assert file is not None
        assert file.read() == content


def test_what_changes_while_it_is_read(context: Path) -> None:
    (context / "a").write_bytes(b"x" * (9 << 20))
    before = scan(context)
    stream = everything(before)
    chunks = [next(stream)]
    with open(context / "a", "ab") as file:
        file.write(b"more")
    (context / "z").unlink()
    (context / "app.py").write_bytes(b"shorter"[:3])
    while True:
        chunks += [chunk] if (chunk := next(stream, b"")) else []
        if not chunk:
            break
    found = members(chunks)
    assert found["app.py"].size == 3
    assert "z" not in found

    line = list(entries(context)).index("a")
    stream = scan(context).tar([[line, line]])
    next(stream)
    os.truncate(context / "a", 100)
    with pytest.raises(ContextError, match="became shorter"):
        list(stream)


def test_digests_are_remembered_until_a_file_changes(
    context: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = time.time_ns() + 10_000_000_000  # the files have not changed for so long
    monkeypatch.setattr("time.time_ns", lambda: old)
    first = scan(context)
    (stored,) = (cache / "jocker" / "contexts").iterdir()
    remembered = json.loads(stored.read_text())
    assert set(remembered) == {name for name, entry in entries(context).items() if entry[0] == "f"}
    remembered["z"][-1] = "0" * 64
    stored.write_text(json.dumps(remembered))
    assert entries(context)["z"][5] == "0" * 64  # believed, not read
    (context / "z").write_text("another")
    assert entries(context)["z"][5] != "0" * 64
    stored.write_text("not JSON")
    (context / "z").write_text("z")
    assert {**entries(context), "z": 0} == {**{e[1]: e for e in decode(first.manifest)}, "z": 0}


def test_a_file_that_changed_just_now_is_read_again(context: Path, cache: Path) -> None:
    scan(context)
    assert not cache.exists() or not any(json.loads(each.read_text()) for each in cache.rglob("*.json"))


def test_a_cache_that_cannot_be_written_is_no_error(context: Path, cache: Path) -> None:
    cache.write_text("a file where a directory should be")
    assert scan(context).id == scan(context).id


def test_an_unreadable_file_is_one_line(context: Path) -> None:
    need(os.geteuid() == 0, "needs root, to become somebody else")
    for path in [context, *context.rglob("*")]:
        os.chown(path, 4242, 4242)
    (context / "app.py").chmod(0)
    for above in context.parents[:-2]:  # /tmp is open to all
        above.chmod(0o755)
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setuid(4242)
            scan(context)
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
