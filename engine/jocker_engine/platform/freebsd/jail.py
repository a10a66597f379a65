"""Runtime driver `jail`: a persistent jail for each run of a container, entered by shims with jail_attach(2).

A jail is described in a file of its own, which jail(8) is given to make it and to remove it: what it is told on the
command line it has forgotten when it removes a jail. ROOT/jail/ID says what a run has made, and is written before
anything is. All that is mounted in a container's root is mounted, and unmounted, here.

How a run ends: the stop signal to the main process, or `jail -r` of a description with exec.stop; when the
time is over KILL to every process; then `jail -r` for the hooks, with a time limit of its own, `jail -R` for what
withstands, unmounting in reverse and at last by force, rctl rules, shared memory. Interfaces are the network driver's.
Sources: jail(8), jail.conf(5), jls(8), jail_attach(2).
"""

from __future__ import annotations

import json
import logging
import os
import signal
from dataclasses import asdict, dataclass, replace

from jocker_protocol.errors import InvalidParams
from jocker_protocol.limits import Limits, Security

from ...shim.launch import Launch
from ..commands import Commands, PlatformError
from ..interfaces import Isolation, Process, Usage
from ..refusals import refuse
from ..rootfs import lookup_group, lookup_user, resolve
from . import devfs, jails, mounts, netjoin, netstat, rctl, shm
from .params import IPC, Param, check, describe, is_true, kernel_parameters, value_of, wants

_KILL_ROUNDS = 20
"""How often to look for processes forked while the others were signalled."""
_REMOVAL = 40.0
"""Seconds that `jail -r` gets, its hooks included."""
_HOOK, _TERM = 30, 5
"""Seconds: exec.timeout and stop.timeout, unless the user says otherwise."""
_STOP = 3600
"""Seconds that a stop may take at most, whatever the engine's patience."""
_SHUTDOWN = "/bin/sh /etc/rc.shutdown jail"
"""What stops a userland that /etc/rc has started."""

PARAMETERS = ["sysctl", "-N", "security.jail.param"]

log = logging.getLogger("jocker.platform")


@dataclass(frozen=True)
class _State:
    """What is known of a run, in ROOT/jail/ID."""

    name: str
    rootfs: str
    """The container's own file system."""
    path: str
    """The jail's root: the same, or where it is shown read-only."""
    description: str
    stop_description: str = ""
    """With exec.stop: `jail -r` of this one is how the container is stopped."""
    vnet: bool = False
    limits: bool = False


