"""Between a terminal (or pipes) and the stream of a process: raw mode, sizes, signals, and all of it undone."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import termios
import tty as tty_module
from typing import Any

import click

from jocker_protocol import wire
from jocker_protocol.errors import from_wire

from ..connection import Stream, Unreachable

DETACH = b"\x10\x11"
"""ctrl-p ctrl-q."""
_HIGH_WATER = 1 << 18
_PATIENCE = 3
"""Signals to end the process that it may leave unanswered before the command goes without it, as with docker."""
_FORWARDED = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "CONT")


class Detached(Exception):
    """The user left; the process goes on."""


def require_terminal() -> None:
    """For -t with -i. Raises UsageError."""
    if not sys.stdin.isatty():
        raise click.ClickException("the input device is not a terminal; leave out -t")


def console_size() -> dict[str, int] | None:
    """Of the terminal on standard output or input, if any."""
    for stream in (sys.stdout, sys.stdin):
        try:
            size = os.get_terminal_size(stream.fileno())
        except OSError:
            continue
        return {"rows": size.lines, "cols": size.columns}
    return None


def attach(stream: Stream, *, stdin: bool, tty: bool, forward: bool = True) -> dict[str, Any]:
    """Pass bytes both ways until the process ends; its result. Raises Detached, JockerError.

    With `tty` the terminal is raw meanwhile, and restored whatever happens.
    """
    pump = _Pump(stream, stdin, tty)
    raw = tty and stdin and sys.stdin.isatty()
    saved = termios.tcgetattr(sys.stdin) if raw else None
    handlers: dict[signal.Signals, Any] = {}
    wake, waker = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(waker, False)
    old_wakeup = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    try:
        names = [f"SIG{name}" for name in _FORWARDED] if forward else []
        for name in {*names, "SIGWINCH", "SIGTERM", "SIGHUP"}:
            number = signal.Signals[name]
            handlers[number] = signal.signal(number, lambda number, frame: None)
        if raw:
            tty_module.setraw(sys.stdin, termios.TCSADRAIN)
        return pump.run(wake, {int(signal.Signals[name]) for name in names} if not raw else set())
    finally:
        if saved is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)
        signal.set_wakeup_fd(old_wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(wake)
        os.close(waker)


class _Pump:
    def __init__(self, stream: Stream, stdin: bool, tty: bool) -> None:
        self._stream = stream
        self._stdin: int | None = sys.stdin.fileno() if stdin else None
        self._tty = tty
        self._out = bytearray()
        self._held = b""
        self._asked = 0
        """How often the process was told to end."""

    def run(self, wake: int, forwarded: set[int]) -> dict[str, Any]:
        sock = self._stream.socket
        sock.setblocking(False)
        while True:
            readers: list[int] = [sock.fileno(), wake]
            if self._stdin is not None and len(self._out) < _HIGH_WATER:
                readers.append(self._stdin)
            ready, writable, _ = select.select(readers, [sock.fileno()] if self._out else [], [])
            if writable:
                self._flush()
            if wake in ready:
                for signum in os.read(wake, 64):
                    self._signal(signum, forwarded)
            if self._stdin in ready:
                self._read_stdin()
            if sock.fileno() in ready:
                result = self._read_stream()
                if result is not None:
                    return result

    def _signal(self, signum: int, forwarded: set[int]) -> None:
        if signum == signal.SIGWINCH:
            size = console_size()
            if self._tty and size:
                self._send(wire.RESIZE, json.dumps(size).encode())
        elif signum in forwarded:
            name = signal.Signals(signum).name.removeprefix("SIG")
            self._asked += name in ("INT", "TERM")
            if self._asked == _PATIENCE:
                click.echo("jocker: it does not end, and is left alone; `jocker kill` ends it", err=True)
                raise SystemExit(128 + signum)
            self._send(wire.SIGNAL, json.dumps({"signal": name}).encode())
        else:
            raise SystemExit(128 + signum)

    def _read_stdin(self) -> None:
        assert self._stdin is not None
        try:
            data = os.read(self._stdin, 1 << 15)
        except OSError:  # the terminal has gone
            data = b""
        if not data:
            self._stdin = None
            self._send(wire.EOF)
            return
        if self._tty:
            data = self._held + data
            self._held = b""
            if DETACH in data:
                raise Detached
            if data.endswith(DETACH[:1]):
                self._held, data = data[-1:], data[:-1]
        if data:
            self._send(wire.STDIN, data)

    def _read_stream(self) -> dict[str, Any] | None:
        try:
            frames = self._stream.receive()
        except BlockingIOError:
            return None
        if frames is None:
            raise Unreachable("the connection to the process was lost; see `jocker ps -a` and `jocker logs`")
        for kind, payload in frames:
            if kind in (wire.STDOUT, wire.STDERR):
                write(1 if kind == wire.STDOUT else 2, payload)
            elif kind == wire.ERROR:
                raise from_wire(json.loads(payload))
            elif kind == wire.RESULT:
                result: dict[str, Any] = json.loads(payload)
                return result
        return None

    def _send(self, kind: int, payload: bytes = b"") -> None:
        self._out += wire.frame(kind, payload)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._stream.socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._out.clear()  # it has ended; what it said last is still to be read


def write(fd: int, data: bytes) -> None:
    """All of it, also to a descriptor that is not blocking. Raises BrokenPipeError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
