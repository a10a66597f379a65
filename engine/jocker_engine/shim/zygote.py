"""The zygote: a process with all modules of a shim loaded, that forks shims and log readers when asked.

Started by the engine as `python -S -E -c ... RUN FD`. Speaks JSON documents, one a line, over the socket pair
FD; the answer to each has its id. Ends with the engine; what it forked goes on.

    -> {"id": 1, "op": "shim", "key": "0123456789ab"}      <- {"id": 1}    its socket is there to be connected to
    -> {"id": 2, "op": "logs", "request": {...}}  + 1 fd   <- {"id": 2}
    <- {"id": 3, "error": "..."}
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import socket
import sys
import syslog
import traceback
from collections.abc import Callable
from typing import Any

from . import logs, namespaces
from .files import remove
from .launch import Launch, LogRequest, dump
from .process import IGNORED
from .shim import Shim

_BACKLOG = 16
_KEY = re.compile(r"[0-9a-f]{12}")


def main() -> None:
    """The process's whole life."""
    run, fd = sys.argv[1], int(sys.argv[2])
    os.chdir("/")
    os.umask(0o077)
    os.setsid()
    _rehearse(run)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children leave no zombies, wait(2)
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    namespaces.set_name("jocker-zygote")
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=fd) as engine:
        Zygote(engine, run).serve()


class Zygote:
    """Answers one engine, one request at a time."""

    def __init__(self, engine: socket.socket, run: str) -> None:
        self._engine = engine
        self._run = run
        self._buffer = bytearray()
        self._fds: list[int] = []

    def serve(self) -> None:
        """Until the engine is gone."""
        operations = {"shim": self._shim, "logs": self._logs}
        while (request := self._receive()) is not None:
            answer: dict[str, Any] = {"id": request["id"]}
            try:
                operations[request["op"]](request)
            except (OSError, ValueError) as error:
                answer["error"] = str(error)
            while self._fds:
                os.close(self._fds.pop())
            try:
                self._engine.sendall(dump(answer))
            except BrokenPipeError:
                return

    def _receive(self) -> dict[str, Any] | None:
        while (end := self._buffer.find(b"\n")) < 0:
            try:
                data, fds, _, _ = socket.recv_fds(self._engine, 1 << 16, 1)
            except ConnectionResetError:
                return None
            for fd in fds:
                os.set_inheritable(fd, False)
            self._fds += fds
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        request: dict[str, Any] = json.loads(line)
        return request

    def _shim(self, request: dict[str, Any]) -> None:
        if not _KEY.fullmatch(request["key"]):
            raise ValueError(f"not a key: {request['key']!r}")
        path = os.path.join(self._run, request["key"])
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            try:
                listener.listen(_BACKLOG)
                self._fork(lambda: _run_shim(listener, path))
            except OSError:
                os.unlink(path)
                raise

    def _logs(self, request: dict[str, Any]) -> None:
        if len(self._fds) != 1:
            raise ValueError("logs takes one descriptor")
        wanted = LogRequest(**request["request"])
        fd = self._fds[0]
        self._fork(lambda: logs.serve(fd, wanted))

    def _fork(self, run: Callable[[], None]) -> None:
        if os.fork() != 0:
            return
        status = 1
        try:
            os.setsid()
            self._engine.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            run()
            status = 0
        except BaseException:
            # Nobody else is there to hear it: 0 to 2 are /dev/null.
            syslog.openlog("jocker-shim")
            for line in traceback.format_exc().splitlines():
                syslog.syslog(syslog.LOG_ERR, line)
        finally:
            os._exit(status)


def _run_shim(listener: socket.socket, path: str) -> None:
    for signum in IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    namespaces.become_reaper()
    namespaces.set_name("jocker-shim")
    Shim(listener, path).run()


def _rehearse(run: str) -> None:
    """Have a shim refuse an empty command line, here.

    Code that runs for the first time fills caches in memory that shims then share: 200 KiB less for each.
    """
    path = os.path.join(run, "rehearsal")
    launch = Launch(enter="chroot", argv=[], status="", root="/")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        remove(path)
        listener.bind(path)
        listener.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as engine:
            engine.connect(path)
            engine.sendall(dump({"op": "start", "launch": launch.to_json()}))
            Shim(listener, path).run()