class JailRuntime:
    """See interfaces.Runtime.

    An init (Isolation.init) would have nothing to do: the main process is not pid 1, so that signals have their
    usual effect, and its shim reaps orphans.
    """

    name = "jail"

    def __init__(
        self, root: str, commands: Commands, *, accounting: bool = True, ruleset: str = devfs.JAIL
    ) -> None:
        """`accounting`: whether the kernel counts what jails take (kern.racct.enable, fixed at boot)."""
        self._commands = commands
        self._accounting = accounting
        self._ruleset = ruleset
        self._states = os.path.join(root, "jail")
        os.makedirs(self._states, mode=0o700, exist_ok=True)

    # --- before ---

    def check(self, limits: Limits, security: Security) -> None:
        refuse(self.name, limits, security)
        for field in rctl.COUNTED:
            if getattr(limits, field) > 0 and not self._accounting:
                raise InvalidParams(
                    f"{field}: this kernel does not count what jails take; add the line {rctl.LOADER_LINE} to "
                    "/boot/loader.conf and restart the machine"
                )

    async def check_jail_params(self, params: tuple[str, ...]) -> None:
        if params:
            check(params, await self._kernel())

    async def _kernel(self) -> frozenset[str]:
        """Asked each time: modules bring parameters of their own."""
        return kernel_parameters((await self._commands.run(PARAMETERS)).stdout)

    # --- start ---

    async def prepare(self, isolation: Isolation, process: Process) -> Launch:
        self.check(isolation.limits, isolation.security)
        await self._clear(isolation.id)  # of a run that was cut off
        kernel = await self._kernel()
        user_params = check(isolation.jail_params, kernel)
        launch = _launch(isolation, process)
        state, params = _describe(isolation, process, user_params, kernel, self._ruleset)
        self._remember(isolation.id, state)
        os.makedirs(resolve(state.rootfs, process.cwd), exist_ok=True)
        await self._mount(isolation, state, user_params)
        _write(state.description, describe(state.name, params))
        if state.stop_description:
            _write(state.stop_description, describe(state.name, _for_stop(params, user_params)))
        await self._limit(state.name, isolation.limits)
        await self._commands.run(jails.create(state.description, state.name), timeout=_REMOVAL * 3)
        jid = await self._jid(state.name)
        if jid is None:
            raise PlatformError(f"jail {state.name} was made, and is gone already")
        if isolation.limits.cpuset_cpus:
            await self._commands.run(rctl.cpuset(isolation.limits.cpuset_cpus, state.name))
        for key, value in isolation.security.sysctls.items():
            await self._commands.run(["sysctl", "-j", state.name, f"{key}={value}"])
        return replace(launch, jid=jid, fib=_fib(user_params))

    async def _mount(self, isolation: Isolation, state: _State, params: list[Param]) -> None:
        ruleset = value_of(params, "devfs_ruleset") or self._ruleset
        if with_devfs := wants(params, "mount.devfs", True):
            await self._check_ruleset(ruleset)
        table = await mounts.table(self._commands)
        planned = mounts.plan(
            state.rootfs,
            isolation.binds,
            isolation.files,
            table,
            ruleset=ruleset,
            devfs=with_devfs,
            fdescfs=wants(params, "mount.fdescfs", False),
            procfs=wants(params, "mount.procfs", False),
        )
        if state.path != state.rootfs:
            os.makedirs(state.path, exist_ok=True)
            view = mounts.Mount("nullfs", state.rootfs, state.path, ("ro",))
            inside = [
                replace(each, target=state.path + each.target.removeprefix(state.rootfs)) for each in planned
            ]
            planned = [view, *inside]
        for number, each in enumerate(planned):
            if mounts.covered(each, planned[:number], state.path):
                mounts.make_point(each)
            await self._commands.run(each.argv())

    async def _check_ruleset(self, ruleset: str) -> None:
        """Without its ruleset a jail would see every device."""
        loaded = devfs.parse_sets((await self._commands.run(devfs.SHOWSETS)).stdout)
        rules = await self._commands.run(devfs.show(ruleset), check=False) if ruleset in loaded else None
        if rules is None or not devfs.hides(rules.stdout):
            raise PlatformError(
                f"devfs ruleset {ruleset} is not loaded, and without it the container would see every device: "
                f"run `{devfs.MEND}`"
            )

    async def _limit(self, jail: str, limits: Limits) -> None:
        """These rules and no others."""
        if not self._accounting:
            return
        await self._commands.run(rctl.remove(jail), check=False)
        for rule in rctl.rules(jail, limits):
            await self._commands.run(rctl.add(rule))

    async def launch_exec(self, isolation: Isolation, process: Process, key: str) -> Launch:
        state = self._read(isolation.id)
        jid = await self._jid(state.name) if state is not None else None
        if jid is None:
            raise PlatformError(f"container {isolation.id[:12]} has no jail")
        launch = _launch(isolation, process)
        params = check(isolation.jail_params, await self._kernel()) if isolation.jail_params else []
        return replace(launch, jid=jid, fib=_fib(params), linger=False, kill_rest=False)

    async def update(self, isolation: Isolation) -> None:
        self.check(isolation.limits, isolation.security)
        if (state := self._read(isolation.id)) is not None:
            await self._limit(state.name, isolation.limits)
            if isolation.limits.cpuset_cpus:
                await self._commands.run(rctl.cpuset(isolation.limits.cpuset_cpus, state.name))

    # --- while it runs ---

    async def signal(self, container: str, pid: int, signum: int) -> None:
        pids = await self.processes(container, pid)
        if pid in pids:
            _kill(pid, signum)
        else:  # the main process has started a userland, and ended
            for each in pids:
                _kill(each, signum)

    async def stop(self, container: str, pid: int, signum: int) -> None:
        state = self._read(container)
        if state is None or not state.stop_description:
            await self.signal(container, pid, signum)
            return
        command = jails.remove(state.stop_description, state.name)
        await self._commands.run(command, timeout=_STOP, check=False)

    async def kill_all(self, container: str, pid: int) -> None:
        killed: set[int] = set()
        for _ in range(_KILL_ROUNDS):
            new = set(await self.processes(container, pid)) - killed
            if not new:
                return
            for each in sorted(new, key=lambda found: found != pid):  # the main process first: it shall not
                _kill(each, signal.SIGKILL)  # end by itself because its children did
            killed |= new

    async def pause(self, container: str) -> None:
        stopped: set[int] = set()
        for _ in range(_KILL_ROUNDS):
            new = set(await self.processes(container, 0)) - stopped
            if not new:
                return
            for each in new:
                _kill(each, signal.SIGSTOP)
            stopped |= new

    async def resume(self, container: str) -> None:
        for each in await self.processes(container, 0):
            _kill(each, signal.SIGCONT)

    async def is_paused(self, container: str) -> bool:
        rows = await self._rows(container)
        return bool(rows) and all(row.state[:1] in ("T", "Z") for row in rows)

    async def processes(self, container: str, pid: int) -> list[int]:
        return [row.pid for row in await self._rows(container) if row.state[:1] != "Z"]

    async def _rows(self, container: str) -> list[jails.Row]:
        state = self._read(container)
        if state is None:
            return []
        return jails.parse_processes(
            (await self._commands.run(jails.processes(state.name), check=False)).stdout
        )

    async def usage(self, container: str, pid: int) -> Usage:
        """From the kernel's accounts; without them what the processes there are take."""
        state = self._read(container)
        if state is None:
            return Usage()
        rows = await self._rows(container)
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        usage = Usage(
            cpu=sum(jails.cpu_seconds(row.time) for row in rows),
            memory=sum(row.rss for row in rows) * 1024,
            memory_limit=whole,
            processes=len(rows),
        )
        if self._accounting:
            done = await self._commands.run(rctl.usage(state.name), check=False)
            counted = rctl.parse_usage(done.stdout)
            rules = await self._commands.run(["rctl", rctl.subject(state.name)], check=False)
            usage = replace(
                usage,
                cpu=max(usage.cpu, counted.get("cputime", 0)),
                memory=counted.get("memoryuse", usage.memory),
                processes=counted.get("nthr", usage.processes),
                memory_limit=rctl.limit(rules.stdout, "memoryuse:sigkill") or whole,
                processes_limit=rctl.limit(rules.stdout, "maxproc:deny"),
            )
        if state.vnet:
            done = await self._commands.run(netstat.counters(state.name), check=False)
            received, sent = netstat.parse_counters(done.stdout)
            usage = replace(usage, received=received, sent=sent)
        return usage

    async def oom_kills(self, container: str) -> int:
        """rctl does not count its kills."""
        return 0

    async def root(self, isolation: Isolation, pid: int) -> str:
        state = self._read(isolation.id)
        return state.path if state is not None else isolation.rootfs

    # --- the end ---

    async def destroy(self, isolation: Isolation) -> None:
        await self._clear(isolation.id)

    async def _clear(self, container: str) -> None:
        """Nothing is left of a run. Each step may have been done before, or find nothing."""
        state = self._read(container)
        if state is None:
            return
        if await self._jid(state.name) is not None:
            await self._remove(state)
        await mounts.unmount_below(self._commands, state.path)
        if state.path != state.rootfs:
            await mounts.unmount_at(self._commands, state.path)
            if os.path.isdir(state.path):
                os.rmdir(state.path)
        if self._accounting:
            await self._commands.run(rctl.remove(state.name), check=False)
        await self._free_shared_memory(container, state)
        for path in (state.description, state.stop_description):
            if path and os.path.exists(path):
                os.unlink(path)
        os.unlink(self._state_file(container))

    async def _remove(self, state: _State) -> None:
        """By jail -r, for the hooks; by jail -R, when that fails or hangs. Judged by what is there, not by what is said."""
        if os.path.exists(state.description):
            try:
                await self._commands.run(
                    jails.remove(state.description, state.name), timeout=_REMOVAL, check=False
                )
            except PlatformError as error:
                log.warning("jail %s: %s", state.name, error.message)
        if await self._jid(state.name) is not None:
            await self._commands.run(jails.remove_now(state.name), check=False)
        if await self._jid(state.name) is not None:
            raise PlatformError(f"jail {state.name} cannot be removed; `jls -v -j {state.name}` shows it")

    async def _free_shared_memory(self, container: str, state: _State) -> None:
        """Objects that nobody has removed would keep the jail dying for ever."""
        done = await self._commands.run(shm.LISTING, check=False)
        for name in shm.parse_listing(done.stdout, state.path):
            log.warning("container %s left POSIX shared memory behind: %s; removed", container[:12], name)
            await self._commands.run(shm.remove(name), check=False)

    # --- what there is ---

    async def inventory(self) -> frozenset[str]:
        return frozenset(name for name in os.listdir(self._states) if not name.endswith(".new"))

    async def states(self) -> frozenset[str]:
        """Those with a jail that is not dying."""
        there = await self._jails()
        known = {container: self._read(container) for container in await self.inventory()}
        return frozenset(container for container, state in known.items() if state and state.name in there)

    async def _jails(self) -> dict[str, int]:
        listed = jails.parse_listing((await self._commands.run(jails.LISTING)).stdout)
        return {jail.name: jail.jid for jail in listed if not jail.dying}

    async def _jid(self, name: str) -> int | None:
        return (await self._jails()).get(name)

    def _state_file(self, container: str) -> str:
        return os.path.join(self._states, container)

    def _remember(self, container: str, state: _State) -> None:
        path = self._state_file(container)
        _write(path + ".new", json.dumps(asdict(state)))
        os.rename(path + ".new", path)

    def _read(self, container: str) -> _State | None:
        try:
            with open(self._state_file(container), encoding="utf-8") as file:
                return _State(**json.load(file))
        except FileNotFoundError:
            return None


