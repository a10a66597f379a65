"""Limits and security, seen from inside the container and from the host's control groups. The bar is Docker's."""

from __future__ import annotations

import glob
import json
import os
import time
from typing import Any

import pytest

from engines import Engine


def sh(engine: Engine, *options: str, script: str, code: int = 0) -> str:
    done = engine.jocker("run", "--rm", *options, "base", "busybox", "sh", "-c", script, check=False)
    assert done.returncode == code, done
    return done.stdout


def inspect(engine: Engine, name: str) -> Any:
    return engine.rpc("container.inspect", container=name)


def group_file(container: str, *names: str) -> str:
    """The content of the first of these files in the container's control groups."""
    for name in names:
        found = glob.glob(f"/sys/fs/cgroup/**/jocker-*-{container}/{name}", recursive=True)
        if found:
            with open(min(found, key=lambda path: "/unified/" in path), encoding="ascii") as file:
                return file.read().strip()
    raise AssertionError(names)


def linux_only(engine: Engine) -> None:
    if engine.platform != "linux":
        pytest.skip("chroot has none of it, and says so: test_what_a_driver_lacks_is_refused")


def test_what_a_driver_lacks_is_refused(shared: Engine) -> None:
    """Never silently ignored: one line with the option, and who has it."""
    if shared.platform == "portable":
        for options in (
            ["--memory", "64m"],
            ["--cpus", "1"],
            ["--pids-limit", "5"],
            ["--cap-drop", "ALL"],
            ["--privileged"],
            ["--device", "/dev/null"],
            ["--sysctl", "kernel.msgmax=1"],
            ["--security-opt", "seccomp=unconfined"],
        ):
            done = shared.jocker("create", *options, "base", check=False)
            assert done.returncode == 125 and done.stderr.count("\n") == 1, done
            assert options[0] in done.stderr and "; oci" in done.stderr
    for options, said in (
        (["--memory", "1k"], "too few"),
        (["--memory", "64m", "--memory-swap", "32m"], "must not be less"),
        (["--memory", "much"], "must be a size"),
        (["--cpuset-cpus", "x"], "must be a list"),
        (["--cpuset-cpus", "0,999"], "there is no processor 999; there are 0-"),
        (["--cpus", "999"], "the processors there are"),
        (["--cpus", "1", "--cpu-quota", "5000"], "neither with --cpus"),
        (["--nosuch"], "No such option '--nosuch'"),
        (["--ulimit", "nope=1"], "there are"),
        (["--ulimit", "nofile=5:2"], "soft limit"),
        (["--cap-add", "nope"], "no capability"),
        (["--security-opt", "seccomp=/etc/hostname"], "no seccomp profile"),
        (["--security-opt", "apparmor=x"], "leave it out"),
        (["--pid", "container:x"], "only host"),
    ):
        done = shared.jocker("create", *options, "base", check=False)
        assert done.returncode == 125 and done.stderr.count("\n") == 1, done
        assert said in done.stderr or "; oci" in done.stderr, done
    assert shared.jocker("ps", "-aq").stdout == ""


def test_inspect_speaks_dockers_words_too(shared: Engine) -> None:
    shared.jocker(
        "create", "--name", "d", "--ulimit", "nofile=5:6", "--read-only", "-v", "/data:ro", "--rm", "base"
    )
    said = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}} {{.HostConfig.AutoRemove}} {{range .Mounts}}{{.Destination}} {{.RW}}{{end}}"
    assert shared.jocker("inspect", "-f", said, "d").stdout == "true 0 true /data false\n"
    (detail,) = json.loads(shared.jocker("inspect", "d").stdout)
    assert detail["HostConfig"]["Ulimits"] == [{"Name": "nofile", "Soft": 5, "Hard": 6}]
    assert detail["Limits"]["Ulimits"] and detail["Security"]["ReadOnly"] is True
    shared.jocker("rm", "-v", "d")


def test_limits_of_each_process(shared: Engine) -> None:
    said = sh(
        shared,
        *("--ulimit", "nofile=100:200", "--ulimit", "core=0", "--oom-score-adj", "77", "--shm-size", "1m"),
        *("--security-opt", "no-new-privileges", "--group-add", "77"),
        script="ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj; df -k /dev/shm | tail -n 1 |"
        " tr -s ' ' | cut -d ' ' -f 2; grep NoNewPrivs /proc/self/status | tr -d '\\t'; id -G",
    )
    assert said.split() == ["100", "200", "0", "77", "1024", "NoNewPrivs:1", "0", "77"]
    said = sh(shared, "--shm-size", "1m", script="dd if=/dev/zero of=/dev/shm/f bs=64k count=20 2>&1; true")
    assert "No space left" in said


