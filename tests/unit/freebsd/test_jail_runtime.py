"""The runtime `jail` from start to end, on a stand-in for a FreeBSD: the order of things, and that nothing is left."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from machine import Machine

from jocker_engine.platform.commands import PlatformError
from jocker_engine.platform.freebsd.jail import JailRuntime
from jocker_engine.platform.interfaces import Bind, Isolation, Process
from jocker_engine.platform.rootfs import NoSuchUser
from jocker_protocol.errors import InvalidParams
from jocker_protocol.limits import Limits, Security, Ulimit

ID = "c2" * 32
SHELL = Process(("sh",), ("PATH=/bin",))


class Case:
    """A runtime on a stand-in machine, and one container."""

    def __init__(self, where: Path) -> None:
        self.machine = Machine()
        self.root = where / "engine"
        self.own = where / "own"
        rootfs = where / "rootfs"
        for path in (self.root, self.own, rootfs / "etc"):
            path.mkdir(parents=True)
        (rootfs / "etc" / "passwd").write_text("root:*:0:0::/root:/bin/sh\nwww:*:80:80::/nonexistent:/no\n")
        (rootfs / "etc" / "group").write_text("wheel:*:0:\nwww:*:80:\noperator:*:5:www\n")
        (where / "hosts").write_text("")
        self.isolation = Isolation(
            id=ID,
            directory=str(self.own),
            rootfs=str(rootfs),
            hostname="inside",
            network="host",
            files={"/etc/hosts": str(where / "hosts")},
        )
        self.runtime = JailRuntime(str(self.root), self.machine)

    @property
    def name(self) -> str:
        (name,) = self.machine.jails
        return name

    def description(self) -> str:
        return self.machine.jails[self.name].file

    def assert_nothing_left(self) -> None:
        machine = self.machine
        assert (machine.jails, machine.mounted, machine.rules, machine.shared_memory) == ({}, [], [], [])
        assert os.listdir(self.own) == [] and os.listdir(self.root / "jail") == []


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


async def test_from_start_to_end(case: Case) -> None:
    process = Process(("nginx",), ("PATH=/bin",), user="www", cwd="/made", tty=True, rows=3, cols=4)
    launch = await case.runtime.prepare(case.isolation, process)
    assert (launch.enter, launch.jid, launch.uid, launch.gid, launch.groups) == ("jail", 1, 80, 80, [5])
    assert (launch.login, launch.env, launch.cwd, launch.fib) == (
        "www",
        ["PATH=/bin", "HOME=/nonexistent"],
        "/made",
        0,
    )
    assert (launch.tty, launch.rows, launch.cols, launch.linger, launch.kill_rest) == (
        True,
        3,
        4,
        False,
        True,
    )
    assert os.path.isdir(os.path.join(case.isolation.rootfs, "made"))
    assert [node.removeprefix(case.isolation.rootfs) for _, node, _ in case.machine.mounted] == [
        "/dev",
        "/etc/hosts",
    ]
    assert await case.runtime.inventory() == await case.runtime.states() == {ID}
    order = [
        words[0]
        for words in case.machine.ran
        if words[0] in ("mount", "jail", "rctl") and words[1] != "--libxo:J"
    ]
    assert order == ["mount", "mount", "rctl", "jail"]
    await case.runtime.destroy(case.isolation)
    await case.runtime.destroy(case.isolation)
    case.assert_nothing_left()
    assert await case.runtime.inventory() == await case.runtime.states() == frozenset()


async def test_the_description(case: Case) -> None:
    isolation = replace(case.isolation, jail_params=("allow.mount", "exec.poststop=echo 'x'"))
    await case.runtime.prepare(isolation, SHELL)
    lines = case.description().splitlines()
    for line in (
        f"\tpath = '{case.isolation.rootfs}';",
        "\tpersist;",
        "\tip4 = 'inherit';",
        "\tsysvshm = 'new';",
        f"\tmeta = 'jocker.id={ID}';",
        "\tdevfs_ruleset = '4';",
        "\tallow.mount;",
        "\texec.poststop = 'echo \\'x\\'';",
    ):
        assert line in lines
    assert "\tenforce_statfs = '2';" not in lines  # it may mount, and has to see what it does
    assert not any("exec.clean" in line for line in lines)  # it would look root up in the jail's pwd.db
    remove = case.machine.ran.copy()
    await case.runtime.destroy(isolation)
    (create,), (gone,) = (
        case.machine.of("jail", "-f", f"{case.own}/jail.conf", "-c"),
        case.machine.of("jail", "-f", f"{case.own}/jail.conf", "-r"),
    )
    assert create[-1] == gone[-1] and create in remove  # the same file for both
    case.assert_nothing_left()


@pytest.mark.parametrize(
    ("given", "statfs"),
    [((), "2"), (("allow.nomount",), "2"), (("allow.mount=0",), "2"), (("allow.mount.zfs=1",), "1")],
)
async def test_what_of_mounts_a_jail_sees(case: Case, given: tuple[str, ...], statfs: str) -> None:
    await case.runtime.prepare(replace(case.isolation, jail_params=given), SHELL)
    assert f"\tenforce_statfs = '{statfs}';" in case.description()
    await case.runtime.destroy(case.isolation)


async def test_older_kernels(case: Case) -> None:
    """FreeBSD 14 before 14.2 has no meta; a kernel without SYSV has no sysvshm."""
    case.machine.parameters = re.sub(r"\S*(meta|sysv)\S*\n", "", case.machine.parameters)
    await case.runtime.prepare(case.isolation, SHELL)
    assert "meta" not in case.description() and "sysv" not in case.description()
    await case.runtime.destroy(case.isolation)


async def test_each_run_has_a_name_of_its_own(case: Case) -> None:
    """A run that was cut off is cleared first; a jail that is dying never stands in the way."""
    await case.runtime.prepare(case.isolation, SHELL)
    first = case.name
    await case.runtime.prepare(case.isolation, SHELL)
    assert case.name != first and len(case.machine.mounted) == 2
    await case.runtime.destroy(case.isolation)
    case.assert_nothing_left()


async def test_hooks_and_a_whole_userland(case: Case) -> None:
    launch = await case.runtime.prepare(case.isolation, Process(("/bin/sh", "/etc/rc"), ()))
    assert launch.linger and not launch.kill_rest
    assert "exec.stop" not in case.description()
    stop = (case.own / "jail-stop.conf").read_text()
    assert "\texec.stop = '/bin/sh /etc/rc.shutdown jail';" in stop and "\tstop.timeout = '3600';" in stop
    name = case.name
    await case.runtime.stop(ID, 99, 15)
    assert case.machine.of("jail")[-1] == ["jail", "-f", f"{case.own}/jail-stop.conf", "-r", name]
    await case.runtime.kill_all(ID, 99)
    await case.runtime.destroy(case.isolation)
    case.assert_nothing_left()


async def test_a_stop_of_ones_own(case: Case) -> None:
    isolation = replace(case.isolation, jail_params=("exec.stop=/bin/bye", "stop.timeout=7"))
    await case.runtime.prepare(isolation, SHELL)
    stop = (case.own / "jail-stop.conf").read_text()
    assert stop.count("exec.stop =") == 1 and stop.count("stop.timeout") == 2  # ours, and theirs after it
    assert stop.rindex("stop.timeout = '7'") > stop.rindex("stop.timeout = '5'")
    await case.runtime.destroy(isolation)


@pytest.mark.parametrize("trouble", ["stubborn", "hangs"])
async def test_a_removal_that_fails_or_hangs(case: Case, trouble: str) -> None:
    await case.runtime.prepare(case.isolation, SHELL)
    name = case.name
    setattr(case.machine, trouble, True)
    await case.runtime.destroy(case.isolation)
    assert case.machine.of("jail")[-1] == ["jail", "-R", name]
    case.assert_nothing_left()


async def test_mounts_that_are_busy(case: Case, autojump_clock: object) -> None:
    """Tried again, then by force; what is mounted in a mount goes first."""
    source = case.own.parent / "volume"
    source.mkdir()
    binds = (Bind(str(source), "/data"), Bind(str(source), "/data/inner"))
    await case.runtime.prepare(replace(case.isolation, binds=binds), SHELL)
    dev, data = f"{case.isolation.rootfs}/dev", f"{case.isolation.rootfs}/data"
    case.machine.busy = {dev: 2, data: 1000}
    await case.runtime.destroy(case.isolation)
    assert ["umount", "-f", data] in case.machine.ran and ["umount", "-f", dev] not in case.machine.ran
    case.assert_nothing_left()


async def test_a_failed_start_is_taken_back(case: Case) -> None:
    isolation = replace(case.isolation, jail_params=("exec.prestart=/bin/false",), limits=Limits(pids=5))
    with pytest.raises(PlatformError, match="/bin/false: failed"):
        await case.runtime.prepare(isolation, SHELL)
    assert await case.runtime.inventory() == {ID} and case.machine.mounted and case.machine.rules
    await case.runtime.destroy(isolation)
    case.assert_nothing_left()


async def test_what_is_refused_leaves_nothing(case: Case) -> None:
    with pytest.raises(NoSuchUser, match="nobody"):
        await case.runtime.prepare(case.isolation, replace(SHELL, user="nobody"))
    with pytest.raises(PlatformError, match=r"no jail parameter allow\.bogus"):
        await case.runtime.prepare(replace(case.isolation, jail_params=("allow.bogus",)), SHELL)
    case.assert_nothing_left()
    case.machine.no_rulesets = True
    with pytest.raises(PlatformError, match="would see every device: run `sysrc devfs_load_rulesets=YES"):
        await case.runtime.prepare(case.isolation, SHELL)
    await case.runtime.destroy(case.isolation)
    case.assert_nothing_left()
    await case.runtime.check_jail_params(())
    with pytest.raises(PlatformError, match=r"did you mean allow\.mount"):
        await case.runtime.check_jail_params(("allow.mout",))


async def test_limits(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jocker_engine.platform.refusals.online", lambda: set(range(8)))
    limits = Limits(
        memory=64 << 20, pids=20, cpuset_cpus="0-1", ulimits=[Ulimit(name="nofile", soft=5, hard=6)]
    )
    launch = await case.runtime.prepare(replace(case.isolation, limits=limits), SHELL)
    name = case.name
    assert case.machine.rules == [f"jail:{name}:memoryuse:sigkill=67108864", f"jail:{name}:maxproc:deny=20"]
    assert case.machine.of("cpuset") == [["cpuset", "-l", "0-1", "-j", name]]
    assert launch.rlimits == [["nofile", 5, 6]]
    await case.runtime.update(replace(case.isolation, limits=Limits(pids=30)))
    assert case.machine.rules == [f"jail:{name}:maxproc:deny=30"]  # replaced, not added to
    await case.runtime.destroy(case.isolation)
    case.assert_nothing_left()
    with pytest.raises(PlatformError, match="setaffinity"):
        await case.runtime.prepare(replace(case.isolation, limits=Limits(cpuset_cpus="7")), SHELL)
    await case.runtime.destroy(case.isolation)
    case.assert_nothing_left()


async def test_a_kernel_that_does_not_count(case: Case) -> None:
    runtime = JailRuntime(str(case.root), case.machine, accounting=False)
    for limits in (Limits(memory=64 << 20), Limits(pids=5), Limits(cpus=1)):
        with pytest.raises(InvalidParams, match=r"add the line kern\.racct\.enable=1 to /boot/loader\.conf"):
            runtime.check(limits, Security())
    runtime.check(Limits(pids=-1, cpuset_cpus="0"), Security())
    with pytest.raises(InvalidParams, match="cannot enforce --cpu-shares"):
        runtime.check(Limits(cpu_shares=5), Security())
    await runtime.prepare(case.isolation, SHELL)
    await runtime.destroy(case.isolation)
    assert case.machine.of("rctl") == []
    case.assert_nothing_left()


async def test_a_root_that_is_read_only(case: Case) -> None:
    """Shown through a nullfs; what is mounted in it is as it says."""
    isolation = replace(case.isolation, binds=(Bind("", "/tmp"),), security=Security(read_only=True))
    await case.runtime.prepare(isolation, SHELL)
    view = f"{case.own}/root-ro"
    assert ["mount", "-t", "nullfs", "-o", "ro", case.isolation.rootfs, view] in case.machine.ran
    assert [node for _, node, _ in case.machine.mounted] == [
        view,
        f"{view}/dev",
        f"{view}/tmp",
        f"{view}/etc/hosts",
    ]
    assert f"\tpath = '{view}';" in case.description()
    assert await case.runtime.root(isolation, 0) == view
    await case.runtime.destroy(isolation)
    case.assert_nothing_left()


async def test_what_processes_leave_behind(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    await case.runtime.prepare(case.isolation, SHELL)
    case.machine.shared_memory = [f"{case.isolation.rootfs}/PostgreSQL.1", "/other/x"]
    await case.runtime.destroy(case.isolation)
    assert case.machine.shared_memory == ["/other/x"]
    assert "left POSIX shared memory behind: " in caplog.text


async def test_processes(case: Case) -> None:
    """Zombies are no processes; all stopped is paused; what is gone gets no signal."""
    await case.runtime.prepare(case.isolation, SHELL)
    gone = 2**22 + 1
    case.machine.jails[case.name].processes = {gone: "T", gone + 1: "Z"}
    assert await case.runtime.processes(ID, 0) == [gone]
    assert await case.runtime.is_paused(ID)
    case.machine.jails[case.name].processes[gone] = "SJ"
    assert not await case.runtime.is_paused(ID)
    await case.runtime.signal(ID, gone, 15)
    await case.runtime.pause(ID)
    await case.runtime.resume(ID)
    await case.runtime.kill_all(ID, gone)
    launch = await case.runtime.launch_exec(case.isolation, SHELL, "e" * 12)
    assert (launch.jid, launch.linger, launch.kill_rest) == (1, False, False)
    await case.runtime.destroy(case.isolation)
    assert await case.runtime.processes(ID, 0) == []
    with pytest.raises(PlatformError, match="has no jail"):
        await case.runtime.launch_exec(case.isolation, SHELL, "e" * 12)