def _describe(
    isolation: Isolation,
    process: Process,
    user_params: list[Param],
    kernel: frozenset[str],
    ruleset: str,
) -> tuple[_State, list[Param]]:
    """What is going to be made, and the parameters of the jail; the user's come last and win."""
    name = jails.new_name(isolation.id)
    rootfs = os.path.realpath(isolation.rootfs)
    path = (
        os.path.join(os.path.realpath(isolation.directory), "root-ro")
        if isolation.security.read_only
        else rootfs
    )
    stops = jails.is_userland(process.argv) or value_of(user_params, "exec.stop") is not None
    network = netjoin.params(isolation.network, name, kernel)
    params = [
        Param("path", path),
        Param("host.hostname", isolation.hostname),
        Param("persist"),
        # No exec.clean: our environment is clean, and for that one a jail must have a compiled passwd (pwd.db).
        # What hooks start must not hold the pipe on which jail(8) talks to us.
        Param("exec.consolelog", os.path.join(isolation.directory, "console.log")),
        Param("exec.timeout", str(_HOOK)),
        Param("stop.timeout", str(_TERM)),
        # 2 hides all mounts but the root's, and a jail that may mount could not.
        Param("enforce_statfs", "1" if _may_mount(user_params) else "2"),
        Param("devfs_ruleset", ruleset),
        *(Param(ipc, "new") for ipc in IPC if ipc in kernel),
        *([Param("meta", f"jocker.id={isolation.id}")] if "meta" in kernel else []),
        *network,
        *user_params,
    ]
    state = _State(
        name=name,
        rootfs=rootfs,
        path=path,
        description=os.path.join(isolation.directory, "jail.conf"),
        stop_description=os.path.join(isolation.directory, "jail-stop.conf") if stops else "",
        vnet=Param("vnet") in network,
    )
    return state, params


