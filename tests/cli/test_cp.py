"""`jocker cp`, for real: Docker's rules, both ways, running and not, and what links and impatience cannot do."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import BIN, Engine


@pytest.fixture(params=["running", "stopped"])
def box(request: pytest.FixtureRequest, shared: Engine) -> Iterator[str]:
    """The name of a container with a volume, a link out of it and some files."""
    make = (
        "busybox mkdir -p /d/sub /empty; echo one > /d/f; echo two > /d/sub/g; busybox ln -s /etc /out; "
        "busybox ln -s sub /d/link; busybox ln -s ../../../../../../etc/passwd /passwd; echo v > /data/v"
    )
    shared.jocker("create", "--name", "box", "-v", "boxdata:/data", "base", "sh", "-c", f"{make}; sleep 1000")
    shared.jocker("start", "box")
    while shared.jocker("exec", "box", "cat", "/data/v", check=False).returncode:
        time.sleep(0.05)
    if request.param == "stopped":
        shared.jocker("stop", "-t", "0", "box")
    yield "box"
    shared.jocker("rm", "-f", "box")
    shared.jocker("volume", "rm", "boxdata")
    assert shared.rpc("system.check")["differences"] == []


def read(engine: Engine, path: str) -> str:
    """A file in the container, by another way than cp."""
    data = subprocess.run(
        [f"{BIN}/jocker", "cp", f"box:{path}", "-"], env=engine.env, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (member,) = archive
        content = archive.extractfile(member)
        assert content is not None
        return content.read().decode()


def test_out_of_a_container(shared: Engine, box: str, tmp_path: Path) -> None:
    def cp(source: str, target: str) -> None:
        done = shared.jocker("cp", f"box:{source}", f"{tmp_path}/{target}")
        assert done.stdout == "" and "Successfully copied" in done.stderr

    cp("/d/f", "new")  # a file that is not there
    assert (tmp_path / "new").read_text() == "one\n"
    cp("d/sub/g", "new")  # overwritten; a path in a container begins at /
    assert (tmp_path / "new").read_text() == "two\n"
    (tmp_path / "dir").mkdir()
    cp("/d/f", "dir")
    cp("/d/f", "dir/")
    assert (tmp_path / "dir" / "f").read_text() == "one\n"
    cp("/d", "fresh")  # made, with the content
    assert sorted(os.listdir(tmp_path / "fresh")) == ["f", "link", "sub"]
    cp("/d", "dir")  # into it
    assert (tmp_path / "dir" / "d" / "sub" / "g").read_text() == "two\n"
    assert os.readlink(tmp_path / "dir" / "d" / "link") == "sub"
    cp("/d/.", "dir")  # its content, merged
    assert sorted(os.listdir(tmp_path / "dir")) == ["d", "f", "link", "sub"]
    cp("/data/v", "v")  # what is mounted
    assert (tmp_path / "v").read_text() == "v\n"
    cp("/passwd", "passwd")  # the link itself
    assert os.readlink(tmp_path / "passwd").endswith("/etc/passwd")
    assert not [name for name in os.listdir(tmp_path) if "partial" in name]
    for source, target, said in (
        ("/d", "new", "cannot copy a directory"),
        ("/d/f", "nowhere/", "no such directory"),
        ("/d/f", "nowhere/x", "no directory"),
        ("/d/nope", "x", "there is no /d/nope"),
        ("/d/f/", "x", "not a directory"),
    ):
        done = shared.jocker("cp", f"box:{source}", f"{tmp_path}/{target}", check=False)
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1, done
    assert shared.jocker("cp", "-q", "box:/d/f", f"{tmp_path}/quiet").stderr == ""


def test_links_of_a_container_lead_nowhere_else(shared: Engine, box: str, tmp_path: Path) -> None:
    """A path through a link ends in the container, whatever the link says; -L follows it there."""
    (tmp_path / "hosts").write_text("the host's")
    if shared.jocker("inspect", "-f", "{{.State.Status}}", "box").stdout == "running\n":
        shared.jocker("exec", "box", "sh", "-c", f"busybox ln -sf {tmp_path}/hosts /abs")
    shared.jocker("cp", "-L", "box:/d/link", f"{tmp_path}/followed")
    assert (tmp_path / "followed" / "g").read_text() == "two\n"
    shared.jocker("cp", "-L", "box:/passwd", f"{tmp_path}/p")
    assert (tmp_path / "p").read_text() == read(shared, "/etc/passwd") != Path("/etc/passwd").read_text()
    refused = shared.jocker("cp", f"{tmp_path}/hosts", "box:/out/from-the-host")
    assert refused.returncode == 0
    assert not os.path.exists("/etc/from-the-host")
    assert read(shared, "/etc/from-the-host") == "the host's"


def test_into_a_container(shared: Engine, box: str, tmp_path: Path) -> None:
    (tmp_path / "src" / "sub").mkdir(parents=True)
    (tmp_path / "src" / "a").write_text("A")
    (tmp_path / "src" / "sub" / "b").write_text("B")
    os.symlink("a", tmp_path / "src" / "l")
    os.chmod(tmp_path / "src" / "a", 0o640)
    if os.geteuid() == 0:
        os.chown(tmp_path / "src" / "a", 12, 34)

    def cp(source: str, target: str, *options: str) -> None:
        shared.jocker("cp", *options, f"{tmp_path}/{source}", f"box:{target}")

    cp("src/a", "/new")
    cp("src/a", "/empty")
    cp("src/a", "/empty/renamed")
    cp("src/sub/b", "/new")
    assert (read(shared, "/new"), read(shared, "/empty/a"), read(shared, "/empty/renamed")) == ("B", "A", "A")
    cp("src", "/fresh")
    cp("src", "/empty")
    cp("src/.", "/d")
    assert read(shared, "/fresh/sub/b") == read(shared, "/empty/src/sub/b") == read(shared, "/d/sub/b") == "B"
    assert read(shared, "/d/sub/g") == "two\n"  # merged
    cp("src/a", "/data/mounted")
    assert read(shared, "/data/mounted") == "A"
    cp("src/l", "/link2")
    cp("src/l", "/followed", "-L")
    assert read(shared, "/followed") == "A"
    cp("src/a", "/kept", "-a")
    with tarfile.open(fileobj=io.BytesIO(_tar(shared, "/kept") + b"")) as archive:
        if os.geteuid() == 0:
            assert [(m.uid, m.gid, m.mode & 0o777) for m in archive] == [(12, 34, 0o640)]
    with tarfile.open(fileobj=io.BytesIO(_tar(shared, "/empty/a"))) as archive:
        assert [(m.uid, m.mode & 0o777) for m in archive] == [(0, 0o640)]
    for source, target, said in (
        ("src", "/d/f", "cannot copy a directory"),
        ("src/a", "/nowhere/", "no such directory"),
        ("src/a", "/nowhere/x", "no directory"),
        ("src/nope", "/x", "no such file"),
        ("src/a/", "/x", "not a directory"),
        ("src/sub", "/d/f/x", "directory"),
    ):
        done = shared.jocker("cp", f"{tmp_path}/{source}", f"box:{target}", check=False)
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1, done
    (tmp_path / "src" / "sub" / "b").unlink()
    (tmp_path / "src" / "sub").rmdir()
    (tmp_path / "src" / "sub").write_text("a file")
    mixed = shared.jocker("cp", f"{tmp_path}/src/.", "box:/d", check=False)
    assert mixed.returncode == 1 and "cannot overwrite directory" in mixed.stderr


def _tar(engine: Engine, path: str) -> bytes:
    return subprocess.run(
        [f"{BIN}/jocker", "cp", f"box:{path}", "-"], env=engine.env, capture_output=True, check=True
    ).stdout


def test_tars_through_pipes(shared: Engine, box: str) -> None:
    names = tarfile.open(fileobj=io.BytesIO(_tar(shared, "/d"))).getnames()  # noqa: SIM115
    assert sorted(names) == ["d", "d/f", "d/link", "d/sub", "d/sub/g"]
    assert "./f" in tarfile.open(fileobj=io.BytesIO(_tar(shared, "/d/."))).getnames()  # noqa: SIM115
    pipe = f"{BIN}/jocker cp box:/d - | gzip | {BIN}/jocker cp - box:/empty"
    subprocess.run(["sh", "-ec", pipe], env=shared.env, check=True)
    assert read(shared, "/empty/d/sub/g") == "two\n"
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as archive:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, "/"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("way/out"))
    refused = subprocess.run(
        [f"{BIN}/jocker", "cp", "-", "box:/empty"],
        env=shared.env,
        input=evil.getvalue(),
        capture_output=True,
        check=False,
    )
    assert refused.returncode == 1 and b"not a directory" in refused.stderr
    assert not os.path.exists("/out")
    for data in (b"no tar at all" * 100, b""):
        bad = subprocess.run(
            [f"{BIN}/jocker", "cp", "-", "box:/empty"],
            env=shared.env,
            input=data,
            capture_output=True,
            check=False,
        )
        assert bad.returncode == 1 and b"not a tar" in bad.stderr, bad
    file = shared.jocker("cp", "-", "box:/d/f", input="", check=False)
    assert file.returncode == 1 and "must be a directory" in file.stderr
    for wrong in (("box:/a", "box:/b"), ("/a", "/b"), ("-", "-")):
        done = shared.jocker("cp", *wrong, check=False)
        assert done.returncode == 64, done


def test_an_interrupted_copy_leaves_nothing(shared: Engine, tmp_path: Path) -> None:
    shared.jocker("run", "-d", "--name", "box", "base", "sh", "-c",
                  "busybox mkdir /big; for i in 1 2 3 4; do busybox dd if=/dev/zero of=/big/$i bs=1M count=100; done; "
                  "echo ready; sleep 1000")  # fmt: skip
    while "ready" not in shared.jocker("logs", "box").stdout:
        time.sleep(0.1)
    client = shared.popen("cp", "box:/big", f"{tmp_path}/big", stderr=subprocess.PIPE)
    while not list(tmp_path.iterdir()) and client.poll() is None:
        time.sleep(0.005)
    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=20)
    assert client.returncode == 130 and said.strip() == b"", said
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "big").write_bytes(bytes(200 << 20))
    client = shared.popen("cp", f"{tmp_path}/big", "box:/half", stderr=subprocess.PIPE)
    time.sleep(0.25)
    client.kill()
    client.communicate()
    deadline = time.monotonic() + 10
    while "partial" in shared.jocker("exec", "box", "busybox", "ls", "-a", "/").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    shared.jocker("rm", "-f", "box")


def test_read_only_and_unstarted_containers(shared: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("f")
    shared.jocker(
        "create", "--name", "ro", "--read-only", "-v", "/data", "-v", f"{tmp_path}:/bound:ro", "base"
    )
    shared.jocker("cp", f"{tmp_path}/f", "ro:/data/f")
    for target in ("/f", "/bound/g"):
        refused = shared.jocker("cp", f"{tmp_path}/f", f"ro:{target}", check=False)
        assert refused.returncode == 1 and "read-only" in refused.stderr, refused
    shared.jocker("cp", "ro:/bound/f", f"{tmp_path}/g")
    shared.jocker("cp", "ro:/data/f", f"{tmp_path}/h")
    assert (tmp_path / "g").read_text() == (tmp_path / "h").read_text() == "f"
    shared.jocker("rm", "-v", "ro")
    missing = shared.jocker("cp", "nobody:/f", str(tmp_path), check=False)
    assert missing.returncode == 1 and "no such container" in missing.stderr
