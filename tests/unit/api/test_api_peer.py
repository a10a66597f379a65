"""Credentials of the peer."""

from __future__ import annotations

import os
import socket
import struct

import trio

from jocker_engine.api.peer import Peer, _from_xucred, hung_up, peer_of


def test_the_peer_of_a_socket_pair_is_this_process() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        peer = peer_of(ours)
    assert peer == Peer(pid=os.getpid(), uid=os.getuid(), gid=os.getgid())
    assert str(peer) == f"uid={os.getuid()} gid={os.getgid()} pid={os.getpid()}"


def test_freebsd_structure() -> None:
    """struct xucred of sys/ucred.h on amd64, laid out by hand: 88 bytes."""
    data = struct.pack("<II h xx", 0, 1001, 2) + struct.pack("<16I", 1001, 0, *[0] * 14)
    data += b"\0" * 4 + struct.pack("<i", 4242) + b"\0" * 4
    assert len(data) == 88
    assert _from_xucred(data) == Peer(pid=4242, uid=1001, gid=1001)


def test_hung_up_only_when_both_directions_are_closed() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        sock = trio.socket.from_stdlib_socket(ours)
        assert not hung_up(sock)
        theirs.sendall(b"x")
        theirs.shutdown(socket.SHUT_WR)
        assert not hung_up(sock)
        theirs.close()
        assert hung_up(sock)
