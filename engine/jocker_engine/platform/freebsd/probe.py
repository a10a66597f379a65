"""What this FreeBSD can do: a reason for each driver that cannot be used, with what mends it."""

from __future__ import annotations

import os

from ..commands import Commands
from . import devfs
from .jail import JailRuntime


async def why_no_jails(commands: Commands) -> tuple[str, str]:
    """(why, mend) of the runtime `jail`; ("", "") if it can be used."""
    if os.geteuid() != 0:
        return "it needs root", "run the engine as root"
    jailed = await sysctl(commands, "security.jail.jailed") == "1"
    if jailed and await sysctl(commands, "security.jail.children.max") in ("", "0"):
        return (
            "this is a jail that may have none inside",
            "give it children.max=100 and allow.mount, or run the engine outside",
        )
    done = await commands.run(devfs.SHOWSETS, check=False)
    if devfs.JAIL not in devfs.parse_sets(done.stdout):
        return (
            f"devfs ruleset {devfs.JAIL} is not loaded: a container would see every device",
            f"run `{devfs.MEND}`",
        )
    return "", ""


async def why_no_vnet(commands: Commands) -> tuple[str, str]:
    """(why, mend) of the network driver `vnet`."""
    if os.geteuid() != 0:
        return "it needs root", "run the engine as root"
    if await sysctl(commands, "kern.features.vimage") != "1":
        return "this kernel has no VIMAGE", "use the kernel GENERIC, or `network: loopback`"
    return "", ""


def why_no_loopback() -> tuple[str, str]:
    """(why, mend) of the network driver `loopback`."""
    return ("it needs root", "run the engine as root") if os.geteuid() != 0 else ("", "")


async def jail_runtime(root: str, commands: Commands) -> JailRuntime:
    """The runtime driver for this machine."""
    accounting = await sysctl(commands, "kern.racct.enable") == "1"
    return JailRuntime(root, commands, accounting=accounting)


async def sysctl(commands: Commands, name: str) -> str:
    """Its value; "" where there is no such thing."""
    return (await commands.run(["sysctl", "-n", name], check=False)).stdout.strip()
