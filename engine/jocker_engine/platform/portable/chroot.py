"""Runtime driver `chroot`: another root directory and no isolation, for where nothing better works.

A container shares the host's processes, network, IPC and hostname (`Isolation.hostname` is ignored). On
Linux, where mount namespaces can be made, it has one of its own with its binds, the host's /proc and a small
/dev. Where they cannot (root without CAP_SYS_ADMIN), /dev is made in the root itself, files are copied into
it, and binds are refused.

Without root the shim makes a user namespace of one id (user_namespaces(7)): the caller's id on the host is
the id that USER names inside, 0 without one, and all files of the image, being the caller's, belong to that
id. No other id can exist: su, supplementary groups and chown to others fail inside, and COPY --chown has no
effect.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
from dataclasses import replace

from jocker_protocol.limits import Limits, Security

from ...shim.launch import Launch
from ..commands import Commands, PlatformError
from ..interfaces import Bind, Isolation, Process, Usage, no_jail_params
from ..refusals import refuse
from ..rootfs import lookup_group, lookup_user, resolve
from ..work import work

_LINUX = sys.platform == "linux"
_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
_DEV_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
_KILL_ROUNDS = 20
"""How often to look for processes forked while the others were killed."""


class ChrootRuntime:
    """See interfaces.Runtime. ROOT/chroot/ID is a file that holds the path of the container's root.

    An init (Isolation.init) would have nothing to do: the main process is not pid 1, so that signals have their
    usual effect, and its shim reaps orphans.
    """

    name = "chroot"

    def __init__(self, root: str, commands: Commands) -> None:
        self._commands = commands
        self._states = os.path.join(root, "chroot")
        self._paused = os.path.join(root, "chroot-paused")
        """A file per container that is paused: a stopped process may have been stopped by somebody else."""
        for directory in (self._states, self._paused):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        self._cannot_mount: str | None = None

    async def check_jail_params(self, params: tuple[str, ...]) -> None:
        no_jail_params(self.name, params)

    async def prepare(self, isolation: Isolation, process: Process) -> Launch:
        if isolation.network != "host":
            raise PlatformError(
                f"runtime chroot cannot isolate the network: use --network host, not {isolation.network!r}"
            )
        binds: list[list[object]] = []
        if reason := await self._why_no_mounts():
            if isolation.binds:
                raise PlatformError(f"runtime chroot cannot mount {isolation.binds[0].target}: {reason}")
            if isolation.security.read_only:
                raise PlatformError(f"runtime chroot cannot make the root read-only: {reason}")
            _fill_dev(isolation.rootfs)
            for target, source in isolation.files.items():
                shutil.copyfile(source, _mount_point(isolation.rootfs, target, directory=False))
        else:
            binds = _binds(isolation)
        os.makedirs(resolve(isolation.rootfs, process.cwd), exist_ok=True)
        launch = _launch(isolation, process, binds=binds, kill_rest=True)
        self._remember(isolation)
        return launch

    async def launch_exec(self, isolation: Isolation, process: Process, key: str) -> Launch:
        pids = _processes(isolation.rootfs) if _LINUX else []
        first = _first(pids)
        if _LINUX and not first:
            raise PlatformError(f"container {isolation.id} has no process")
        launch = _launch(isolation, process, join_pid=first)
        if not launch.user_namespace:
            return launch
        uid, gid = _only_id(launch.join_pid, "uid"), _only_id(launch.join_pid, "gid")
        if launch.uid != uid:
            raise PlatformError(
                f"without root a container has one user: this one has uid {uid}, not {launch.uid}"
            )
        return replace(launch, gid=gid)

    def check(self, limits: Limits, security: Security) -> None:
        refuse(self.name, limits, security)

    async def signal(self, container: str, pid: int, signum: int) -> None:
        _kill(pid, signum)

    async def stop(self, container: str, pid: int, signum: int) -> None:
        _kill(pid, signum)

    async def update(self, isolation: Isolation) -> None:
        """Nothing that can be changed later is enforced here."""

    async def pause(self, container: str) -> None:
        """SIGSTOP, until no process is left that was forked meanwhile. The mark comes first."""
        if not _LINUX:
            raise PlatformError(f"runtime {self.name} cannot tell here which processes are a container's")
        os.close(os.open(self._mark(container), os.O_CREAT | os.O_CLOEXEC, 0o600))
        stopped: set[int] = set()
        for _ in range(_KILL_ROUNDS):
            new = set(await self.processes(container, 0)) - stopped
            if not new:
                return
            for pid in new:
                _kill(pid, signal.SIGSTOP)
            stopped |= new

    async def resume(self, container: str) -> None:
        if os.path.exists(self._mark(container)):
            for pid in await self.processes(container, 0):
                _kill(pid, signal.SIGCONT)
            os.unlink(self._mark(container))

    async def is_paused(self, container: str) -> bool:
        return os.path.exists(self._mark(container))

    def _mark(self, container: str) -> str:
        return os.path.join(self._paused, container)

    async def usage(self, container: str, pid: int) -> Usage:
        """Of the processes there are: what those took that have ended is not known. Memory counts shared pages for
        each of them.
        """
        rows = [row for each in await self.processes(container, pid) if (row := _stat(each))]
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        return Usage(
            cpu=sum(sum(map(int, row[11:15])) for row in rows) / ticks,
            memory=sum(int(row[21]) for row in rows) * page,
            memory_limit=page * os.sysconf("SC_PHYS_PAGES"),
            processes=sum(int(row[17]) for row in rows),
        )

    async def processes(self, container: str, pid: int) -> list[int]:
        root = self._root(container)
        if _LINUX and root is not None:
            return sorted(_processes(root))
        return [pid] if pid > 0 else []

    async def oom_kills(self, container: str) -> int:
        return 0

    async def root(self, isolation: Isolation, pid: int) -> str:
        return f"/proc/{pid}/root" if _LINUX else isolation.rootfs

    async def kill_all(self, container: str, pid: int) -> None:
        """Every process whose root is the container's; where there is no /proc, the main process."""
        root = self._root(container)
        if not _LINUX or root is None:
            _kill(pid, signal.SIGKILL)
            return
        killed: set[int] = set()
        for _ in range(_KILL_ROUNDS):
            new = set(_processes(root)) - killed
            if not new:
                return
            for found in sorted(new, key=lambda each: each != pid):  # the main process first: it shall not
                _kill(found, signal.SIGKILL)  # end by itself because its children did
            killed |= new

    async def destroy(self, isolation: Isolation) -> None:
        try:
            shutil.rmtree(_dev_directory(isolation))
        except FileNotFoundError:
            pass
        for path in (self._mark(isolation.id), os.path.join(self._states, isolation.id)):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass

    async def inventory(self) -> frozenset[str]:
        return await self.states()

    async def states(self) -> frozenset[str]:
        return frozenset(name for name in os.listdir(self._states) if not name.endswith(".new"))

    def _remember(self, isolation: Isolation) -> None:
        state = os.path.join(self._states, isolation.id)
        with open(state + ".new", "wb") as file:
            file.write(os.fsencode(os.path.realpath(isolation.rootfs)))
        os.rename(state + ".new", state)

    def _root(self, container: str) -> str | None:
        try:
            with open(os.path.join(self._states, container), "rb") as file:
                return os.fsdecode(file.read())
        except FileNotFoundError:
            return None

    async def _why_no_mounts(self) -> str:
        """Why containers cannot have mounts of their own; "" if they can. Tried once."""
        if self._cannot_mount is None:
            found = await work(self._commands, "probe_chroot")
            if found["chroot"]:
                raise PlatformError(f"runtime chroot cannot be used: {found['chroot']}")
            self._cannot_mount = found["mount"]
        return self._cannot_mount


