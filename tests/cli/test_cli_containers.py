"""The command, for real: containers as people use them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from engines import BIN, Engine


def test_exit_codes_are_dockers(shared: Engine) -> None:
    run = ("run", "--rm", "base")
    assert shared.jocker(*run, "sh", "-c", "exit 42", check=False).returncode == 42
    missing = shared.jocker(*run, "nope", check=False)
    assert missing.returncode == 127 and "nope" in missing.stderr and missing.stderr.count("\n") == 1
    assert shared.jocker(*run, "/etc", check=False).returncode == 126
    unknown = shared.jocker("run", "nothing", check=False)
    assert unknown.returncode == 125
    assert "jocker image create" in unknown.stderr and "jocker build" in unknown.stderr
    assert shared.jocker("run", "--bad", "base", check=False).returncode == 125
    assert shared.jocker("exec", "nobody", "true", check=False).returncode == 125
    assert shared.jocker("stop", "nobody", check=False).returncode == 1
    assert shared.jocker("psx", check=False).returncode == 64
    assert shared.jocker("ps", "-aq").stdout == ""  # --rm, and what could not be started too


def test_streams_go_their_own_ways(shared: Engine) -> None:
    done = shared.jocker("run", "--rm", "base", "sh", "-c", "echo out; echo err >&2; id")
    assert done.stdout.startswith("out\nuid=0(root)") and done.stderr == "err\n"
    done = shared.jocker("run", "--rm", "-i", "base", "cat", input="a\nb" * 50_000)
    assert done.stdout == "a\nb" * 50_000
    assert shared.jocker("run", "--rm", "base", "cat", input="unheard").stdout == ""


def test_options_reach_the_process(shared: Engine) -> None:
    done = shared.jocker(
        *("run", "--rm", "-e", "A=1", "-e", "B=x y", "-w", "/new/dir", "-u", "12:34", "base"),
        *("sh", "-c", "echo $A $B; busybox pwd; id -u; id -g"),
    )
    assert done.stdout == "1 x y\n/new/dir\n12\n34\n"
    assert shared.jocker("run", "--rm", "--entrypoint", "sh", "base", "-c", "echo e").stdout == "e\n"


def test_life_of_a_container(shared: Engine) -> None:
    identity = shared.jocker("run", "-d", "--name", "web", "base", "sleep", "100").stdout.strip()
    assert len(identity) == 64
    assert shared.jocker("ps", "-q").stdout.strip() == identity[:12]
    assert shared.jocker("exec", "web", "cat", "/etc/hostname").returncode == 0
    assert (
        shared.jocker("exec", "-i", "-e", "X=y", "web", "sh", "-c", "cat; echo $X", input="in ").stdout
        == "in y\n"
    )
    assert shared.jocker("exec", "web", "nope", check=False).returncode == 127
    assert shared.jocker("exec", "web", "sh", "-c", "exit 9", check=False).returncode == 9
    taken = shared.jocker("create", "--name", "web", "base", check=False)
    assert taken.returncode == 125 and "taken" in taken.stderr
    running = shared.jocker("rm", "web", check=False)
    assert running.returncode == 1 and "-f" in running.stderr
    shared.jocker("rename", "web", "web2")
    detail = json.loads(shared.jocker("inspect", "web2").stdout)[0]
    assert detail["Id"] == identity and detail["State"]["Running"] is True
    assert shared.jocker("inspect", "-f", "{{.State.Status}}", identity[:5]).stdout == "running\n"
    began = time.monotonic()
    shared.jocker("kill", "-s", "KILL", "web2")
    assert shared.jocker("wait", "web2").stdout == "137\n"
    assert time.monotonic() - began < 60
    assert "Exited (137)" in shared.jocker("ps", "-a").stdout
    shared.jocker("start", "web2")
    shared.jocker("restart", "-t", "0", "web2")
    shared.jocker("rm", "-f", "web2")
    assert shared.jocker("ps", "-aq").stdout == ""


def test_stop_lets_the_process_end_by_itself(shared: Engine) -> None:
    shared.jocker(
        "run",
        "-d",
        "--name",
        "polite",
        "base",
        "sh",
        "-c",
        "trap 'exit 3' TERM; echo up; while true; do sleep 0.05; done",
    )
    while "up" not in shared.jocker("logs", "polite").stdout:
        time.sleep(0.05)
    shared.jocker("stop", "-t", "60", "polite")
    assert shared.jocker("wait", "polite").stdout == "3\n"
    shared.jocker("rm", "polite")


def test_kill_inspect_and_rm_are_answered_while_a_stop_waits(shared: Engine) -> None:
    shared.jocker(
        "run", "-d", "--name", "deaf", "base", "sh", "-c", "trap '' TERM; while true; do sleep 0.1; done"
    )
    time.sleep(0.3)
    stopping = shared.popen("stop", "-t", "60", "deaf", stdout=subprocess.DEVNULL)
    while "stopping" not in shared.jocker("inspect", "-f", "{{.State.Status}}", "deaf").stdout:
        time.sleep(0.05)
    shared.jocker("rm", "-f", "deaf")
    assert stopping.wait(10) == 0


def test_logs(shared: Engine) -> None:
    shared.jocker(
        "run",
        "--name",
        "talker",
        "base",
        "sh",
        "-c",
        "for i in 1 2 3; do echo line $i; done; echo bad >&2; busybox printf rest",
    )
    logs = shared.jocker("logs", "talker")
    assert logs.stdout == "line 1\nline 2\nline 3\nrest" and logs.stderr == "bad\n"
    assert shared.jocker("logs", "-n", "1", "talker").stdout == "rest"
    stamped = shared.jocker("logs", "-t", "talker").stdout.splitlines()
    assert stamped[0].endswith("Z line 1")
    assert shared.jocker("logs", "-f", "talker").stdout == logs.stdout
    assert shared.jocker("logs", "--since", "1h", "talker").stdout == logs.stdout
    assert shared.jocker("logs", "--until", "1h", "talker").stdout == ""
    shared.jocker("rm", "talker")


def test_following_a_log_ends_with_the_container(shared: Engine) -> None:
    shared.jocker(
        "run",
        "-d",
        "--name",
        "counter",
        "base",
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done",
    )
    assert shared.jocker("logs", "-f", "counter").stdout == "1\n2\n3\n4\n5\n"
    shared.jocker("rm", "-f", "counter")


def test_signals_are_passed_on(shared: Engine) -> None:
    client = shared.popen(
        "run",
        "--rm",
        "base",
        "sh",
        "-c",
        "trap 'echo caught; exit 4' INT; echo ready; while true; do sleep 0.05; done",
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None and client.stdout.readline() == b"ready\n"
    client.send_signal(signal.SIGINT)
    assert client.wait(20) == 4 and client.stdout.read() == b"caught\n"
    client.stdout.close()


def test_who_is_told_to_end_three_times_is_left(shared: Engine) -> None:
    client = shared.popen("run", "--name", "deaf", "base", "sh", "-c", "trap '' INT; echo ready; exec sleep 100",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert client.stdout is not None and client.stdout.readline() == b"ready\n"
    shared.jocker("exec", "deaf", "true")
    for _ in range(3):
        assert client.poll() is None
        client.send_signal(signal.SIGINT)
        time.sleep(0.2)  # two at once would be one
    assert b"`jocker kill` ends it" in client.communicate(timeout=20)[1] and client.returncode == 130
    assert shared.rpc("container.inspect", container="deaf")["state"]["status"] == "running"
    shared.jocker("rm", "-f", "deaf")


def test_a_reader_that_leaves_ends_the_command_quietly(shared: Engine) -> None:
    for command in ("run --rm base sh -c 'while true; do echo y; done' | head -n 1", "ps -a | true"):
        command = f"{BIN}/jocker {command}; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", command], env=shared.env, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.stdout.removeprefix("y\n") == "141\n" and done.stderr == ""
    for container in shared.jocker("ps", "-q").stdout.split():  # it runs on, as with docker
        shared.jocker("rm", "-f", container, check=False)


def test_ambiguity_lists_the_candidates(shared: Engine) -> None:
    made = [shared.jocker("create", "base").stdout.strip() for _ in range(17)]
    by_digit: dict[str, list[str]] = {}
    for identity in made:
        by_digit.setdefault(identity[0], []).append(identity)
    digit, several = next(item for item in by_digit.items() if len(item[1]) > 1)
    refused = shared.jocker("rm", digit, check=False)
    assert refused.returncode == 1 and all(identity[:16] in refused.stderr for identity in several)
    shared.jocker("rm", *made)


def test_volumes(shared: Engine) -> None:
    assert shared.jocker("volume", "create", "data").stdout == "data\n"
    shared.jocker("run", "--rm", "-v", "data:/data", "base", "sh", "-c", "echo kept > /data/f")
    assert shared.jocker("run", "--rm", "-v", "data:/data:ro", "base", "cat", "/data/f").stdout == "kept\n"
    written = shared.jocker(
        "run", "--rm", "-v", "data:/data:ro", "base", "sh", "-c", "echo x > /data/f", check=False
    )
    assert written.returncode != 0
    shared.jocker("create", "--name", "holder", "-v", "data:/data", "base")
    used = shared.jocker("volume", "rm", "data", check=False)
    assert used.returncode == 1 and "in use" in used.stderr
    shared.jocker("rm", "holder")
    shared.jocker("run", "--rm", "-v", "/anonymous", "base", "true")
    assert shared.jocker("volume", "ls", "-q").stdout == "data\n"
    assert shared.jocker("volume", "rm", "data").stdout == "data\n"


def test_bind_mounts(shared: Engine, tmp_path: object) -> None:
    os.makedirs(f"{tmp_path}/d")
    shared.jocker("run", "--rm", "-v", f"{tmp_path}/d:/mnt", "base", "sh", "-c", "echo hi > /mnt/f")
    with open(f"{tmp_path}/d/f", encoding="utf-8") as file:
        assert file.read() == "hi\n"


def test_a_container_has_a_terminal_that_follows_ours(shared: Engine) -> None:
    import fcntl
    import pty
    import struct
    import termios

    def read_until(text: bytes) -> bytes:
        seen = b""
        while text not in seen:
            seen += os.read(ours, 4096)
        return seen

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
    before = termios.tcgetattr(theirs)
    client = shared.popen("run", "--rm", "-it", "base", "sh", stdin=theirs, stdout=theirs, stderr=theirs)
    read_until(b"# ")
    os.write(ours, b"tty; stty size; echo do''ne\n")
    seen = read_until(b"done\r\n")
    assert b"/dev/pts/" in seen and b"31 97" in seen
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    client.send_signal(signal.SIGWINCH)
    for _ in range(50):
        os.write(ours, b"stty size; echo do''ne\n")
        if b"40 120" in read_until(b"done\r\n"):
            break
    else:
        pytest.fail("the size did not follow")
    os.write(ours, b"sleep 100\n")
    time.sleep(0.3)
    os.write(ours, b"\x03")
    os.write(ours, b"exit 5\n")
    while client.poll() is None:
        try:
            os.read(ours, 4096) if b"" else time.sleep(0.05)
        except OSError:
            break
    assert client.wait(10) == 5
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
