"""Resource limits of a jail: rctl(8) rules on its name, cpuset(1), and what the kernel has counted. Pure.

`memoryuse:deny` is not used: the kernel then pages the jail out and no allocation ever fails. What bounds is

    --memory        memoryuse:sigkill    kills, within a moment, as Linux's out-of-memory killer does (exit status 137)
    --memory-swap   vmemoryuse:deny      allocations of virtual memory beyond it fail with ENOMEM
    --pids-limit    maxproc:deny         fork(2) fails with EAGAIN
    --cpus          pcpu:deny            throttles; a coarse instrument: with 20 % about 39 % were measured
"""

from __future__ import annotations

from jocker_protocol.limits import Limits

LOADER_LINE = "kern.racct.enable=1"
COUNTED = ("memory", "memory_swap", "cpus", "pids")
"""Fields of Limits that need the kernel's resource accounting."""


def subject(jail: str) -> str:
    """What rules and questions are about."""
    return f"jail:{jail}"


def rules(jail: str, limits: Limits) -> list[str]:
    """The rules that hold a jail to its limits; none logs, so that a busy container does not flood the log."""
    wanted = (
        ("memoryuse:sigkill", limits.memory),
        ("vmemoryuse:deny", limits.memory_swap),
        ("pcpu:deny", max(1, round(limits.cpus * 100)) if limits.cpus else 0),
        ("maxproc:deny", limits.pids),
    )
    return [f"{subject(jail)}:{what}={amount}" for what, amount in wanted if amount > 0]


def add(rule: str) -> list[str]:
    """rctl -a; the jail need not be there yet."""
    return ["rctl", "-a", rule]


def remove(jail: str) -> list[str]:
    """rctl -r of all rules of a jail; exit status 1 when there is none. The kernel keeps them after the jail."""
    return ["rctl", "-r", subject(jail)]


def usage(jail: str) -> list[str]:
    """rctl -u; zeros for a jail that is not there."""
    return ["rctl", "-u", subject(jail)]


def parse_usage(text: str) -> dict[str, int]:
    """Resource -> amount: seconds, bytes, numbers (rctl(8), RESOURCES)."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: int(value) for name, equals, value in pairs if equals and value.lstrip("-").isdigit()}


def cpuset(cpus: str, jail: str) -> list[str]:
    """cpuset(1): the processors of a jail, those that are in it already included."""
    return ["cpuset", "-l", cpus, "-j", jail]


def stale(text: str, prefix: str, jails: frozenset[str]) -> list[str]:
    """Names beginning so that `rctl` has rules of and that are no jails any more."""
    named = {line.split(":")[1] for line in text.splitlines() if line.startswith(f"jail:{prefix}")}
    return sorted(named - jails)


def limit(text: str, what: str) -> int:
    """The amount of a rule, such as "maxproc:deny", in what `rctl jail:NAME` prints; 0 without one."""
    for line in text.splitlines():
        _, _, rest = line.partition(f":{what}=")
        if rest.isdigit():
            return int(rest)
    return 0
