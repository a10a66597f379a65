"""Capabilities: the ones there are, Docker's default, and what --cap-add and --cap-drop make of it.

Sources: capabilities(7), linux/capability.h; Docker's documentation, "Runtime privilege and Linux capabilities".
"""

from __future__ import annotations

import functools

from jocker_protocol.errors import InvalidParams
from jocker_protocol.limits import Security

_ALL = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
    "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL "
    "SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
"""By number."""
_DEFAULT = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID "
    "SETPCAP SETUID SYS_CHROOT"
).split()


def granted(security: Security) -> list[str]:
    """The capabilities a container's root has, sorted. Raises InvalidParams: no such capability, or not to be had."""
    add, drop = _names("cap_add", security.cap_add), _names("cap_drop", security.cap_drop)
    ours = _ours()
    if security.privileged:
        return [f"CAP_{name}" for name in sorted(ours)]
    for name in sorted(add - {"ALL"} - ours):
        raise InvalidParams(f"cap_add: the engine itself does not have {name}, and cannot give it")
    held = set() if "ALL" in drop else set(_DEFAULT)
    held |= ours if "ALL" in add else add
    return [f"CAP_{name}" for name in sorted(held - drop)]


def _names(field: str, given: list[str]) -> set[str]:
    names = {name.upper().removeprefix("CAP_") for name in given}
    for name in names - {"ALL", *_ALL}:
        raise InvalidParams(f"{field}: no capability {name!r}; capabilities(7) lists them, and there is ALL")
    return names


@functools.cache
def _ours() -> set[str]:
    """Those that the engine may give: nobody can give more than its own bounding set, or than the kernel knows."""
    with open("/proc/self/status", encoding="ascii") as file:
        text = next(line for line in file if line.startswith("CapBnd:"))
    held = int(text.split()[1], 16)
    return {name for number, name in enumerate(_ALL) if held >> number & 1}
