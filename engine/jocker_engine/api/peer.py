"""Who is on the other end of a Unix socket."""

from __future__ import annotations

import select
import socket
import struct
from typing import NamedTuple

import trio

_UCRED = struct.Struct("@iII")
"""Linux, unix(7), SO_PEERCRED: struct ucred {pid, uid, gid}."""

_XUCRED = struct.Struct("@IIh16I0Pi0P")
"""FreeBSD, unix(4), LOCAL_PEERCRED: struct xucred {version, uid, ngroups, groups[16], union {void *, pid}}."""

_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1


class Peer(NamedTuple):
    """The credentials of the process at the other end, as they were when it connected."""

    pid: int
    uid: int
    gid: int

    def __str__(self) -> str:
        return f"uid={self.uid} gid={self.gid} pid={self.pid}"


def peer_of(sock: trio.socket.SocketType | socket.socket) -> Peer:
    """The peer of a connected Unix socket. Raises OSError."""
    if hasattr(socket, "SO_PEERCRED"):
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return Peer(*_UCRED.unpack(data))
    return _from_xucred(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size))


def _from_xucred(data: bytes) -> Peer:
    _version, uid, _count, gid, *_groups, pid = _XUCRED.unpack(
        data.ljust(_XUCRED.size, b"\0")[: _XUCRED.size]
    )
    return Peer(pid, uid, gid)


def hung_up(sock: trio.socket.SocketType) -> bool:
    """Whether the peer has closed both directions. One that only sends no more still waits for answers."""
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return bool(poll.poll(0))