def test_a_read_only_root(shared: Engine) -> None:
    said = sh(
        shared,
        *("--read-only", "-v", "/data", "--tmpfs", "/run:size=1m,mode=700"),
        script="echo x > /x; mkdir /etc/y; echo x > /data/x && echo x > /run/x && echo written; stat -c %a /run;"
        " df -k /run | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2",
    )
    assert said.split() == ["written", "700", "1024"]


def test_memory_is_held_and_its_end_is_told(shared: Engine) -> None:
    linux_only(shared)
    done = shared.jocker(
        "run", "--name", "hungry", "-m", "32m", "base", "busybox", "tail", "/dev/zero", check=False
    )
    assert done.returncode == 137
    state = inspect(shared, "hungry")["state"]
    assert state["oom_killed"] is True and state["exit_code"] == 137
    assert shared.jocker("inspect", "-f", "{{.State.OOMKilled}}", "hungry").stdout == "true\n"
    said = shared.jocker("events", "--since", "1m", "--until", "0s", "-f", "container=hungry").stdout
    assert " oom " in said and "Exited (137)" in shared.jocker("ps", "-a").stdout
    shared.jocker("rm", "hungry")


def test_processors_and_processes_are_held(shared: Engine) -> None:
    """A loop on a fifth of a processor is throttled; a fork bomb of 40 gets no further than its limit."""
    linux_only(shared)
    options = ("--cpus", "0.2", "--cpu-shares", "300", "--cpuset-cpus", "0", "--pids-limit", "10")
    bomb = "i=0; while [ $i -lt 40 ]; do sleep 100 & i=$((i+1)); done"
    script = f"({bomb}) 2>&1; while :; do :; done"
    container = shared.jocker("run", "-d", *options, "base", "sh", "-c", script).stdout.strip()
    assert "fork" in _until(lambda: shared.jocker("logs", container).stdout)
    assert group_file(container, "cpu.cfs_quota_us", "cpu.max").split()[0] == "20000"
    assert group_file(container, "cpuset.cpus") == "0"
    assert group_file(container, "pids.max") == "10"

    def throttled() -> int:
        rows = dict(line.split() for line in group_file(container, "cpu.stat").splitlines())
        return int(rows["nr_throttled"])

    _until(lambda: throttled() > 0)
    assert int(group_file(container, "pids.current")) <= 10
    assert sum(int(line.split()[1]) for line in group_file(container, "pids.events").splitlines()) > 0
    figures = json.loads(shared.jocker("stats", "--no-stream", "--format", "json", container).stdout)
    assert figures["PIDs"] == group_file(container, "pids.current")
    assert 0 < float(figures["CPUPerc"].rstrip("%")) < 100
    shared.jocker("rm", "-f", container)


def test_privileges_are_as_asked_for(shared: Engine) -> None:
    linux_only(shared)
    caps = "grep -E 'Cap(Eff|Bnd)|Seccomp:' /proc/self/status | cut -f 2"
    assert sh(shared, "--cap-drop", "ALL", script=caps).split() == ["0" * 16, "0" * 16, "2"]
    said = sh(shared, "--cap-drop", "ALL", "--cap-add", "net_admin", "--cap-add", "CAP_CHOWN", script=caps)
    assert said.split() == ["0000000000001001"] * 2 + ["2"]
    with open("/proc/self/status", encoding="ascii") as file:
        ours = next(line.split()[1] for line in file if line.startswith("CapBnd"))
    assert sh(shared, "--cap-add", "ALL", script=caps).split()[0] == ours
    assert sh(shared, "--privileged", script=caps).split() == [ours, ours, "0"]
    mount = (
        "mkdir -p /m; mount -t tmpfs none /m 2>/dev/null && echo mounted; cat /proc/timer_list 2>&1 | wc -l"
    )
    assert sh(shared, script=mount).split() == ["0"]  # neither the capability nor what is masked
    assert sh(shared, "--cap-add", "SYS_ADMIN", script=mount).split() == ["mounted", "0"]
    assert sh(shared, "--privileged", script=mount).split()[0] == "mounted"


