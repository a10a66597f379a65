"""Control groups, the seccomp profile, and what is said where OCI runtimes cannot be used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need
from jocker_engine.platform.commands import Commands
from jocker_engine.platform.linux import cgroup, oci
from jocker_engine.platform.linux.seccomp import profile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="for Linux")

GROUP = f"/jocker-test-{os.getpid()}"


def groups() -> list[Path]:
    top = Path(cgroup.MOUNTS)
    return [*top.glob(GROUP[1:]), *top.glob(f"*{GROUP}")]


async def test_a_control_group_is_removed_with_all_in_it() -> None:
    why = "needs root" if os.geteuid() else cgroup.why_not_writable()
    need(not why, why)
    top = Path(cgroup.MOUNTS)
    parent = top if cgroup.kind() == "v2" else next(iter(sorted(top.glob("*/cgroup.procs")))).parent
    (parent / GROUP[1:] / "below").mkdir(parents=True)
    processes = [subprocess.Popen(["sleep", "100"]) for _ in range(2)]  # noqa: ASYNC220
    try:
        for process, path in zip(processes, ("", "below"), strict=True):
            procs = parent / GROUP[1:] / path / "cgroup.procs"
            if path and cgroup.kind() == "v2":
                continue
            procs.write_text(str(process.pid))
        cgroup.kill(GROUP)
        assert processes[0].wait(10) == -9
        assert groups() != []
        processes[1].kill()
        processes[1].wait(10)
        await cgroup.remove(GROUP)
        await cgroup.remove(GROUP)
        cgroup.kill(GROUP)
        assert groups() == []
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_the_profile() -> None:
    found = profile()
    need(found, "no table for this architecture")
    assert (found["defaultAction"], found["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    rules = found["syscalls"]
    names = rules[0]["names"]
    assert len(names) == len(set(names))
    dangerous = (
        "add_key bpf delete_module fsopen init_module io_uring_setup kexec_load keyctl mount move_mount "
        "open_by_handle_at open_tree perf_event_open pivot_root reboot request_key setns swapon umount2 unshare "
        "userfaultfd clone clone3 socket personality"
    ).split()
    assert set(names).isdisjoint(dangerous)
    assert {"action": "SCMP_ACT_ERRNO", "errnoRet": 38, "names": ["clone3"]} in rules
    sockets = {rule["args"][0]["value"] for rule in rules if rule["names"] == ["socket"]}
    assert {1, 2, 10, 16, 17} <= sockets  # unix, inet, inet6, netlink, packet
    assert sockets.isdisjoint({38, 40})  # alg, vsock
    clone = next(rule for rule in rules if rule["names"] == ["clone"])
    assert clone["args"][0]["op"] == "SCMP_CMP_MASKED_EQ"
    assert clone["args"][0]["valueTwo"] == 0


async def test_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    need(os.geteuid() == 0, "needs root")
    assert await oci.why_not(Commands(), "no-such-runtime") == "no-such-runtime is not installed"
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho oh no >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(oci, "PATH", str(tmp_path))
    assert await oci.why_not(Commands(), "broken") == "broken --version failed: oh no"
    monkeypatch.setattr(cgroup, "MOUNTS", str(tmp_path))
    assert await oci.why_not(Commands(), "broken") == f"no control groups are mounted at {tmp_path}"


async def test_without_namespaces(tmp_path: Path) -> None:
    """As in a container: root, but without CAP_SYS_ADMIN."""
    need(os.geteuid() == 0 and shutil.which("setpriv"), "needs root and setpriv")
    code = "from jocker_engine.platform.worker.namespaces import probe_isolation as p; print(p()['why'])"
    drop = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
    python = [os.path.realpath("/proc/self/exe"), "-c", code]
    env = {
        "PYTHONPATH": os.pathsep.join(
            str(Path(__file__).parents[3] / name) for name in ("engine", "protocol")
        )
    }
    for argv, expected in ((python, ""), ([*drop, *python], "Operation not permitted")):
        done = subprocess.run(  # noqa: ASYNC221
            argv, env=env, capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert done.stdout.strip() == expected
