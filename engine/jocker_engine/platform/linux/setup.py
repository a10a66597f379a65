"""What a Linux needs for overlay, an OCI runtime and networks: the table behind `jocker-engine setup`."""

from __future__ import annotations

import os
import shutil

from ..checks import Check, Test, succeeds
from ..commands import Commands
from . import oci, overlay

_PACKAGES = {
    "apt-get": ("apt-get", "install", "-y"),
    "dnf": ("dnf", "install", "-y"),
    "apk": ("apk", "add"),
    "pacman": ("pacman", "-S", "--noconfirm"),
}
"""Package managers, and how each installs without asking."""


def checks(*, root: str, socket: str) -> list[Check]:
    """All of them."""
    return [
        Check("root", _root, advice="run the engine as root; without it, it falls back to the portable platform"),
        Check("OCI runtime", _runtime, _install("runc"), advice="install runc or crun"),
        Check("overlay", _overlay(root), advice="put root: of the configuration on a file system that takes overlays"),
        Check("ip", _program("ip"), _install("iproute2"), advice="install iproute2"),
        Check("nft", _program("nft"), _install("nftables"), advice="install nftables"),
        Check(
            "group jocker",
            succeeds("getent", "group", "jocker", otherwise="there is no such group"),
            (("groupadd", "--system", "jocker"),),
        ),
        Check(f"socket {socket}", _socket(socket), advice="start the engine: `systemctl start jocker`"),
    ]  # fmt: skip


def _install(package: str) -> tuple[tuple[str, ...], ...]:
    for manager, command in _PACKAGES.items():
        if shutil.which(manager):
            return ((*command, package),)
    return ()


async def _root(commands: Commands) -> str:
    return "" if os.geteuid() == 0 else "setup and engine run without it"


async def _runtime(commands: Commands) -> str:
    whys = [await oci.why_not(commands, binary) for binary in ("crun", "runc")]
    return "" if "" in whys else "; ".join(whys)


def _overlay(root: str) -> Test:
    async def test(commands: Commands) -> str:
        os.makedirs(root, mode=0o711, exist_ok=True)
        return overlay.why_not(root)

    return test


def _program(name: str) -> Test:
    async def test(commands: Commands) -> str:
        return "" if shutil.which(name, path=oci.PATH) else "it is not installed"

    return test


def _socket(path: str) -> Test:
    async def test(commands: Commands) -> str:
        return "" if os.path.exists(path) else "no engine is there"

    return test
