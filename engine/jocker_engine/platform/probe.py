"""Which drivers this machine can use, why not where it cannot, and the choice among them."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass

from .commands import Commands, PlatformError
from .freebsd import zfs
from .interfaces import NetworkDriver, Runtime, Storage
from .portable.chroot import ChrootRuntime
from .portable.copytree import CopyStorage
from .portable.hostnet import HostNetwork
from .work import work

PRESETS: dict[str, dict[str, tuple[str, ...]]] = {
    "freebsd": {"storage": ("zfs",), "runtime": ("jail",), "network": ("vnet", "loopback", "host")},
    "linux": {"storage": ("zfs", "overlay"), "runtime": ("oci",), "network": ("veth", "host")},
    "portable": {"storage": ("copy",), "runtime": ("chroot",), "network": ("host",)},
    "auto": {
        "storage": ("zfs", "overlay", "copy"),
        "runtime": ("jail", "oci", "chroot"),
        "network": ("vnet", "loopback", "veth", "host"),
    },
}
"""Platform -> part -> drivers, the best first."""


FREEBSD = sys.platform.startswith("freebsd")


@dataclass(frozen=True)
class Finding:
    """One driver: usable (`why` is ""), or why not and what mends it."""

    part: str
    driver: str
    why: str
    mend: str = ""


@dataclass(frozen=True)
class Drivers:
    """Those in use."""

    storage: Storage
    runtime: Runtime
    network: NetworkDriver
    findings: tuple[Finding, ...]

    def names(self) -> dict[str, str]:
        """Part -> driver."""
        return {"storage": self.storage.name, "runtime": self.runtime.name, "network": self.network.name}


async def probe(root: str, commands: Commands, dataset: str = "", volumes: str = "") -> dict[str, Finding]:
    """All drivers, tried for real below `root`, and on `dataset`."""
    findings = {"copy": Finding("storage", "copy", ""), "host": Finding("network", "host", "")}
    findings["zfs"] = Finding("storage", "zfs", *await zfs.why_not(commands, dataset, root, volumes))
    if sys.platform == "linux":
        from .linux import oci, overlay, veth

        why = overlay.why_not(root)
        findings["overlay"] = Finding(
            "storage", "overlay", why, why and "run as root, with root: on a file system that takes overlays"
        )
        whys = {binary: await oci.why_not(commands, binary) for binary in ("crun", "runc")}
        why = "" if "" in whys.values() else "; ".join(whys.values())
        findings["oci"] = Finding("runtime", "oci", why, why and "run as root, with runc or crun installed")
        why = await veth.why_not(commands)
        findings["veth"] = Finding(
            "network", "veth", why, why and "run as root, with iproute2 and nftables installed"
        )
    else:
        findings["overlay"] = Finding("storage", "overlay", "there are no overlay mounts on this system")
        findings["oci"] = Finding("runtime", "oci", "OCI runtimes need Linux")
        findings["veth"] = Finding("network", "veth", "network namespaces need Linux")
    if FREEBSD:
        from .freebsd import probe as freebsd

        findings["jail"] = Finding("runtime", "jail", *await freebsd.why_no_jails(commands))
        findings["vnet"] = Finding("network", "vnet", *await freebsd.why_no_vnet(commands))
        findings["loopback"] = Finding("network", "loopback", *freebsd.why_no_loopback())
    else:
        findings["jail"] = Finding("runtime", "jail", "jails need FreeBSD")
        findings["vnet"] = Finding("network", "vnet", "jails' network stacks need FreeBSD")
        findings["loopback"] = Finding("network", "loopback", "jails with addresses need FreeBSD")
    why = (await work(commands, "probe_chroot"))["chroot"]
    findings["chroot"] = Finding("runtime", "chroot", why, why and "run as root, or allow user namespaces")
    return findings


async def choose(
    platform: str,
    overrides: dict[str, str],
    root: str,
    commands: Commands,
    dataset: str = "",
    volumes: str = "",
) -> Drivers:
    """The best usable driver of each part. Raises PlatformError with what is missing, in one line.

    `dataset` and `volumes` are where storage zfs keeps all, and volumes.
    """
    findings = await probe(root, commands, dataset, volumes)
    if platform == "freebsd" and not FREEBSD:
        raise PlatformError("platform freebsd: this machine does not run FreeBSD; use --platform auto")
    wanted: dict[str, tuple[str, ...]] = {
        part: (overrides[part],) if part in overrides else PRESETS[platform][part] for part in PRESETS["auto"]
    }
    chosen: dict[str, str] = {}
    for part, names in wanted.items():
        for name in names:
            if name not in findings or findings[name].part != part:
                known = ", ".join(sorted(key for key, found in findings.items() if found.part == part))
                raise PlatformError(f"no {part} driver {name!r}; there are: {known}")
        if chosen.get("runtime") == "chroot" and part == "network" and part not in overrides:
            names = ("host",)  # what runs in a chroot cannot be anywhere else
        usable = [name for name in names if not findings[name].why]
        if not usable:
            reasons = "; ".join(
                f"{name}: {findings[name].why} (mend: {findings[name].mend})" for name in names
            )
            raise PlatformError(f"this machine cannot run containers: no usable {part} driver: {reasons}")
        chosen[part] = usable[0]
    storage: Storage = CopyStorage(root, commands)
    runtime: Runtime = ChrootRuntime(root, commands)
    if chosen["storage"] == "overlay":
        from .linux.overlay import OverlayStorage

        storage = OverlayStorage(root, commands)
    if chosen["storage"] == "zfs":
        await zfs.claim(commands, root, dataset, volumes)
        storage = zfs.ZfsStorage(root, commands, dataset, volumes)
    if chosen["runtime"] == "jail":
        from .freebsd import probe as freebsd

        runtime = await freebsd.jail_runtime(root, commands)
    if chosen["runtime"] == "oci":
        from .linux import oci

        binary = "crun" if not await oci.why_not(commands, "crun") else "runc"
        path = shutil.which(binary, path=os.defpath + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin")
        runtime = oci.OciRuntime(root, commands, path or binary)
    network: NetworkDriver = HostNetwork()
    if chosen["network"] == "veth":
        from .linux.veth import VethNetwork

        network = VethNetwork(root, commands)
    if chosen["network"] in ("vnet", "loopback"):
        from .freebsd.networks import FreeBsdNetworks

        network = FreeBsdNetworks(chosen["network"], root, commands)
    return Drivers(storage, runtime, network, tuple(findings.values()))
