"""The actor `api`: opens the engine's sockets and serves them as long as it lives.

Knows paths, modes and the group; `server` does the serving.
"""

from __future__ import annotations

import grp
import logging
import os
import socket
import stat
from collections.abc import Mapping, Sequence

import trio

from ..otp import Actor
from .dispatch import Dispatcher, Handler
from .server import Server
from .streams import StreamBroker

GROUP = "jocker"
"""Members of this group may use the engine, which makes them as good as root."""

_BACKLOG = 1024

logger = logging.getLogger("jocker.api")


class Api(Actor):
    """Serves `handlers` on Unix sockets at the paths `sockets`."""

    def __init__(self, sockets: Sequence[str], handlers: Mapping[str, Handler], broker: StreamBroker) -> None:
        super().__init__()
        self._paths = sockets
        self._server = Server(Dispatcher(handlers), broker)

    async def init(self) -> None:
        """Raises OSError for a path that cannot be listened on."""
        listeners: list[trio.SocketListener] = []
        try:
            for path in self._paths:
                listeners.append(open_socket(path))
        except BaseException:
            for listener in listeners:
                listener.socket.close()
            raise
        self.spawn(self._server.serve, listeners)

    async def terminate(self, reason: object) -> None:
        """Lets running requests finish briefly, closes all, removes the sockets' files."""
        await self._server.stop()
        for path in self._paths:
            _remove(path)


def open_socket(path: str) -> trio.SocketListener:
    """Listen on a Unix socket at `path`: 0660 root:jocker, or 0600 where there is no such group.

    A socket that nobody listens on any more is replaced. Raises OSError.
    """
    os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        # Nobody can connect before listen(), so that there is no moment with the wrong mode.
        os.chmod(path, 0o660 if _give_to_group(path) else 0o600)
        sock.listen(_BACKLOG)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise OSError(f"cannot listen on {path}: {error.strerror or error}") from error
        raise
    logger.info("listening on %s", path)
    sock.setblocking(False)
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _give_to_group(path: str) -> bool:
    try:
        os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
    except (KeyError, PermissionError) as error:
        logger.info("%s: only its owner may connect (%s)", path, error)
        return False
    return True


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"cannot listen on {path}: it is there and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            _remove(path)
            return
        except BlockingIOError:
            pass  # somebody listens who is too busy to accept
    raise FileExistsError(f"cannot listen on {path}: somebody listens there already")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
