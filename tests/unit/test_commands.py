"""Running commands of the operating system, and workers: what they get, how they end, what an error says."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
import trio

from jocker_engine.platform.commands import Commands, PlatformError
from jocker_engine.platform.work import work
from jocker_protocol.errors import PlatformFailed, from_wire

LIMIT = 30
"""Seconds after which a test has hung."""


async def test_what_comes_back() -> None:
    done = await Commands().run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.exit_code, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert done.argv == ("sh", "-c", "echo out; echo err >&2; exit 3")
    done = await Commands().run(["printf", r"a\377b"])
    assert done.stdout == "a\udcffb"


async def test_what_a_command_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty standard input or ours, the C locale, nothing of the engine's environment, no shell."""
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    done = await Commands().run(["env"], env={"MORE": "1"})
    variables = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert sorted(variables) == ["LC_ALL", "MORE", "PATH"]
    assert variables["LC_ALL"] == "C"
    assert (await Commands().run(["cat"])).stdout == ""
    assert (await Commands().run(["cat"], input=b"given\n")).stdout == "given\n"
    assert (await Commands().run(["true"], input=b"x" * (1 << 20))).exit_code == 0
    assert (await Commands().run(["echo", "$HOME; `id` *"])).stdout == "$HOME; `id` *\n"


async def test_failure() -> None:
    argv = ["sh", "-c", "echo one >&2; echo two >&2; exit 4"]
    with pytest.raises(PlatformError) as caught:
        await Commands().run(argv)
    error = caught.value
    assert error.message == "sh failed with exit status 4: one two"
    assert (error.argv, error.exit_code, error.stderr) == (tuple(argv), 4, "one\ntwo\n")
    there = from_wire(error.to_wire())
    assert isinstance(there, PlatformFailed)
    assert there.data == {"argv": argv, "exit_code": 4, "stderr": "one\ntwo\n"}


async def test_a_failure_of_many_words() -> None:
    with pytest.raises(PlatformError) as caught:
        await Commands().run(["sh", "-c", "yes | head -c 1000000 >&2; echo end >&2; exit 1"])
    assert caught.value.stderr.endswith("y\nend\n")
    assert len(caught.value.message) < 5000


async def test_a_program_that_is_not_there() -> None:
    with pytest.raises(PlatformError, match=r"^no-such-program: cannot be run: No such file or directory$"):
        await Commands().run(["no-such-program", "x"])


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def family(path: Path) -> list[int]:
    """The ids that the script below has written, when both are there."""
    with trio.fail_after(LIMIT):
        while not path.exists() or len(path.read_text().split()) < 2:
            await trio.sleep(0.01)
    return [int(word) for word in path.read_text().split()]


SCRIPT = 'trap "" TERM; sleep 100 & echo $$ $! > "$1"; wait'


async def test_out_of_time(tmp_path: Path) -> None:
    """Its whole group is killed, also who ignores what can be ignored."""
    path = tmp_path / "pids"
    with pytest.raises(PlatformError, match=r"^sh did not end within 0\.5 s and was killed$"):
        await Commands().run(["sh", "-c", SCRIPT, "sh", str(path)], timeout=0.5)
    with trio.fail_after(LIMIT):
        for pid in await family(path):
            while not gone(pid):
                await trio.sleep(0.01)


async def test_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "pids"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Commands().run, ["sh", "-c", SCRIPT, "sh", str(path)])
        pids = await family(path)
        nursery.cancel_scope.cancel()
    with trio.fail_after(LIMIT):
        for pid in pids:
            while not gone(pid):
                await trio.sleep(0.01)


async def test_commands_hold_the_lock(tmp_path: Path) -> None:
    """Until the last of them has ended, also when the engine has closed its own descriptor."""
    path, pids = tmp_path / "lock", tmp_path / "pids"
    mine, other = (os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC) for _ in range(2))
    fcntl.flock(mine, fcntl.LOCK_SH)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Commands(mine).run, ["sh", "-c", SCRIPT, "sh", str(pids)])
        await family(pids)
        os.close(mine)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        nursery.cancel_scope.cancel()
    with trio.fail_after(LIMIT):
        while True:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await trio.sleep(0.01)
    os.close(other)


async def test_work(tmp_path: Path) -> None:
    """Names are bytes: what is no UTF-8 goes there and back."""
    tree = os.fsdecode(bytes(tmp_path) + b"/tree-\xff")
    os.mkdir(tree)
    Path(os.fsdecode(os.fsencode(tree) + b"/\xfe\n")).touch()
    answer = await work(Commands(), "compare_trees", tree=tree, parent=None)
    assert answer == {"changes": [["A", "/\udcfe\n"]]}
    assert await work(Commands(), "remove_tree", path=tree) == {"removed": 2}


async def test_errors_of_work(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await work(Commands(), "tree_size", path=str(tmp_path / "nothing"))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(tmp_path / "nothing"))
    with pytest.raises(PlatformError, match=r"^this is not a tar archive"):
        await work(Commands(), "import_tar", tar="/dev/null", target=str(tmp_path))
    with pytest.raises(PlatformError, match=r"^worker tree_size crashed: TypeError: .*unexpected keyword"):
        await work(Commands(), "tree_size", wrong=1)
    with pytest.raises(PlatformError, match=r"^worker nothing crashed: KeyError"):
        await work(Commands(), "nothing")


@pytest.mark.parametrize("heeds", [True, False])
async def test_a_stream_that_is_not_wanted_any_more(tmp_path: Path, heeds: bool) -> None:
    """It may take away what it has half made; who does not heed that is killed."""
    half, pids = tmp_path / "half", tmp_path / "pids"
    tidy = f"trap 'rm {half}; exit 1' TERM; echo > {half}; echo $$ > {pids}; while :; do sleep 0.05; done"
    argv = ["sh", "-c", tidy] if heeds else ["sh", "-c", SCRIPT, "sh", str(pids)]
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Commands().stream, argv)
            while not pids.exists() or not pids.read_text().endswith("\n"):
                await trio.sleep(0.01)
            found = [int(pid) for pid in pids.read_text().split()]
            nursery.cancel_scope.cancel()
        assert not half.exists()
        for pid in found:
            while not gone(pid):
                await trio.sleep(0.01)