def test_a_seccomp_profile_refuses_what_it_says(shared: Engine, tmp_path: Any) -> None:
    linux_only(shared)
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
            {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_BPF"]}},
        ],
    }
    (tmp_path / "p.json").write_text(json.dumps(profile))
    script = (
        "mkdir /d 2>&1; touch /f; chmod 600 /f && echo chmod; unshare -U true 2>/dev/null && echo unshared"
    )
    said = sh(shared, "--security-opt", f"seccomp={tmp_path}/p.json", script=script, code=0)
    assert "not supported" in said and "chmod" in said and "unshared" in said
    assert "unshared" not in sh(shared, script=script, code=1)
    assert (
        sh(shared, "--security-opt", "seccomp=unconfined", script="grep Seccomp: /proc/self/status").split()[
            1
        ]
        == "0"
    )


def test_devices_are_there_when_given(shared: Engine) -> None:
    linux_only(shared)
    use = "head -c 1 /dev/x >/dev/null 2>&1 && echo read; : 2>/dev/null > /dev/x && echo written; true"
    assert sh(shared, script="ls /dev/loop-control 2>/dev/null; true") == ""
    assert sh(shared, "--device", "/dev/zero:/dev/x", script=use).split() == ["read", "written"]
    sneaked = "mknod /dev/n c 10 237 && (: < /dev/n) 2>/dev/null && echo opened; true"
    assert sh(shared, script=sneaked) == ""
    given = ("--device", "/dev/loop-control:/dev/n:r")
    assert (
        sh(shared, *given, script=": < /dev/n && echo read; (: > /dev/n) 2>/dev/null && echo written; true")
        == "read\n"
    )
    missing = shared.jocker("run", "--rm", "--device", "/dev/nothing", "base", "true", check=False)
    assert missing.returncode == 125 and "not a device" in missing.stderr


def test_namespaces_of_the_host_and_parameters(shared: Engine) -> None:
    linux_only(shared)
    assert sh(shared, "--sysctl", "kernel.msgmax=9999", script="cat /proc/sys/kernel/msgmax") == "9999\n"
    refused = shared.jocker("run", "--rm", "--sysctl", "kernel.panic=1", "base", "true", check=False)
    assert refused.returncode == 125 and "kernel.panic" in refused.stderr
    said = sh(shared, *("--pid", "host", "--uts", "host", "--ipc", "host"),
              script="for n in pid uts ipc; do readlink /proc/self/ns/$n; done")  # fmt: skip
    assert said.split() == [os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "uts", "ipc")]
    container = shared.jocker(
        "run", "-d", "--pid", "host", "base", "sh", "-c", "sleep 1000 & sleep 1000"
    ).stdout.strip()
    shared.jocker("rm", "-f", container)  # both, though no namespace takes the second one with the first


def test_limits_change_while_it_runs_and_are_kept(own: Engine) -> None:
    if own.platform == "portable":
        own.jocker("run", "-d", "--name", "c", "base", "sleep", "1000")
        refused = own.jocker("update", "--memory", "64m", "c", check=False)
        assert refused.returncode == 1 and "; oci" in refused.stderr
        own.jocker("update", "--restart", "always", "c")
        assert inspect(own, "c")["restart_policy"]["name"] == "always"
        return
    container = own.jocker("run", "-d", "--name", "c", "-m", "64m", "base", "sleep", "1000").stdout.strip()
    own.jocker(
        "update", "-m", "128m", "--cpus", "0.5", "--pids-limit", "30", "--restart", "on-failure:2", "c"
    )

    def held() -> tuple[str, str, str]:
        return (
            group_file(container, "memory.limit_in_bytes", "memory.max"),
            group_file(container, "cpu.cfs_quota_us", "cpu.max").split()[0],
            group_file(container, "pids.max"),
        )

    assert held() == (str(128 << 20), "50000", "30")
    own.kill()
    own.start()
    assert inspect(own, "c")["limits"] == {
        "memory": 128 << 20,
        "cpus": 0.5,
        "pids": 30,
    }
    own.jocker("update", "--cpus", "0", "--pids-limit", "-1", "c")
    assert held() == (str(128 << 20), "-1" if os.path.isdir("/sys/fs/cgroup/cpu") else "max", "max")
    own.jocker("restart", "-t", "0", "c")
    assert held()[0] == str(128 << 20)
    for arguments, said in ((["--memory", "1k"], "too few"), ([], "say what to change")):
        done = own.jocker("update", *arguments, "c", check=False)
        assert done.returncode != 0 and said in done.stderr
    own.jocker("stop", "-t", "0", "c")
    own.jocker("update", "-m", "32m", "c")
    own.jocker("start", "c")
    assert held()[0] == str(32 << 20)


def _until(holds: Any, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