def _may_mount(params: list[Param]) -> bool:
    return any(
        param.name.startswith("allow.mount")
        and is_true(param.name, param.value or "", "=" * (param.value is not None))
        for param in params
    )


def _for_stop(params: list[Param], user_params: list[Param]) -> list[Param]:
    """The description that `stop` uses: how long it may take is the engine's to say."""
    more = [Param("exec.stop", _SHUTDOWN)] if value_of(user_params, "exec.stop") is None else []
    for name in ("exec.timeout", "stop.timeout"):
        if value_of(user_params, name) is None:
            more.append(Param(name, str(_STOP)))
    return [*params, *more]


def _launch(isolation: Isolation, process: Process) -> Launch:
    user = lookup_user(isolation.rootfs, process.user)
    env = list(process.env)
    if not any(item.startswith("HOME=") for item in env):
        env.append(f"HOME={user.home}")
    linger = jails.is_userland(process.argv)
    more = [lookup_group(isolation.rootfs, group) for group in isolation.security.group_add]
    return Launch(
        enter="jail",
        argv=list(process.argv),
        status="",
        env=env,
        cwd=process.cwd,
        uid=user.uid,
        gid=user.gid,
        groups=[*user.groups, *more],
        login=user.name,
        rlimits=[[each.name, each.soft, each.hard] for each in isolation.limits.ulimits],
        no_new_privileges=isolation.security.no_new_privileges,
        tty=process.tty,
        rows=process.rows,
        cols=process.cols,
        linger=linger,
        kill_rest=not linger,
    )


def _fib(params: list[Param]) -> int:
    value = value_of(params, "exec.fib")
    return int(value) if value and value.isdigit() else 0


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _kill(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass
