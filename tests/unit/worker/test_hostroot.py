"""Roots made of this host's programs: they run inside, and the same host gives the same root."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need
from jocker_engine.platform.worker.hostroot import HostRootError, host_root

LINUX = sys.platform == "linux"


def run(root: Path, *argv: str, user: int | None = None) -> str:
    """What a program prints inside, as root or another user."""
    need(os.geteuid() == 0, "needs root for chroot")

    def enter() -> None:
        os.chroot(root)
        os.chdir("/")
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)

    done = subprocess.run(
        argv, preexec_fn=enter, env={"PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "xterm"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a shell and a Python, made once."""
    root = tmp_path_factory.mktemp("big")
    host_root(["sh", "python3", "id", "ls"], str(root))
    return root


def test_a_shell(big: Path) -> None:
    assert run(big, "/bin/sh", "-c", "echo $((6 * 7))") == "42"
    assert run(big, "/bin/sh", "-c", "id -un; id -u", user=65534).split() == ["nobody", "65534"]


def test_a_python_with_its_library(big: Path) -> None:
    code = "import ssl, json, sqlite3, ctypes, hashlib, asyncio, lzma; c = sqlite3.connect(':memory:')"
    code += "; print(c.execute('select 42').fetchone()[0])"
    assert run(big, "/bin/sh", "-c", f'python3 -c "{code}"') == "42"
    assert run(big, "/bin/sh", "-c", 'python3 -c "import json; print(json.dumps([1]))"', user=1000) == "[1]"


def test_only_what_is_needed(big: Path) -> None:
    names = {path.name for path in big.rglob("*")}
    assert not names & {"test", "tests", "idlelib", "tkinter", "pip"}
    assert all(not list(path.iterdir()) for path in big.rglob("site-packages"))
    size = sum(path.lstat().st_size for path in big.rglob("*") if path.is_file() and not path.is_symlink())
    assert size < 200 << 20


def test_the_furniture(big: Path) -> None:
    modes = {
        "tmp": 0o1777,
        "var/tmp": 0o1777,
        "etc": 0o755,
        "proc": 0o555,
        "dev": 0o755,
        "usr/local/bin": 0o755,
        ".": 0o755,
    }
    assert {name: stat.S_IMODE((big / name).stat().st_mode) for name in modes} == modes
    assert (big / "etc" / "passwd").read_text().startswith("root:x:0:0:root:/root:/bin/sh\n")
    assert (big / "etc" / "hosts").read_bytes() == (big / "etc" / "resolv.conf").read_bytes() == b""
    for name in ("bin", "sbin", "lib", "lib64"):
        if os.path.islink(f"/{name}"):
            assert os.readlink(big / name) == os.readlink(f"/{name}")
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in big.rglob("*")}
    assert owners == {(os.geteuid(), os.getegid())}


def facts(root: Path) -> list[tuple[object, ...]]:
    return sorted(
        (str(path.relative_to(root)), path.lstat().st_mode, path.lstat().st_mtime_ns,
         path.read_bytes() if path.is_file() and not path.is_symlink() else None)
        for path in root.rglob("*")
    )  # fmt: skip


def test_the_same_host_gives_the_same_root(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        host_root(["sh", "ls", "sh"], str(tmp_path / name))
    assert facts(tmp_path / "a") == facts(tmp_path / "b")
    assert stat.S_IMODE((tmp_path / "a" / "root").stat().st_mode) == 0o700


def test_a_static_program(tmp_path: Path) -> None:
    need(shutil.which("busybox"), "busybox is not installed")
    host_root(["busybox"], str(tmp_path))
    assert run(tmp_path, "/bin/busybox", "echo", "hello") == "hello"


def test_an_editor_has_its_terminals(tmp_path: Path) -> None:
    need(shutil.which("vi"), "vi is not installed")
    host_root(["vi", "sh"], str(tmp_path))
    run(
        tmp_path,
        "/bin/sh",
        "-c",
        "vi -es -c 'q!'" if os.path.realpath("/usr/bin/vi").endswith("vim.basic") else "true",
    )
    libraries = {path.name for path in tmp_path.rglob("lib*")}
    if LINUX and any(name.startswith(("libtinfo", "libncurses")) for name in libraries):
        found = {path.name for path in tmp_path.rglob("terminfo/*/*")}
        assert {"xterm", "screen", "tmux", "linux", "vt100"} <= found


def test_scripts_bring_their_interpreters(tmp_path: Path) -> None:
    tools, root = tmp_path / "tools", tmp_path / "root"
    tools.mkdir()
    root.mkdir()
    for name, text in (
        ("one", "#!/bin/sh\necho one $(two)\n"),
        ("two", "#!/usr/bin/env -S sh -e\necho two\n"),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    host_root([str(tools / "one"), str(tools / "two")], str(root))
    assert os.readlink(root / "usr" / "local" / "bin" / "one") == str(tools / "one")
    assert run(root, "/bin/sh", "-c", "one") == "one two"


def test_a_python_behind_a_shim_or_in_a_virtual_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims, root = tmp_path / "shims", tmp_path / "root"
    shims.mkdir()
    root.mkdir()
    (shims / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (shims / "python3").chmod(0o755)
    monkeypatch.setenv("PATH", str(shims), prepend=os.pathsep)
    host_root(["python3"], str(root))
    assert not (root / str(shims)[1:]).exists()
    python = "/usr/local/bin/python3"
    python = python if (root / python[1:]).is_symlink() else "/usr/bin/python3"
    assert run(root, python, "-c", "import sys, json; print(sys.prefix)") == sys.base_prefix


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("no-such-program", "program 'no-such-program' is not in PATH on this host"),
        ("/etc/passwd", "program '/etc/passwd' is not an executable file on this host"),
        ("./sh", "program './sh': give a name or an absolute path"),
    ],
)
def test_a_missing_program_is_one_line(tmp_path: Path, program: str, message: str) -> None:
    with pytest.raises(HostRootError) as caught:
        host_root(["sh", program], str(tmp_path))
    assert str(caught.value) == message


def test_a_python_that_does_not_run_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "python9").write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    (tmp_path / "python9").chmod(0o755)
    with pytest.raises(HostRootError, match=r"^program '.*python9': .* does not run: broken$"):
        host_root([str(tmp_path / "python9")], str(tmp_path / "root"))
