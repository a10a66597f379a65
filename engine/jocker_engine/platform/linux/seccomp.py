"""The seccomp filter of every container: an allow list of system calls, as Docker's default has it.

What is not listed fails with EPERM; clone3 with ENOSYS, so that libraries fall back to clone, whose flags a
filter can see. Format: OCI runtime specification, config-linux.md, "Seccomp". Names unknown to the
machine's libseccomp are ignored by runc and crun.
"""

from __future__ import annotations

import errno
import json
import os
import platform
from typing import Any

from jocker_protocol.errors import InvalidParams
from jocker_protocol.limits import Security

_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "loongarch64": ["SCMP_ARCH_LOONGARCH64"],
    "riscv64": ["SCMP_ARCH_RISCV64"],
    "ppc64le": ["SCMP_ARCH_PPC64LE"],
    "s390x": ["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
}

_ALLOWED = """
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid
getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid
getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname
getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl
ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat
lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock
mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal
pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64
process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv
recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2
restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid
setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid
setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid
setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64
statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink
unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
process_vm_readv process_vm_writev ptrace arch_prctl modify_ldt chroot arm_fadvise64_64 arm_sync_file_range
sync_file_range2 breakpoint cacheflush set_tls riscv_flush_icache riscv_hwprobe s390_pci_mmio_read s390_pci_mmio_write
s390_runtime_instr swapcontext
""".split()

_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEW*: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (clone(2))."""

_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX, PER_LINUX32, with UNAME26, and the question for the current one (personality(2))."""

_FAMILIES = [number for number in range(46) if number not in (12, 19, 20, 23, 25, 34, 37, 38, 40)]
"""Address families (linux/socket.h) but those nobody uses (DECnet, Econet, ATM, IrDA, WANPIPE, ISDN, CAIF) and
those that reach into the host: AF_ALG, AF_VSOCK.
"""


_WITH = {
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount "
        "open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare"
    ),
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
}
"""Capability -> calls that are good for nothing without it, and allowed with it."""


def chosen(security: Security, capabilities: list[str]) -> dict[str, Any]:
    """`linux.seccomp` of a container: the default, its own, or {} for none. Raises InvalidParams: a bad profile."""
    if security.seccomp == "unconfined" or (security.privileged and not security.seccomp):
        return {}
    return _given(security.seccomp, capabilities) if security.seccomp else profile(capabilities)


def _given(text: str, capabilities: list[str]) -> dict[str, Any]:
    """A profile of the user's: as the OCI specification has it, or in Docker's form, whose conditions are decided
    here (https://docs.docker.com/engine/security/seccomp/).
    """
    try:
        given = json.loads(text)
        found = {key: given[key] for key in ("defaultAction", "defaultErrnoRet", "flags") if key in given}
        if "archMap" in given:
            ours = _ARCHITECTURES.get(platform.machine(), [])
            found["architectures"] = [
                name
                for row in given["archMap"]
                if row["architecture"] in ours
                for name in (row["architecture"], *(row.get("subArchitectures") or ()))
            ]
        elif "architectures" in given:
            found["architectures"] = given["architectures"]
        found["syscalls"] = [
            _rule(rule) for rule in given.get("syscalls") or () if _applies(rule, set(capabilities))
        ]
        if not str(found["defaultAction"]).startswith("SCMP_ACT_"):
            raise ValueError("defaultAction must be an SCMP_ACT_")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise InvalidParams(f"seccomp: this is no seccomp profile: {said}") from None
    return found


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    names = rule["names"] if "names" in rule else [rule["name"]]
    return {"names": names} | {key: rule[key] for key in ("action", "errnoRet", "args") if rule.get(key)}


def _applies(rule: dict[str, Any], capabilities: set[str]) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    kernel = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if not set(includes.get("caps") or ()) <= capabilities or capabilities & set(excludes.get("caps") or ()):
        return False
    if arch in (excludes.get("arches") or ()) or (includes.get("arches") and arch not in includes["arches"]):
        return False
    oldest = includes.get("minKernel")
    return not oldest or kernel >= tuple(int(part) for part in oldest.split(".")[:2])


def profile(capabilities: list[str] | None = None) -> dict[str, Any]:
    """The default for this machine and these capabilities; {} for an architecture without a table."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return {}
    flags = 1 if machine == "s390x" else 0
    more = sorted({name for held in capabilities or () for name in _WITH.get(held, "").split()})
    without = (
        []
        if "clone3" in more
        else [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS}]
    )
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": _ARCHITECTURES[machine],
        "syscalls": [
            {"names": [*_ALLOWED, *more], "action": "SCMP_ACT_ALLOW"},
            *(_when("personality", 0, value, "SCMP_CMP_EQ") for value in _PERSONALITIES),
            *(_when("socket", 0, family, "SCMP_CMP_EQ") for family in _FAMILIES),
            _when("clone", flags, _NEW_NAMESPACES, "SCMP_CMP_MASKED_EQ", 0),
            *without,
        ],
    }


def _when(name: str, index: int, value: int, operator: str, other: int | None = None) -> dict[str, Any]:
    argument = {"index": index, "value": value, "op": operator}
    if other is not None:
        argument["valueTwo"] = other
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}