def _launch(
    isolation: Isolation,
    process: Process,
    *,
    binds: list[list[object]] | None = None,
    join_pid: int = 0,
    kill_rest: bool = False,
) -> Launch:
    user = lookup_user(isolation.rootfs, process.user)
    groups = {lookup_group(isolation.rootfs, name) for name in isolation.security.group_add}
    root = os.geteuid() == 0
    if groups and not root:
        raise PlatformError(
            "runtime chroot: without root a container has one group: --group-add cannot add any"
        )
    env = list(process.env)
    if not any(item.startswith("HOME=") for item in env):
        env.append(f"HOME={user.home}")
    return Launch(
        enter="chroot",
        argv=list(process.argv),
        status="",
        env=env,
        cwd=process.cwd,
        root=os.path.realpath(isolation.rootfs),
        uid=user.uid,
        gid=user.gid,
        groups=sorted(groups.union(user.groups)) if root else [],
        user_namespace=not root,
        binds=binds or [],
        join_pid=join_pid,
        tty=process.tty,
        rows=process.rows,
        cols=process.cols,
        kill_rest=kill_rest,
        rlimits=[[each.name, each.soft, each.hard] for each in isolation.limits.ulimits],
        oom_score_adj=isolation.limits.oom_score_adj,
        no_new_privileges=isolation.security.no_new_privileges,
    )


