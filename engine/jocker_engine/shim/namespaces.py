"""System calls that the standard library has not: subreapers, namespaces, mounts, jails.

Each function changes the calling process only. Sources: prctl(2), procctl(2), unshare(2), setns(2), mount(2),
user_namespaces(7), jail_attach(2), setfib(2), setlogin(2), setproctitle(3). All raise OSError.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Any

LINUX = sys.platform == "linux"

# linux/prctl.h, linux/sched.h, linux/mount.h
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 15, 36, 38
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_NOATIME, _MS_NODIRATIME, _MS_RELATIME = 0x20, 0x400, 0x800, 1 << 21
_MS_BIND, _MS_REC, _MS_SLAVE = 0x1000, 0x4000, 1 << 19
_ST_RELATIME = 0x1000
_TMPFS_FLAGS = {"suid": _MS_NOSUID, "dev": _MS_NODEV, "exec": _MS_NOEXEC}
"""Option that undoes a flag -> the flag."""
# sys/procctl.h
_P_PID, _PROC_REAP_ACQUIRE, _PROC_REAP_KILL, _PROC_PDEATHSIG_CTL, _PROC_NO_NEW_PRIVS_CTL = 0, 2, 6, 11, 19

_libc = ctypes.CDLL(None, use_errno=True)


def no_new_privileges() -> None:
    """execve(2) gives this process and its children no privileges any more."""
    if LINUX:
        _call("prctl", _PR_SET_NO_NEW_PRIVS, *_longs(1, 0, 0, 0))
    else:
        _procctl(_PROC_NO_NEW_PRIVS_CTL, ctypes.byref(ctypes.c_int(1)))


def become_reaper() -> None:
    """Orphaned descendants become children of this process."""
    if LINUX:
        _call("prctl", _PR_SET_CHILD_SUBREAPER, *_longs(1, 0, 0, 0))
    else:
        _procctl(_PROC_REAP_ACQUIRE, None)


def die_with_parent(signum: int) -> None:
    """Get this signal when the parent dies. Changing ids undoes it on Linux."""
    if LINUX:
        _call("prctl", _PR_SET_PDEATHSIG, *_longs(signum, 0, 0, 0))
    else:
        _procctl(_PROC_PDEATHSIG_CTL, ctypes.byref(ctypes.c_int(signum)))


def set_name(name: str) -> None:
    """What ps shows: as the command's name, 15 bytes, on Linux; in place of the arguments on FreeBSD."""
    if LINUX:
        _call("prctl", _PR_SET_NAME, name.encode()[:15], *_longs(0, 0, 0))
    else:
        _libc.setproctitle(b"-%s", name.encode())


def kill_descendants(signum: int) -> bool:
    """Signal every descendant of this reaper; False if there was none. They may fork meanwhile: repeat."""
    if not LINUX:
        # struct procctl_reaper_kill: sig, flags, subtree, killed, fpid, pad[15]
        request = ctypes.create_string_buffer(struct.pack("iIiIi15I", signum, *(0,) * 19))
        try:
            _procctl(_PROC_REAP_KILL, request)
        except ProcessLookupError:
            return False
        return True
    found = _descendants(os.getpid())
    for pid in found:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            pass
    return bool(found)


def own_mounts(uid: int | None = None, gid: int = 0) -> None:
    """A mount namespace of one's own; with a uid in a new user namespace, where the caller has these ids.

    What the host unmounts goes here too, what is mounted here never shows on the host.
    """
    if uid is not None:
        maps = {
            "setgroups": "deny",
            "uid_map": f"{uid} {os.geteuid()} 1",
            "gid_map": f"{gid} {os.getegid()} 1",
        }
        _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
        for name, text in maps.items():
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    else:
        _call("unshare", _CLONE_NEWNS)
    _mount(None, "/", None, _MS_REC | _MS_SLAVE)


def bind(source: str, target: str, read_only: bool, data: str = "") -> None:
    """Mount a file or directory (with what is mounted below it) at another path; "" is a tmpfs, with options."""
    if not source:
        words = data.split(",")
        flags = sum(flag for word, flag in _TMPFS_FLAGS.items() if word not in words)
        settings = [word for word in words if "=" in word]
        if not any(word.startswith("mode=") for word in settings):
            settings.append("mode=1777")
        _mount("tmpfs", target, "tmpfs", flags | (_MS_RDONLY if read_only else 0), ",".join(settings))
        return
    _mount(source, target, None, _MS_BIND | _MS_REC)
    if read_only:
        # A user namespace may not drop what the mount underneath forbids: keep its flags.
        found = os.statvfs(target).f_flag
        keep = found & (_MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME | _MS_NODIRATIME)
        if found & _ST_RELATIME:
            keep |= _MS_RELATIME
        _mount(None, target, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | keep)


def join(pid: int) -> None:
    """Enter the user and mount namespaces of a process, where they are not the caller's."""
    others: list[tuple[int, int]] = []
    try:
        for name, kind in (("user", _CLONE_NEWUSER), ("mnt", _CLONE_NEWNS)):
            path = f"/proc/{pid}/ns/{name}"
            if os.stat(path).st_ino != os.stat(f"/proc/self/ns/{name}").st_ino:
                others.append((os.open(path, os.O_RDONLY | os.O_CLOEXEC), kind))
        for fd, kind in others:
            _call("setns", fd, kind)
    finally:
        for fd, _ in others:
            os.close(fd)


def set_routes(fib: int) -> None:
    """Use this routing table; what the caller has inherited may not exist any more."""
    _call("setfib", fib)


def set_login(name: str) -> None:
    """The login name of this session; 32 bytes with the NUL (MAXLOGNAME)."""
    _call("setlogin", name.encode()[:32])


def attach_jail(jid: int) -> None:
    """Put this process into a jail; its working directory becomes the jail's root."""
    _call("jail_attach", jid)


def _descendants(ancestor: int) -> list[int]:
    """Living descendants, from the parent ids in /proc/PID/stat (proc_pid_stat(5))."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state != b"Z":
                children.setdefault(int(parent), []).append(int(name))
    found = children.get(ancestor, [])
    for pid in found:  # grows meanwhile
        found += children.get(pid, [])
    return found


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [os.fsencode(text) if text is not None else None for text in (source, target, kind)]
    try:
        _call("mount", *texts, ctypes.c_ulong(flags), data.encode() if data is not None else None)
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None


def _procctl(command: int, data: Any) -> None:
    _call("procctl", _P_PID, ctypes.c_int64(os.getpid()), command, data)


def _longs(*values: int) -> list[ctypes.c_ulong]:
    return [ctypes.c_ulong(value) for value in values]


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
