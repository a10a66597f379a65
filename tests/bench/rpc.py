"""How many `engine.ping` a second the engine answers, and how soon.

    python tests/bench/rpc.py [SOCKET]       a running engine's socket; without one, the api alone is started

Client and server are two processes on the same machine. Prints one line per figure with the bar it
has to hold; exits 1 if one does not hold.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time

PING = b'{"jsonrpc":"2.0","id":1,"method":"engine.ping"}\n'
SECONDS = 3.0
CONNECTIONS = 50


def connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(path)
    return sock


def sequential(path: str) -> float:
    """Requests a second, one after the other on one connection."""
    with connect(path) as sock:
        count, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < SECONDS:
            sock.sendall(PING)
            check(sock.recv(4096))
            count += 1
    return count / passed


def concurrent(path: str) -> tuple[float, float]:
    """Requests a second over all connections, one at a time on each, and the 99th percentile in seconds."""
    latencies: list[float] = []
    sent: dict[socket.socket, float] = {}
    with selectors.DefaultSelector() as selector:
        for _ in range(CONNECTIONS):
            sock = connect(path)
            selector.register(sock, selectors.EVENT_READ)
        start = time.perf_counter()
        for key in list(selector.get_map().values()):
            send(key.fileobj, sent)
        while time.perf_counter() - start < SECONDS:
            for key, _ in selector.select():
                check(key.fileobj.recv(4096))  # type: ignore[union-attr]
                latencies.append(time.perf_counter() - sent[key.fileobj])  # type: ignore[index]
                send(key.fileobj, sent)
        passed = time.perf_counter() - start
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    return len(latencies) / passed, sorted(latencies)[len(latencies) * 99 // 100]


def send(sock: object, sent: dict[socket.socket, float]) -> None:
    assert isinstance(sock, socket.socket)
    sent[sock] = time.perf_counter()
    sock.sendall(PING)


def check(answer: bytes) -> None:
    if "result" not in json.loads(answer):
        raise SystemExit(f"not the answer to a ping: {answer!r}")


def serve(path: str) -> None:
    """The api alone, in this process, until SIGTERM."""
    import trio

    from jocker_engine.api.dispatch import Dispatcher
    from jocker_engine.api.listener import open_socket
    from jocker_engine.api.peer import Peer
    from jocker_engine.api.server import Server
    from jocker_engine.api.streams import StreamBroker
    from jocker_protocol.types import Empty, Pong

    async def ping(params: Empty, peer: Peer) -> Pong:
        return Pong()

    async def main() -> None:
        server = Server(Dispatcher({"engine.ping": ping}), StreamBroker())
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.serve, [open_socket(path)])
                print("ready", flush=True)
                async for _ in signals:
                    await server.stop()
                    return

    trio.run(main)


def measure(path: str) -> bool:
    rate = sequential(path)
    rate_50, p99 = concurrent(path)
    figures = [
        ("sequential, 1 connection", rate, 5000, "/s", rate >= 5000),
        (f"{CONNECTIONS} connections", rate_50, 8000, "/s", rate_50 >= 8000),
        (f"99th percentile at {CONNECTIONS}", p99 * 1000, 20, "ms", p99 < 0.020),
    ]
    for what, value, bar, unit, good in figures:
        print(f"engine.ping {what:28} {value:9.1f} {unit:3} (bar {bar} {unit}) {'ok' if good else 'MISSED'}")
    return all(good for *_, good in figures)


def main() -> int:
    match sys.argv[1:]:
        case ["--serve", path]:
            serve(path)
            return 0
        case [path]:
            return 0 if measure(path) else 1
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "api.sock")
        server = subprocess.Popen([sys.executable, __file__, "--serve", path], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            server.stdout.readline()
            return 0 if measure(path) else 1
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
