"""The engine dies or is stopped, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from engines import BIN, Engine


def test_a_container_outlives_a_killed_engine(own: Engine) -> None:
    script = "n=0; while [ $n -lt 40 ]; do n=$((n+1)); echo line $n; sleep 0.05; done; exit 7"
    own.jocker("run", "-d", "--name", "ticker", "base", "sh", "-c", script)
    own.kill()
    own.start()
    assert own.jocker("wait", "ticker").stdout == "7\n"
    assert own.jocker("logs", "ticker").stdout.splitlines() == [f"line {n}" for n in range(1, 41)]


def test_a_container_that_ended_meanwhile_keeps_its_exit_code(own: Engine) -> None:
    own.jocker("run", "-d", "--name", "short", "base", "sh", "-c", "sleep 0.5; echo bye; exit 6")
    own.kill()
    time.sleep(1.5)
    own.start()
    assert own.jocker("wait", "short").stdout == "6\n"
    assert own.jocker("logs", "short").stdout == "bye\n"


def test_an_orderly_stop_leaves_containers_running(own: Engine) -> None:
    own.jocker("run", "-d", "--name", "sleeper", "base", "sleep", "100")
    assert own.kill(signal.SIGTERM) == 0
    assert not os.path.exists(own.socket)
    own.start()
    assert "Up" in own.jocker("ps").stdout
    assert own.jocker("exec", "sleeper", "sh", "-c", "echo there").stdout == "there\n"


def test_a_lost_shim_takes_only_its_container(own: Engine) -> None:
    own.jocker("run", "-d", "--name", "victim", "base", "sleep", "100")
    other = own.jocker("run", "-d", "--name", "other", "base", "sleep", "100").stdout
    detail = own.rpc("container.inspect", container="victim")
    with open(f"/proc/{detail['state']['pid']}/status", encoding="utf-8") as file:
        shim = next(int(line.split()[1]) for line in file if line.startswith("PPid:"))
    os.kill(shim, signal.SIGKILL)
    assert own.jocker("wait", "victim").stdout == "137\n"
    assert own.rpc("container.inspect", container="victim")["state"]["error"] == "shim lost"
    assert own.jocker("ps", "-q", "--no-trunc").stdout == other
    assert not os.path.exists(os.path.join(own.root, "run", detail["id"][:12])), "its socket is left"


def test_the_zygote_may_die(own: Engine) -> None:
    own.jocker("run", "-d", "--name", "sleeper", "base", "sleep", "100")
    tree = own.rpc("system.tree")
    zygote = next(node for part in tree["children"] for node in part["children"] if node["name"] == "zygote")
    os.kill(int(zygote["detail"].split()[1]), signal.SIGKILL)
    for _ in range(100):
        if own.jocker("run", "--rm", "base", "true", check=False).returncode == 0:
            break
        time.sleep(0.05)
    assert "Up" in own.jocker("ps").stdout
    log = own.log()
    assert "ZygoteDied" in log
    with open(os.path.join(own.root, "engine.log"), "w", encoding="utf-8"):
        pass  # that crash was wanted


def test_a_second_engine_is_refused(own: Engine) -> None:
    second = subprocess.run(
        [os.path.join(BIN, "jocker-engine"), "--root", own.root, "--socket", own.socket + "2"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert second.returncode == 1 and "another engine" in second.stderr and second.stderr.count("\n") == 1


def test_what_was_half_made_is_gone_after_a_restart(own: Engine) -> None:
    building = own.popen("build", "-", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert building.stdin is not None and building.stderr is not None
    building.stdin.write(b"FROM base\nRUN echo begun; sleep 30\n")
    building.stdin.close()
    while b"begun\n" not in (line := building.stderr.readline()) or b"RUN" in line:
        assert line
    own.kill()
    building.wait(20)
    building.stderr.close()
    own.start()
    storage = "overlay" if own.platform == "linux" else "copy"
    for _ in range(100):
        if not os.listdir(os.path.join(own.root, storage, "trees")):
            break
        time.sleep(0.05)
    assert os.listdir(os.path.join(own.root, storage, "trees")) == []
    assert len(os.listdir(os.path.join(own.root, storage, "layers"))) == 1
