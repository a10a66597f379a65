"""Platforms as Docker writes them, OS/ARCHITECTURE[/VARIANT], and the build arguments that name them."""

from __future__ import annotations

import platform
import re

_ARCHITECTURES = {
    "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386",
    "armv7l": "arm/v7", "armv6l": "arm/v6", "armhf": "arm/v7", "armel": "arm/v6",
}  # fmt: skip
_PART = re.compile(r"[A-Za-z0-9_.-]+")


class BadPlatform(ValueError):
    """It is not OS/ARCHITECTURE[/VARIANT]; one line."""


def host() -> str:
    """This machine's."""
    return normal(f"{platform.system()}/{platform.machine()}")


def normal(text: str) -> str:
    """With Docker's names of architectures; "arm64" alone is for this machine's OS. Raises BadPlatform."""
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(_PART.fullmatch(part) for part in parts):
        raise BadPlatform(f"{text!r} is no platform: OS/ARCHITECTURE[/VARIANT], such as linux/amd64")
    if len(parts) == 1:
        known = parts[0] in _ARCHITECTURES or parts[0] in _ARCHITECTURES.values()
        parts = [platform.system().lower(), parts[0]] if known else [parts[0], platform.machine().lower()]
    os, architecture, *variant = parts
    name = _ARCHITECTURES.get(architecture, architecture)
    return "/".join([os, name if "/" in name and not variant else name.partition("/")[0], *variant])


def arguments(target: str, stage: str) -> dict[str, str]:
    """BUILDPLATFORM, TARGETPLATFORM and their parts, TARGETSTAGE: known before the first FROM."""
    found = {"TARGETSTAGE": stage or "default"}
    for prefix, whole in (("BUILD", host()), ("TARGET", target or host())):
        os, architecture, *variant = whole.split("/")
        found |= {
            f"{prefix}PLATFORM": whole,
            f"{prefix}OS": os,
            f"{prefix}ARCH": architecture,
            f"{prefix}VARIANT": "".join(variant),
        }
    return found
