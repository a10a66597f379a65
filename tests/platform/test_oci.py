"""The runtime driver `oci`, beyond what every driver must do: how tightly a container is shut in.

All of it is seen from inside. The bar is Docker's default.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from containers import KILLED, LIMIT, PATH, Containers, open_containers, traces

from jocker_engine.platform.commands import PlatformError
from jocker_engine.platform.interfaces import Bind, Process

SLEEP = Process(("sleep", "100"), (PATH,))


@pytest.fixture(params=["runc", "crun"])
async def containers(request: pytest.FixtureRequest) -> AsyncIterator[Containers]:
    async with open_containers(request.param) as made:
        yield made


STATUS = "grep -E '^(Cap|NoNewPrivs|Seccomp:|NSpid|Uid)' /proc/self/status; [ $$ = 1 ] && echo init"


def table(text: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


async def test_privileges(containers: Containers) -> None:
    root = table(await containers.shell(STATUS))
    assert (root["CapEff"], root["CapPrm"], root["CapBnd"]) == ("00000000a80425fb",) * 3
    assert (root["CapInh"], root["CapAmb"]) == ("0" * 16, "0" * 16)
    assert (root["Seccomp"], root["NoNewPrivs"]) == ("2", "0")
    assert "init" in root
    user = table(await containers.shell(STATUS, user="me"))
    assert user["Uid"].split() == ["1000"] * 4
    assert (user["CapEff"], user["CapPrm"], user["CapBnd"]) == ("0" * 16, "0" * 16, "00000000a80425fb")
    assert user["Seccomp"] == "2"


async def test_privileges_of_an_exec(containers: Containers) -> None:
    isolation = containers.isolation()
    await containers.start(isolation, SLEEP)
    script = Process(("sh", "-c", STATUS + "; cat /proc/1/cmdline; hostname"), (PATH,))
    code, output = await containers.run(isolation, script, exec_key="e" * 12)
    assert code == 0
    found = table(output)
    assert (found["CapEff"], found["CapBnd"], found["Seccomp"]) == ("00000000a80425fb",) * 2 + ("2",)
    assert "sleep\x00100\x00inside\n" in output
    assert "init" not in found


async def test_namespaces(containers: Containers) -> None:
    names = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    script = f"for n in {' '.join(names)}; do readlink /proc/self/ns/$n; done; hostname; echo /proc/[0-9]*"

    async def inside(network: str) -> tuple[set[str], list[str]]:
        words = (await containers.shell(script, containers.isolation(network=network))).split()
        shared = {
            name
            for name, link in zip(names, words, strict=False)
            if link == os.readlink(f"/proc/self/ns/{name}")
        }
        return shared, words[len(names) :]

    assert await inside("host") == ({"net"}, ["inside", "/proc/1"])
    assert await inside("none") == (set(), ["inside", "/proc/1"])


async def test_network_none(containers: Containers) -> None:
    """Only the loopback device; low ports are for everybody, as with Docker."""
    output = await containers.shell(
        "ls /sys/class/net; sysctl -n net.ipv4.ip_unprivileged_port_start; cat /proc/sys/net/ipv4/ping_group_range",
        containers.isolation(network="none"),
        user="me",
    )
    assert "lo" in output.split()
    assert "eth0" not in output.split()
    assert output.split()[-3:] == ["0", "0", "2147483647"]


async def test_network_of_a_path(containers: Containers) -> None:
    """A network namespace made beforehand."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "100"])  # noqa: ASYNC220
    try:
        path = f"/proc/{holder.pid}/ns/net"
        with trio.fail_after(LIMIT):
            while os.readlink(path) == os.readlink("/proc/self/ns/net"):
                await trio.sleep(0.01)
        output = await containers.shell("readlink /proc/self/ns/net", containers.isolation(network=path))
        assert output.strip() == os.readlink(path)
    finally:
        holder.kill()
        holder.wait()


async def test_masked_and_read_only_paths(containers: Containers) -> None:
    output = await containers.shell(
        """
        set +e
        for p in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do
            [ -e $p ] && echo size $(head -c 1 $p | wc -c)
        done
        for p in /sys/firmware /proc/acpi /proc/scsi /sys/devices/virtual/powercap; do
            [ -e $p ] && echo entries $(ls $p | wc -l)
        done
        for p in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity \
            /sys/kernel/profiling /sys/fs/cgroup/x /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/cgroup.procs; do
            (echo 1 > $p) 2>/dev/null && echo WRITTEN $p
        done
        mknod /tmp/fuse c 10 229 && (true < /tmp/fuse) 2>&1
        true
        """
    )
    *facts, last = output.splitlines()
    assert set(facts) == {"size 0", "entries 0"}
    assert last == "sh: can't open /tmp/fuse: Operation not permitted"  # by the control group of devices


