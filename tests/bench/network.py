"""Networks beside what they stand on: a run with one and without, bytes through a published port and through plain veth.

Part of `make bench`; also alone: `python tests/bench/network.py`. Needs root, nftables and iproute2.
"""

from __future__ import annotations

import hashlib
import os
import socket
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conftest import why_not
from engines import Engine
from traffic import enter

ROUNDS = 15
GIB = 1 << 30
MANY = 100
_SINK = """
import hashlib, socket, sys
listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
while True:
    c, _ = listener.accept()
    digest, hashing = hashlib.sha256(), c.recv(1) == b"h"
    while data := c.recv(1 << 20):
        if hashing:
            digest.update(data)
    c.sendall(digest.hexdigest().encode())
    c.close()
"""


def send(address: str, port: int, *, hashing: bool) -> tuple[float, bool]:
    """GiB/s of one GiB, and whether it came as it was sent."""
    block = os.urandom(1 << 20) if hashing else bytes(1 << 20)
    digest = hashlib.sha256()
    with socket.create_connection((address, port)) as sock:
        sock.sendall(b"h" if hashing else b"-")
        began = time.perf_counter()
        for number in range(GIB >> 20):
            piece = number.to_bytes(4, "big") + block[4:] if hashing else block
            if hashing:
                digest.update(piece)
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: sock.recv(1 << 16), b"")).decode()
        seconds = time.perf_counter() - began
    return 1 / seconds, not hashing or said == digest.hexdigest()


def runs(engine: Engine) -> None:
    print("\njocker run --rm base true, on which network")
    first = 0.0
    for network in ("none", "host", "default"):
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            engine.jocker("run", "--rm", "--network", network, "base", "true")
            times.append((time.perf_counter() - began) * 1000)
        median = statistics.median(times)
        first = first or median
        print(f"  {network:<44} {median:9.1f} ms   {median / first:6.2f} x")


def throughput(engine: Engine) -> None:
    engine.jocker("run", "-d", "--name", "sink", "-p", "127.0.0.1:28099:80", "base", "sleep", "1000")
    detail = engine.rpc("container.inspect", container="sink")
    place, address = f"/proc/{detail['state']['pid']}/ns/net", detail["networks"][0]["ip"]
    server = subprocess.Popen([*enter(place), sys.executable, "-c", _SINK, "80"], stdout=subprocess.PIPE)
    assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    try:
        print("\none GiB from the host into a container, one TCP connection")
        plain = statistics.median(send(address, 80, hashing=False)[0] for _ in range(3))
        through = statistics.median(send("127.0.0.1", 28099, hashing=False)[0] for _ in range(3))
        print(f"  {'plain veth':<44} {plain:9.2f} GiB/s {1:6.2f} x")
        print(f"  {'published port':<44} {through:9.2f} GiB/s {through / plain:6.2f} x")
        _, unharmed = send("127.0.0.1", 28099, hashing=True)
        print(
            f"  one GiB through the published port, by its SHA-256: {'unharmed' if unharmed else 'DAMAGED'}"
        )
        assert unharmed
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        engine.jocker("rm", "-f", "sink")


def many(engine: Engine) -> None:
    """All of them find each other by name."""
    engine.jocker("network", "create", "many")
    names = [f"m{number}" for number in range(MANY)]

    def start(name: str) -> None:
        engine.jocker("run", "-d", "--name", name, "--network", "many", "base", "sleep", "1000")

    began = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, names))
    print(f"\n{MANY} containers on one network: started in {time.perf_counter() - began:.1f} s")
    for name in (names[0], names[-1]):
        hosts = engine.jocker("exec", name, "cat", "/etc/hosts").stdout.split()
        assert all(other in hosts for other in names), name
    reached = engine.jocker("exec", names[0], "busybox", "ping", "-c", "1", "-W", "2", names[-1], check=False)
    assert reached.returncode == 0, reached
    began = time.perf_counter()
    engine.jocker("rm", "-f", *names)
    print(f"  each knows all names, and reaches them; removed in {time.perf_counter() - began:.1f} s")
    engine.jocker("network", "rm", "many")


def main() -> None:
    if why := why_not("linux"):
        print(f"networks: not measured: {why}")
        return
    engine = Engine("linux").start()
    try:
        engine.base()
        if engine.rpc("engine.info")["platform"]["network"] != "veth":
            print("networks: not measured: no network driver but host can be used here")
            return
        runs(engine)
        throughput(engine)
        many(engine)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
