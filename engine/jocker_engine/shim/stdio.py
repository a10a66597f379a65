"""Standard input, output and error of a process: pipes or a pty, and the writing end of its input.

Knows file descriptors and the loop. Of each pair the shim keeps one end (non-blocking) and the process gets
the other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable

from .cri import STDERR, STDOUT
from .files import remove
from .launch import Launch
from .loop import GONE, READ, WRITE, Loop

CHUNK = 1 << 16
"""Bytes read from a process at once: what a pipe holds."""

_INPUT_LIMIT = 1 << 18
"""Bytes that may wait for the process to read them."""


class Stdio:
    """Both ends of a process's three standard streams."""

    def __init__(self, child: tuple[int, ...], input: int | None, outputs: dict[int, bytes]) -> None:
        self.child = child
        """What becomes 0, 1 and 2; empty when the process has its own."""
        self.input = input
        """Where its input is written; None if it has none. A terminal always has, to be resized."""
        self.outputs = outputs
        """Where its output is read: descriptor -> stream."""

    def close_child(self) -> None:
        """The process has its own by now."""
        for fd in {*self.child}:
            os.close(fd)
        self.child = ()

    def close(self) -> None:
        """All of them, when there is no process to give them to."""
        self.close_child()
        for fd in (*self.outputs, *([] if self.input is None else [self.input])):
            os.close(fd)


def pipes(launch: Launch) -> Stdio:
    """Pipes; without stdin it is /dev/null."""
    out, child_out = os.pipe()
    error, child_error = os.pipe()
    if launch.stdin:
        child_in, input = os.pipe()
        os.set_blocking(input, False)
    else:
        child_in, input = os.open(os.devnull, os.O_RDONLY), None
    for fd in (out, error):
        os.set_blocking(fd, False)
    return Stdio((child_in, child_out, child_error), input, {out: STDOUT, error: STDERR})


def pty(launch: Launch) -> Stdio:
    """A pty that belongs to the process's user."""
    master, slave = os.openpty()
    try:
        os.fchown(slave, launch.uid if os.geteuid() == 0 else -1, -1)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EROFS):
            raise
    stdio = terminal(master, launch)
    stdio.child = (slave, slave, slave)
    return stdio


def terminal(master: int, launch: Launch) -> Stdio:
    """The master of a pty whose other end the process has already."""
    os.set_blocking(master, False)
    resize(master, launch.rows, launch.cols)
    return Stdio((), os.dup(master), {master: STDOUT})


class Console:
    """Where a runtime sends the master of the pty that it has made (OCI runtimes' `--console-socket`)."""

    def __init__(self, loop: Loop, launch: Launch) -> None:
        self._loop = loop
        self._launch = launch
        self._stdio: Stdio | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        remove(launch.console_socket)
        self._socket.bind(launch.console_socket)
        self._socket.listen(1)
        self._socket.setblocking(False)
        # At once: the process, which the runtime starts next, should find its window's size.
        loop.watch(self._socket.fileno(), READ, lambda events: self._receive())

    def take(self) -> Stdio:
        """What the runtime has sent before it ended. Raises BlockingIOError."""
        if self._stdio is None:
            self._receive()
        if self._stdio is None:
            raise BlockingIOError(errno.EAGAIN, "no terminal")
        stdio, self._stdio = self._stdio, None
        return stdio

    def close(self) -> None:
        """No more is taken."""
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        remove(self._launch.console_socket)
        if self._stdio is not None:
            self._stdio.close()

    def _receive(self) -> None:
        try:
            sender, _ = self._socket.accept()
        except BlockingIOError:
            return
        with sender:
            sender.setblocking(True)
            _, fds, _, _ = socket.recv_fds(sender, 4096, 1)
        if fds and self._stdio is None:
            os.set_inheritable(fds[0], False)
            self._stdio = terminal(fds[0], self._launch)


def resize(master: int, rows: int, cols: int) -> None:
    """Set a pty's window size, unless it is empty; its foreground processes get SIGWINCH (tty_ioctl(4))."""
    if rows or cols:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, cols & 0xFFFF, 0, 0))


def read(fd: int) -> bytes | None:
    """What a process has printed; None if there is nothing yet, b"" at the end."""
    try:
        return os.read(fd, CHUNK)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno == errno.EIO:  # a pty that nobody has open any more
            return b""
        raise


class Input:
    """What clients type, on its way to the process."""

    def __init__(self, loop: Loop, fd: int, tty: bool, drained: Callable[[], None]) -> None:
        """`drained` is called when more can be written after it was full."""
        self._loop = loop
        self._fd: int | None = fd
        self._tty = tty
        self._drained = drained
        self._waiting = bytearray()
        self._ended = False

    @property
    def full(self) -> bool:
        """Whether clients should wait."""
        return len(self._waiting) >= _INPUT_LIMIT

    def write(self, data: bytes) -> None:
        """Nothing is written after the end."""
        if self._fd is not None and not self._ended:
            self._waiting += data
            self._flush()

    def end(self) -> None:
        """End of file, after what waits. A terminal has none: there it is a character."""
        if not self._tty:
            self._ended = True
            self._flush()

    def resize(self, rows: int, cols: int) -> None:
        """A terminal's window; a pipe has none."""
        if self._tty and self._fd is not None:
            resize(self._fd, rows, cols)

    def close(self) -> None:
        """The process reads no more."""
        if self._fd is not None:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = None
            self._waiting.clear()
            self._drained()

    def _flush(self) -> None:
        if self._fd is None:
            return
        was_full = self.full
        try:
            while self._waiting:
                del self._waiting[: os.write(self._fd, self._waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._waiting:
            self._loop.watch(self._fd, WRITE, self._ready)
        elif self._ended:
            self.close()
        else:
            self._loop.forget(self._fd)
        if was_full and not self.full:
            self._drained()

    def _ready(self, events: int) -> None:
        if events & GONE:
            self.close()
        else:
            self._flush()
