"""Worker operations: whether a chroot, mounts and namespaces of its own can be made here. Tried for real: they
change this process.
"""

from __future__ import annotations

import ctypes
import os
import sys

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_CLONE_ISOLATED = _CLONE_NEWNS | 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
"""With CGROUP, UTS, IPC, PID, NET: what an OCI runtime makes (namespaces(7))."""
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18


def probe_chroot() -> dict[str, str]:
    """{"chroot", "mount"}: "" where it works, else why not; as root, or in a user namespace of one id.

    Sources: unshare(2), mount(2), user_namespaces(7).
    """
    if sys.platform != "linux":
        allowed = os.geteuid() == 0
        return {
            "chroot": "" if allowed else "it needs root on this system",
            "mount": "there are no mount namespaces",
        }
    root = os.geteuid() == 0
    try:
        if not root:
            _own_user_namespace()
        os.chroot("/")
    except OSError as error:
        if root:
            return {"chroot": f"chroot(2) is refused: {error.strerror}", "mount": "no chroot"}
        reason = f"without root it needs user namespaces, which are refused: {error.strerror}"
        return {"chroot": f"{reason} (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
                f"kernel.apparmor_restrict_unprivileged_userns)", "mount": "no chroot"}  # fmt: skip
    try:
        _call("unshare", _CLONE_NEWNS)
        _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    except OSError as error:
        return {
            "chroot": "",
            "mount": f"no mount namespace can be made: {error.strerror}; CAP_SYS_ADMIN is missing",
        }
    return {"chroot": "", "mount": ""}


def probe_isolation() -> dict[str, str]:
    """{"why"}: "" if root can make all namespaces of a container here, else why not. Linux only."""
    try:
        _call("unshare", _CLONE_ISOLATED)
        _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    except OSError as error:
        return {"why": error.strerror or str(error)}
    return {"why": ""}


def _own_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _call(name: str, *arguments: object) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
