"""The shim: owns one process, its standard streams, its log and its exit status, until all of them are done.

Speaks the control protocol of launch.py. Runs in a process of its own, forked from the zygote; it knows
nothing of containers beyond its Launch record, and asks nobody anything.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any

from jocker_protocol import wire

from . import namespaces, stdio
from .clients import Client, signal_number, window_size
from .control import Connection, Refused
from .cri import LogFile, stamp
from .files import remove, write_status
from .launch import PROTOCOL_VERSION, Launch
from .loop import READ, Loop
from .output import Output
from .process import StartError, command, command_failed, enter, exit_code

_UNUSED = 30.0
"""Seconds that a shim waits for somebody to talk to it at all."""
_GRACE = 2.0
"""Seconds that others may hold the output open, or survive KILL, after the process has ended."""
_RETRY = 1.0
"""Seconds between attempts to write the exit status to a full disk."""
_KILL_AGAIN = 0.02


class Shim:
    """The states: waiting for `start`, starting (the runtime command runs), running, ended, told."""

    def __init__(self, listener: socket.socket, path: str) -> None:
        self.loop = Loop()
        self._listener: socket.socket | None = listener
        self._path = path
        self._connections: set[Connection] = set()
        self._watchers: set[Connection] = set()
        self._followers: set[Connection] = set()
        self._launch: Launch | None = None
        self._runtime = 0
        """The runtime command while it runs."""
        self._pid = 0
        """The process while it runs."""
        self._lingers: int | None = None
        """The exit code of a process that has ended, while descendants of it go on."""
        self._console: stdio.Console | None = None
        self._stdio: stdio.Stdio | None = None
        self._output = Output(self.loop, self._settle, self._logged)
        self._input: stdio.Input | None = None
        self._feeder: Client | None = None
        """The first client with stdin: its going away ends the input."""
        self._reaped: dict[int, int] = {}
        """Wait statuses of children while it is not known which one is the process."""
        self._status: dict[str, Any] = {"exit_code": None, "error": "", "pid": 0}
        self._deadline = 0.0
        self._concluded = False
        self._told = False

    def run(self) -> None:
        """Until the process, its clients and its logs are done."""
        wake, waker = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda signum, frame: None)
        assert self._listener is not None
        self._listener.setblocking(False)
        self.loop.watch(wake, READ, lambda events: self._children_changed(wake))
        self.loop.watch(self._listener.fileno(), READ, self._accept)
        self.loop.later(_UNUSED, self._vanish)
        self.loop.run()
        signal.set_wakeup_fd(-1)
        os.close(wake)
        os.close(waker)

    # --- the control protocol

    def _accept(self, events: int) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it was given up, or there are too many: those that are there go on
        self.loop.cancel(self._vanish)
        self._connections.add(Connection(self.loop, sock, self._request, self._disconnected))

    def _disconnected(self, connection: Connection) -> None:
        for group in (self._connections, self._watchers, self._followers):
            group.discard(connection)
        if self._launch is None and not self._connections:
            self._vanish()
        self._leave()

    def _vanish(self) -> None:
        """Nobody wants this shim: nothing was started."""
        self._unlisten()
        self.loop.stop()

    def _request(self, connection: Connection, request: dict[str, Any], fds: list[int]) -> None:
        handlers = {
            "start": self._start,
            "watch": self._watch,
            "attach": self._attach,
            "signal": self._signal,
            "log": self._follow,
        }
        handler = handlers.get(request.get("op", ""))
        if self._told:
            raise Refused("the process has ended")
        if handler is None:
            raise Refused(f"unknown op {request.get('op')!r}")
        handler(connection, request, fds)

    def _start(self, connection: Connection, request: dict[str, Any], fds: list[int]) -> None:
        if self._launch is not None:
            raise Refused("started already")
        launch = Launch.from_json(request["launch"])
        if launch.enter not in ("command", "chroot", "jail"):
            raise Refused(f"unknown way to enter: {launch.enter!r}")
        wanted = [(_framing(client), bool(client["stdin"])) for client in request.get("clients", [])]
        if len(wanted) != len(fds):
            raise Refused(f"{len(wanted)} clients, but {len(fds)} descriptors")
        self._launch = launch
        self._watchers.add(connection)
        for framing, stdin in wanted:
            self._add_client(fds.pop(0), framing, stdin)
        self._status["started_at"] = stamp(time.time_ns())
        try:
            self._begin(launch)
        except StartError as error:
            self._failed(error)
        except (OSError, ValueError, TypeError) as error:
            self._failed(StartError(125, f"shim: {error}"))  # of the record, or of the machine

    def _watch(self, connection: Connection, request: dict[str, Any], fds: list[int]) -> None:
        self._watchers.add(connection)
        if self._status["pid"]:
            connection.tell(event="started", pid=self._status["pid"], version=PROTOCOL_VERSION)
        else:
            connection.tell(event="waiting", version=PROTOCOL_VERSION)
        if self._concluded:
            self._report()

    def _attach(self, connection: Connection, request: dict[str, Any], fds: list[int]) -> None:
        if len(fds) != 1:
            raise Refused("attach takes one descriptor")
        framing, stdin = _framing(request), bool(request["stdin"])
        self._add_client(fds.pop(), framing, stdin, request["from"] == "start")
        connection.tell(event="attached")

    def _signal(self, connection: Connection, request: dict[str, Any], fds: list[int]) -> None:
        pid = self._pid
        if self._runtime and request["signum"] == signal.SIGKILL:
            pid = -self._runtime  # it hangs, with whatever it has started
        if not pid:
            raise Refused("the process does not run")
        try:
            os.kill(pid, request["signum"])
        except OSError as error:
            raise Refused(f"cannot signal: {error.strerror}") from None
        connection.tell(event="signalled")

    def _follow(self, connection: Connection, request: dict[str, Any], fds: list[int]) -> None:
        self._followers.add(connection)
        connection.grown()

    # --- clients (clients.Owner)

    def _add_client(self, fd: int, framing: str, stdin: bool, from_start: bool = False) -> None:
        client = Client(self.loop, self, self._output, fd, framing, stdin, from_start)
        self._output.clients.append(client)
        if stdin and self._feeder is None:
            self._feeder = client
        self._control_input()

    def frame(self, client: Client, kind: int, payload: bytes) -> None:
        """What a client sent."""
        typed = client.stdin and self._launch is not None and self._launch.stdin
        if kind == wire.STDIN and typed and self._input is not None:
            self._input.write(payload)
            self._control_input()
        elif kind == wire.EOF and typed and self._input is not None:
            self._input.end()
        elif kind == wire.RESIZE:
            rows, cols = window_size(payload)
            if self._input is not None:
                self._input.resize(rows, cols)
        elif kind == wire.SIGNAL:
            signum = signal_number(payload)
            if self._pid:
                try:
                    os.kill(self._pid, signum)
                except PermissionError:
                    pass  # a set-uid program, and a shim that is not root: a frame has no answer

    def ended(self, client: Client) -> None:
        """It sends no more."""
        if client is self._feeder and self._input is not None:
            self._input.end()

    def left(self, client: Client) -> None:
        """It is gone."""
        if client in self._output.clients:
            self._output.clients.remove(client)
        self.ended(client)
        self._output.adjust()
        self._leave()

    def _control_input(self) -> None:
        """Clients with stdin are read while the process reads."""
        waiting = self._input is None and not self._ended and (self._launch is None or self._launch.stdin)
        full = waiting or (self._input is not None and self._input.full)
        for client in self._output.clients:
            client.listen(not (client.stdin and full))

    # --- the process

    @property
    def _ended(self) -> bool:
        return self._status["exit_code"] is not None

    def _begin(self, launch: Launch) -> None:
        if launch.log:
            self._output.log = LogFile(launch.log, launch.log_max_size, launch.log_max_files)
        if launch.enter == "command":
            if launch.tty:
                self._console = stdio.Console(self.loop, launch)
            # With a terminal these pipes carry only what the runtime itself has to say.
            self._stdio = stdio.pipes(launch)
            self._runtime = command(launch, self._stdio.child)
            self._stdio.close_child()
            return
        self._stdio = stdio.pty(launch) if launch.tty else stdio.pipes(launch)
        pid = enter(launch, self._stdio.child)
        self._stdio.close_child()
        self._started(pid)

    def _started(self, pid: int) -> None:
        launch, ends = self._launch, self._stdio
        assert launch is not None and ends is not None
        self._stdio = None
        self._close_console()
        self._pid = self._status["pid"] = pid
        if ends.input is not None:
            self._input = stdio.Input(self.loop, ends.input, launch.tty, self._control_input)
        self._control_input()
        for watcher in self._watchers:
            watcher.tell(event="started", pid=pid)
        self._output.begin(ends.outputs)

    def _logged(self) -> None:
        for follower in list(self._followers):
            follower.grown()

    def _children_changed(self, wake: int) -> None:
        os.read(wake, 4096)
        alone = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                alone = True
                break
            if pid == 0:
                break
            self._reaped[pid] = status
        if self._runtime in self._reaped:
            code = exit_code(self._reaped[self._runtime])
            self._runtime = 0
            self._runtime_ended(code)
        if self._pid in self._reaped:
            self._lingers = exit_code(self._reaped[self._pid])
            self._pid = 0
        linger = self._launch is not None and self._launch.linger
        if self._lingers is not None and (alone or not linger):
            code, self._lingers = self._lingers, None
            self._process_ended(code)
        if not self._runtime:
            self._reaped.clear()

    # --- starting through a runtime

    def _runtime_ended(self, code: int) -> None:
        launch, ends = self._launch, self._stdio
        assert launch is not None and ends is not None
        try:
            if code != 0:
                printed = b"".join(stdio.read(fd) or b"" for fd in ends.outputs)
                raise command_failed(launch, code, printed)
            try:
                with open(launch.pid_file, encoding="ascii") as file:
                    pid = int(file.read())
            except (OSError, ValueError):
                raise StartError(125, f"the runtime wrote no process id to {launch.pid_file}") from None
            if self._console is not None:
                try:
                    self._stdio = self._console.take()
                except BlockingIOError:
                    raise StartError(125, "the runtime sent no terminal") from None
                ends.close()
        except StartError as error:
            self._failed(error)
        else:
            self._started(pid)

    def _close_console(self) -> None:
        if self._console is not None:
            self._console.close()
            self._console = None

    # --- the end

    def _failed(self, error: StartError) -> None:
        self._close_console()
        if self._stdio is not None:
            self._stdio.close()
            self._stdio = None
        self._status.update(exit_code=error.exit_code, error=error.error, finished_at=stamp(time.time_ns()))
        self._conclude()

    def _process_ended(self, code: int) -> None:
        self._pid = 0
        self._status.update(exit_code=code, finished_at=stamp(time.time_ns()))
        self._deadline = time.monotonic() + _GRACE
        if self._input is not None:
            self._input.close()
            self._input = None
        self._control_input()
        self._settle()

    def _settle(self) -> None:
        """Conclude when nobody can print any more, or has had the time to."""
        if not self._ended or self._concluded:
            return
        assert self._launch is not None
        left = self._deadline - time.monotonic()
        if self._launch.kill_rest and namespaces.kill_descendants(signal.SIGKILL) and left > 0:
            self.loop.later(_KILL_AGAIN, self._settle)
        elif self._output.open and left > 0:
            self.loop.later(left, self._settle)
        elif self._output.open and self._output.paused:
            self.loop.later(_GRACE, self._settle)  # what is in the pipes waits for a slow client
        else:
            self._conclude()

    def _conclude(self) -> None:
        """The output is complete."""
        self._concluded = True
        self._output.close()
        self._report()

    def _report(self) -> None:
        """Write the status, then tell everybody. On a full disk it is enough that somebody is told."""
        if self._told:
            return
        try:
            if self._launch is not None and self._launch.status:
                write_status(self._launch.status, self._status)
        except FileNotFoundError:
            pass  # its directory was removed: nobody wants to know
        except OSError:
            if not self._watchers:
                self.loop.later(_RETRY, self._report)
                return
        self._told = True
        # Before anybody knows, since the next shim of this key may come as soon as they do.
        self._unlisten()
        code, error = self._status["exit_code"], self._status["error"]
        for watcher in list(self._watchers):
            if error:
                watcher.tell(event="failed", exit_code=code, error=error)
            else:
                watcher.tell(event="exited", exit_code=code)
        for connection in list(self._connections):
            if connection in self._followers:
                connection.close()
            else:
                connection.finish()
        for client in list(self._output.clients):
            client.result({"exit_code": code, "error": error} if error else {"exit_code": code})
        self._leave()

    def _unlisten(self) -> None:
        if self._listener is not None:
            self.loop.forget(self._listener.fileno())
            remove(self._path)
            self._listener.close()
            self._listener = None

    def _leave(self) -> None:
        """Go when all that was to be said has been."""
        if self._told and not self._output.clients and not self._connections:
            self.loop.stop()


def _framing(client: dict[str, Any]) -> str:
    framing = client["framing"]
    if framing not in wire.ENCODERS:
        raise Refused(f"unknown framing {framing!r}")
    return str(framing)
