"""Real traffic between network namespaces: servers that say who asked them, and those who ask."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SERVER = """
import socket, sys, threading
kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
if kind == "udp":
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind((address, port))
    print("ready", flush=True)
    while True:
        data, peer = s.recvfrom(2000)
        s.sendto(peer[0].encode() + b" " + data, peer)
s = socket.create_server((address, port), family=family)
print("ready", flush=True)
def serve(c, peer):
    with c:
        data = c.recv(2000)
        c.sendall(peer[0].encode() + b" " + data)
while True:
    threading.Thread(target=serve, args=s.accept(), daemon=True).start()
"""
_CLIENT = """
import socket, sys
kind, address, port, timeout = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
try:
    if kind == "udp":
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(timeout)
        s.connect((address, port))
    else:
        s = socket.create_connection((address, port), timeout)
    s.sendall(b"hello")
    print(s.recv(2000).decode())
except OSError as error:
    print("failed:", error)
"""


def enter(place: str) -> list[str]:
    """`place`: a path of a namespace, or "" for the host."""
    return ["nsenter", f"--net={place}"] if place else []


@contextmanager
def serving(place: str, kind: str, address: str, port: int) -> Iterator[None]:
    """A server that answers with the address of who asked, and what was said."""
    process = subprocess.Popen(
        [*enter(place), sys.executable, "-c", _SERVER, kind, address, str(port)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(place: str, kind: str, address: str, port: int, timeout: float = 3.0) -> str:
    """What the server answers, or "failed: " and why."""
    done = subprocess.run(
        [*enter(place), sys.executable, "-c", _CLIENT, kind, address, str(port), str(timeout)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


_ALONE = "/tmp/jocker-test-outside.lock"


@contextmanager
def outside(address: str = "198.18.7", address6: str = "fd07:18") -> Iterator[str]:
    """A namespace that the host reaches as it reaches the world: HOST.1 here, HOST.2 there. Its path.

    Of tests that run side by side one at a time: the host has one way to an address.
    """
    name = f"jt{os.getpid()}"
    with open(_ALONE, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ip("netns", "add", name)
        try:
            yield from _outside(name, address, address6)
        finally:
            subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)
            ip("netns", "del", name)


def _outside(name: str, address: str, address6: str) -> Iterator[str]:
    ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    for at, words in ((1, ()), (2, ("-n", name))):
        interface = "eth0" if words else name
        ip(*words, "addr", "add", f"{address}.{at}/24", "dev", interface)
        ip(*words, "addr", "add", f"{address6}::{at}/64", "dev", interface, "nodad")
        ip(*words, "link", "set", interface, "up")
    ip("-n", name, "link", "set", "lo", "up")
    yield f"/run/netns/{name}"
