"""Which base.txz belongs to this machine, and where it is; pure but for `installed`, which asks the machine.

Sources: freebsd-version(1), uname(1); the layout of download.freebsd.org (releases and snapshots by TARGET and
TARGET_ARCH, as in release(7)).
"""

from __future__ import annotations

import re
import sys

from ..commands import Commands, PlatformError

ARCHIVE = "base.txz"

_VERSION = re.compile(r"(\d+\.\d+)-(RELEASE|STABLE|CURRENT|PRERELEASE|(?:ALPHA|BETA|RC)\d+)(?:-p\d+)?")


class BadVersion(ValueError):
    """What freebsd-version said has no place on a mirror; one line."""


def release(version: str) -> str:
    """ "15.0-RELEASE-p1" -> "15.0-RELEASE": patches change no archive. Raises BadVersion."""
    match = _VERSION.fullmatch(version.strip())
    if match is None:
        raise BadVersion(
            f"{version.strip()!r} is no version that is offered for download; name an archive: image create fetch URL"
        )
    return f"{match[1]}-{match[2]}"


def url(mirror: str, machine: str, arch: str, name: str) -> str:
    """Where the base system of a release is. `machine` and `arch` are those of uname -m and -p: arm64, aarch64."""
    moving = name.endswith(("-STABLE", "-CURRENT", "-PRERELEASE")) or "-ALPHA" in name
    return f"{mirror.rstrip('/')}/{'snapshots' if moving else 'releases'}/{machine}/{arch}/{name}/{ARCHIVE}"


def agree(kernel: str, userland: str) -> str:
    """The release of a machine whose kernel and userland are these. Raises BadVersion when they differ."""
    name = release(userland)
    if release(kernel) != name:
        raise BadVersion(
            f"the kernel that runs is {kernel}, the userland {userland}; reboot into the newer one, or give --force"
        )
    return name


async def installed(commands: Commands, *, force: bool = False) -> tuple[str, str, str]:
    """(release, machine, arch) of this FreeBSD; with `force` whatever its kernel is. Raises PlatformError."""
    if not sys.platform.startswith("freebsd"):
        raise PlatformError(
            "fetch-auto takes the release of a FreeBSD machine, which this is not: use fetch URL"
        )
    kernel, userland = (await commands.run(("freebsd-version", "-ru"))).stdout.split()
    machine, arch = (await commands.run(("uname", "-mp"))).stdout.split()
    try:
        return release(userland) if force else agree(kernel, userland), machine, arch
    except BadVersion as error:
        raise PlatformError(str(error)) from None