async def test_system_calls_refused(containers: Containers) -> None:
    output = await containers.shell(
        """
        for c in "mount -t tmpfs x /tmp" "umount /proc" "unshare -U true" "unshare -m true" "unshare -n true" \
            "hostname other" "mount -o remount,rw /sys" "swapon /data" "dmesg"; do
            busybox $c > /tmp/out 2>&1 && echo DONE $c; grep -q . /tmp/out || echo SILENT $c
        done
        busybox chroot / true && echo chroot
        busybox date -s 2020-01-01 2>&1 > /dev/null | grep -c 'not permitted'
        """
    )
    assert output.split() == ["chroot", "1"]


async def test_what_is_mounted(containers: Containers) -> None:
    output = await containers.shell("cat /proc/self/mounts")
    mounts = {line.split()[1]: (line.split()[2], line.split()[3].split(",")) for line in output.splitlines()}
    kinds = {
        "/proc": "proc",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",
        "/dev/mqueue": "mqueue",
        "/sys": "sysfs",
    }
    assert {target: mounts[target][0] for target in kinds} == kinds
    for target in ("/proc", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"):
        assert {"nosuid", "nodev", "noexec"} <= set(mounts[target][1]), target
    assert "ro" in mounts["/sys"][1]
    assert "ro" in mounts["/sys/fs/cgroup"][1]
    assert "size=65536k" in mounts["/dev/shm"][1]
    assert str(containers.directory) not in output.replace(f"/{containers.directory.name}/containers", "", 1)


async def test_the_order_of_mounts(containers: Containers) -> None:
    """A directory is mounted before what is in it, whatever the order they are given in."""
    outer, inner = containers.directory / "outer", containers.directory / "inner"
    for path in (outer, inner):
        path.mkdir()
    (inner / "file").write_text("inner")
    binds = (Bind(str(inner), "/a/b/c"), Bind(str(outer), "/a/b"))
    assert await containers.shell("cat /a/b/c/file", containers.isolation(binds=binds)) == "inner"
    assert os.listdir(outer) == ["c"]


async def test_mounts_that_cannot_be(containers: Containers) -> None:
    directory = str(containers.directory)
    for bind, line in (
        (Bind(directory, "/"), "cannot mount over the root directory of a container"),
        (Bind(directory + "/no", "/x"), f"cannot mount {directory}/no: it is not there"),
        (Bind(directory, "/data"), "cannot mount a directory at /data: in the container it is a file"),
        (Bind("/etc/passwd", "/tmp"), "cannot mount a file at /tmp: in the container it is a directory"),
        (Bind(directory, "/data/x"), "cannot mount /data/x: Not a directory"),
    ):
        with pytest.raises(PlatformError) as caught:
            await containers.runtime.prepare(containers.isolation(binds=(bind,)), SLEEP)
        assert str(caught.value) == line
    with pytest.raises(PlatformError, match=r"^working directory /data: File exists$"):
        await containers.runtime.prepare(containers.isolation(), Process(("true",), (PATH,), cwd="/data"))


async def test_a_number_that_is_another_process_by_now(containers: Containers) -> None:
    """A signal goes to the process that the runtime started, or to nobody."""
    isolation = containers.isolation()
    await containers.start(isolation, SLEEP)
    state = next(Path(containers.directory, "oci", isolation.id).glob("stat*"))
    before = state.read_text()
    key = "init_process_start" if state.name == "state.json" else "process-start-time"
    changed = json.loads(before)
    changed[key] = type(changed[key])(int(changed[key]) + 1)
    state.write_text(json.dumps(changed))
    await containers.runtime.signal(isolation.id, 0, signal.SIGKILL)
    state.write_text(before)
    exec_code, _ = await containers.run(isolation, Process(("true",), (PATH,)), exec_key="e" * 12)
    assert exec_code == 0
    await containers.runtime.signal(isolation.id, 0, signal.SIGKILL)
    assert await containers.wait(isolation.id) == KILLED


async def test_after_a_runtime_that_was_cut_off(containers: Containers) -> None:
    """No state, or one that cannot be read, and a process in the control groups: all goes."""
    for damage in ("remove", "truncate"):
        isolation = containers.isolation()
        await containers.start(isolation, SLEEP)
        state = Path(containers.directory, "oci", isolation.id)
        if damage == "remove":
            shutil.rmtree(state)
        else:
            for path in state.glob("stat*"):
                path.write_text("")
        await containers.runtime.destroy(isolation)
        assert await containers.wait(isolation.id) == KILLED
        assert await containers.runtime.inventory() == frozenset()
        assert traces(containers) == []


async def test_files_of_old_execs_go(containers: Containers) -> None:
    isolation = containers.isolation()
    await containers.start(isolation, SLEEP)
    bundle = Path(isolation.directory, "bundle")
    for key in ("a" * 12, "b" * 12):
        assert (await containers.run(isolation, Process(("true",), (PATH,)), exec_key=key))[0] == 0
    os.utime(bundle / ("a" * 12), (0, 0))
    await containers.runtime.launch_exec(isolation, SLEEP, "c" * 12)
    assert sorted(path.name for path in bundle.iterdir() if path.is_dir()) == ["b" * 12, "c" * 12]
