"""Jails, processes, limits, devices, shared memory, counters: command lines, and what real commands printed."""

from __future__ import annotations

import json

import pytest
from real import said

from jocker_engine.platform.commands import PlatformError
from jocker_engine.platform.freebsd import devfs, jails, netjoin, netstat, rctl, shm
from jocker_engine.platform.freebsd.params import Param
from jocker_protocol.limits import Limits

ID = "c2" * 32


def test_names() -> None:
    """One for each run, starting with a letter, without a dot, never the same."""
    names = {jails.new_name(ID) for _ in range(100)}
    assert len(names) == 100
    for name in names:
        assert name.startswith("jocker-c2c2c2c2c2c2-") and "." not in name and not name.isdigit()


def test_listing() -> None:
    assert jails.parse_listing(said("jail-rctl", "jls -d jid name dying")) == [
        jails.Jail(19, "jocker-c2-1", False)
    ]
    assert jails.parse_listing(said("vnet-pf-mounts", "time jail -R jocker-n-21")) == [
        jails.Jail(11, "jocker-n-21", True),
        jails.Jail(12, "jocker-n-22", False),
    ]
    text = "11 jocker-c2c2c2c2c2c2-aaaaaa true\n12 jocker-c2c2c2c2c2c2-bbbbbb false\n13 other false\n"
    assert jails.running(text, ID) == jails.Jail(12, "jocker-c2c2c2c2c2c2-bbbbbb", False)
    assert jails.running(text, "aa" * 32) is None
    assert jails.parse_listing("") == []
    assert jails.parse_listing('jls: jail "t1" not found\n') == []


def test_processes() -> None:
    text = said("jail-rctl", "jexec jocker-c2-1 /bin/sleep 500").splitlines()[1]
    assert jails.parse_processes(text) == [
        jails.Row(1643, 1642, "root", "", 2192, "0:00.02", "/bin/sleep 500")
    ]
    assert jails.parse_processes("") == []
    assert jails.parse_processes("{ }\n") == []


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("0:00.02", 0.02), ("1:30.50", 90.5), ("2:00:01", 7201), ("1-00:00:00", 86400), ("", 0)],
)
def test_cpu_time(time: str, seconds: float) -> None:
    assert jails.cpu_seconds(time) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("argv", "whole"),
    [
        (("/bin/sh", "/etc/rc"), True),
        (("sh", "/etc/rc"), True),
        (("/etc/rc",), True),
        (("/bin/sh", "-c", "/etc/rc"), False),
        (("/etc/rc.d/nginx", "start"), False),
        (("nginx",), False),
        ((), False),
    ],
)
def test_a_userland(argv: tuple[str, ...], whole: bool) -> None:
    assert jails.is_userland(argv) is whole


def test_rules() -> None:
    limits = Limits(memory=64 << 20, memory_swap=128 << 20, cpus=0.5, pids=20, cpuset_cpus="0")
    assert rctl.rules("j", limits) == [
        "jail:j:memoryuse:sigkill=67108864",
        "jail:j:vmemoryuse:deny=134217728",
        "jail:j:pcpu:deny=50",
        "jail:j:maxproc:deny=20",
    ]
    assert rctl.rules("j", Limits(pids=-1, memory_swap=-1)) == []
    assert rctl.rules("j", Limits(cpus=0.01)) == ["jail:j:pcpu:deny=1"]
    printed = said("trace-rctl-1", "rctl jail:t1")
    assert rctl.limit(printed, "memoryuse:deny") == 67108864
    assert rctl.limit(printed, "maxproc:deny") == 10
    assert rctl.limit(printed, "openblocks:deny") == 0
    assert rctl.stale(said("trace-rctl-1", "rctl jail:t1"), "t", frozenset()) == ["t1"]
    assert rctl.stale(printed, "t", frozenset({"t1"})) == []


def test_usage() -> None:
    counted = rctl.parse_usage(said("trace-rctl-1", "rctl -u jail:t1"))
    assert (counted["memoryuse"], counted["nthr"], counted["cputime"], counted["maxproc"]) == (
        5263360,
        2,
        1,
        2,
    )
    assert set(rctl.parse_usage(said("trace-rctl-1", "rctl -u jail:nosuch")).values()) == {0}


def test_rulesets() -> None:
    assert devfs.parse_sets(said("trace-devfs-nullfs-mounts", "devfs rule showsets")) == {
        "1",
        "2",
        "3",
        "4",
        "5",
    }
    assert devfs.hides(said("trace-devfs-nullfs-mounts", "devfs rule -s 4 show"))
    assert not devfs.hides("")


def test_shared_memory() -> None:
    head = said("vnet-pf-mounts", "jls -d jid name dying path").splitlines()[-1]
    assert head.split() == ["MODE", "OWNER", "GROUP", "SIZE", "PATH"]
    text = f"{head}\nrw-------\t70\t70\t4096\t/jk/c2/PostgreSQL.1\nrw-------\t0\t0\t16\t/jk/c22/other\n"
    assert shm.parse_listing(text, "/jk/c2") == ["/jk/c2/PostgreSQL.1"]
    assert shm.parse_listing(head + "\n", "/jk/c2") == []


def test_counters() -> None:
    rows = [
        {"name": "lo0", "network": "<Link#7>", "received-bytes": 9, "sent-bytes": 9},
        {"name": "jkc1", "network": "<Link#6>", "received-bytes": 100, "sent-bytes": 20},
        {"name": "jkc1", "network": "10.0.0.0/24", "received-bytes": 90, "sent-bytes": 10},
    ]
    text = json.dumps({"statistics": {"interface": rows}})
    assert netstat.parse_counters(text) == (100, 20)
    assert netstat.parse_counters("") == (0, 0)


def test_the_network_of_a_jail() -> None:
    with pytest.raises(PlatformError, match="belongs to one jail"):
        netjoin.params("/proc/71/ns/net", "j", frozenset({"vnet"}))
    kernel = frozenset({"vnet", "ip4", "ip6", "ip4.addr"})
    assert netjoin.params("host", "j", kernel) == [Param("ip4", "inherit"), Param("ip6", "inherit")]
    assert netjoin.params("none", "j", kernel) == [
        Param("vnet"),
        Param("exec.created", "/sbin/ifconfig -j j lo0 inet 127.0.0.1/8 up"),
    ]
    assert netjoin.params("none", "j", frozenset({"ip4"})) == [Param("ip4", "disable")]
    join = netjoin.Join(vnet=True, commands=[["/sbin/ifconfig", "jkc1", "vnet", netjoin.JAIL]])
    assert netjoin.params(join.to_text(), "j", kernel)[1:] == [
        Param("exec.created", "/sbin/ifconfig -j j lo0 inet 127.0.0.1/8 up"),
        Param("exec.created", "/sbin/ifconfig jkc1 vnet j"),
    ]
    shared = netjoin.Join(vnet=False, ip4=["10.13.37.5", "10.13.37.6"])
    assert netjoin.params(shared.to_text(), "j", kernel) == [
        Param("ip4.addr", "10.13.37.5,10.13.37.6"),
        Param("ip6", "disable"),
    ]
