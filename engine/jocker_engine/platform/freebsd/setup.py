"""What a FreeBSD needs for jails, ZFS, VNET, pf and rctl: the table behind `jocker-engine setup`."""

from __future__ import annotations

import os

from ..checks import Check, Test, prints, succeeds
from ..commands import Commands
from . import devfs, pf, pfconf, rctl

_MODULES = ("zfs", "nullfs", "tmpfs", "if_bridge", "if_epair", "pf")
_LOADER = "/boot/loader.conf"
_AT_BOOT = "if_bridge if_epair nullfs tmpfs"
"""kld_list of rc.conf(5); zfs and pf have switches of their own."""


def checks(*, zroot: str, volumes: str, base: str, socket: str) -> list[Check]:
    """All of them, in the order in which they can be mended. `base` "" : none is wanted."""
    pool = zroot.partition("/")[0]
    return [
        *(_module(name) for name in _MODULES),
        _rc_conf("zfs_enable", "YES"),
        Check(
            f"pool {pool}",
            succeeds("zpool", "list", "-H", "-o", "name", pool, otherwise="there is no such pool"),
            advice=f"make one with `zpool create {pool} DISK`, or name another dataset in zroot: of the configuration",
        ),
        *(_dataset(name) for name in dict.fromkeys((zroot, volumes or f"{zroot}/volumes"))),
        *([_base(base)] if base else []),
        Check(
            "sysctl net.inet.ip.forwarding",
            prints("sysctl", "-n", "net.inet.ip.forwarding", wanted=lambda text: text == "1", otherwise="it is {}"),
            (("sysctl", "net.inet.ip.forwarding=1"),),
        ),
        _rc_conf("gateway_enable", "YES"),
        Check(
            "rc.conf kld_list",
            prints(
                "sysrc", "-in", "kld_list",
                wanted=lambda text: set(_AT_BOOT.split()) <= set(text.split()),
                otherwise="it is {}",
            ),
            (("sysrc", f"kld_list+={_AT_BOOT}"),),
        ),
        Check(
            f"{_LOADER} {rctl.LOADER_LINE}", _no_loader_line, act=_add_loader_line,
            advice=f"add the line {rctl.LOADER_LINE} to {_LOADER}",
        ),
        Check(
            "resource accounting",
            prints(
                "sysctl", "-n", "kern.racct.enable", wanted=lambda text: text == "1",
                otherwise="the running kernel does not count what jails take",
            ),
            advice="restart the machine, with the line in loader.conf",
        ),
        Check(
            f"devfs ruleset {devfs.JAIL}",
            prints(
                *devfs.SHOWSETS,
                wanted=lambda text: devfs.JAIL in devfs.parse_sets(text),
                otherwise="it is not loaded",
            ),
            (("sysrc", "devfs_load_rulesets=YES"), ("service", "devfs", "restart")),
        ),
        _rc_conf("pf_enable", "YES"),
        Check(
            "pf.conf", pfconf.why_not, act=pfconf.add,
            advice=f"add {', '.join(pf.LINES)} (--apply does, and keeps a backup)",
        ),
        Check(
            "pf", _pf, (("service", "pf", "start"),),
        ),
        Check(
            "group jocker",
            succeeds("pw", "groupshow", "jocker", otherwise="there is no such group"),
            (("pw", "groupadd", "jocker"),),
        ),
        _rc_conf("jocker_enable", "YES"),
        Check(f"socket {socket}", _socket(socket), advice="start the engine: `service jocker start`"),
    ]  # fmt: skip


async def _no_loader_line(commands: Commands) -> str:
    return (
        ""
        if rctl.LOADER_LINE in _loader_lines()
        else "without it --memory, --cpus and --pids-limit are refused"
    )


async def _add_loader_line(commands: Commands) -> None:
    with open(_LOADER, "a", encoding="utf-8") as file:
        file.write(f"{rctl.LOADER_LINE}\n")
        file.flush()
        os.fsync(file.fileno())


def _loader_lines() -> list[str]:
    """Settings, without quotes and comments."""
    try:
        with open(_LOADER, encoding="utf-8") as file:
            return [line.partition("#")[0].strip().replace('"', "") for line in file]
    except FileNotFoundError:
        return []


def _module(name: str) -> Check:
    return Check(
        f"kernel module {name}",
        succeeds("kldstat", "-q", "-m", name, otherwise="it is not loaded"),
        (("kldload", "-n", name),),
    )


def _rc_conf(variable: str, value: str) -> Check:
    return Check(
        f"rc.conf {variable}",
        prints(*("sysrc", "-in", variable), wanted=lambda text: text.upper() == value, otherwise="it is {}"),
        (("sysrc", f"{variable}={value}"),),
    )


def _dataset(name: str) -> Check:
    return Check(
        f"dataset {name}",
        succeeds("zfs", "list", "-H", "-o", "name", name, otherwise="there is no such dataset"),
        (("zfs", "create", "-p", name),),
    )


def _base(name: str) -> Check:
    return Check(
        f"base dataset {name}",
        succeeds("zfs", "list", "-H", "-o", "name", name, otherwise="there is no such dataset"),
        advice=(
            f"make it with `zfs create -p {name.partition('@')[0]}` and unpack a base.txz there, or leave "
            "base_layer_dataset: out and use `jocker image create`"
        ),
    )


async def _pf(commands: Commands) -> str:
    info = await commands.run(pf.INFO, check=False, timeout=15)
    main = [(await commands.run(each, check=False, timeout=15)).stdout for each in pf.MAIN]
    return pf.why_not(info.stdout if info.exit_code == 0 else None, "".join(main))[0]


def _socket(path: str) -> Test:
    async def test(commands: Commands) -> str:
        return "" if os.path.exists(path) else "no engine is there"

    return test