def _binds(isolation: Isolation) -> list[list[object]]:
    """What to mount, in order, with its mount points made. Targets have no links in them: the shim mounts
    from outside.
    """
    dev = _dev_directory(isolation)
    os.makedirs(dev, exist_ok=True)
    binds: list[list[object]] = []

    def add(source: str, target: str, read_only: bool = False, data: str = "") -> None:
        directory = not source or os.path.isdir(source)
        inside = os.path.normpath(target)
        if inside.startswith("/dev/"):
            _mount_point(dev, inside.removeprefix("/dev"), directory=directory)
        else:
            point = _mount_point(isolation.rootfs, target, directory=directory)
            inside = "/" + os.path.relpath(point, os.path.realpath(isolation.rootfs))
        binds.append([source, inside, read_only, *([data] if data else [])])

    if isolation.security.read_only:
        binds.append([os.path.realpath(isolation.rootfs), "", True])
    add(dev, "/dev")
    for name in _DEVICES:
        add(f"/dev/{name}", f"/dev/{name}")
    for name, link in _DEV_LINKS.items():
        if not os.path.lexists(os.path.join(dev, name)):
            os.symlink(link, os.path.join(dev, name))
    if os.path.isdir("/dev/pts"):
        add("/dev/pts", "/dev/pts")
        add("/dev/ptmx", "/dev/ptmx")
    shm = isolation.limits.shm_size
    add("", "/dev/shm", data=f"mode=1777,size={shm}" if shm else "")
    if os.path.isdir("/proc/self"):
        add("/proc", "/proc")
    for target, source in isolation.files.items():
        add(source, target)
    for bind in isolation.binds:
        add(bind.source, bind.target, bind.read_only, _data(bind))
    return binds


def _data(bind: Bind) -> str:
    """Options of a tmpfs."""
    return ",".join(bind.options) if not bind.source else ""


def _dev_directory(isolation: Isolation) -> str:
    return os.path.join(isolation.directory, "dev")


def _mount_point(root: str, target: str, *, directory: bool) -> str:
    """The real path of a directory or file in the root, made if it is not there."""
    path = resolve(root, target)
    if directory:
        os.makedirs(path, exist_ok=True)
    elif not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    return path


def _fill_dev(rootfs: str) -> None:
    """Device nodes in the root itself, as far as this user may: without /dev/null few scripts work."""
    dev = resolve(rootfs, "/dev")
    os.makedirs(dev, exist_ok=True)
    for name in _DEVICES if _LINUX else ():
        path = os.path.join(dev, name)
        if not os.path.lexists(path):
            status = os.stat(f"/dev/{name}")
            try:
                os.mknod(path, stat.S_IFCHR | 0o666, status.st_rdev)
                os.chmod(path, 0o666)
            except PermissionError:
                return
    for name, link in _DEV_LINKS.items():
        if not os.path.lexists(os.path.join(dev, name)):
            os.symlink(link, os.path.join(dev, name))


def _only_id(pid: int, kind: str) -> int:
    """The id inside that a process's user namespace maps to the caller."""
    with open(f"/proc/{pid}/{kind}_map", encoding="ascii") as file:
        return int(file.read().split()[0])


def _processes(rootfs: str) -> list[int]:
    """All processes whose root directory this is, in whatever namespace: /proc/PID/root is the same inode
    (proc(5)).
    """
    wanted = _identity(rootfs)
    if wanted is None or wanted == _identity("/"):
        return []
    numbers = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in numbers if _identity(f"/proc/{pid}/root") == wanted]


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None  # gone, or somebody else's
    return status.st_dev, status.st_ino


def _stat(pid: int) -> list[bytes]:
    """Fields of proc_pid_stat(5) from the third one on; [] when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _first(pids: list[int]) -> int:
    """The one that the others come from, which is not the one of the smallest number: numbers begin anew. 0: all are gone."""
    found = {pid: stat for pid in pids if (stat := _stat(pid))}
    # Fields 4 and 22 of proc_pid_stat(5). Orphans have a parent outside, too; they started later.
    began = {pid: int(stat[19]) for pid, stat in found.items() if int(stat[1]) not in found}
    return min(began, key=lambda pid: (began[pid], pid), default=0)


def _kill(pid: int, signum: int) -> None:
    if pid <= 0:
        return  # not known; to kill(2) 0 is this process's own group
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass
