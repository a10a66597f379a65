"""How many megabytes of 80-byte lines a second go through a shim to its log on disk and to one follower.

    python tests/bench/logs.py [MEGABYTES]

Counts what the process writes. Prints the figure with the bar it has to hold; exits 1 if it does not, or if
a byte of the log is missing. Needs root (chroot launch).
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time

import trio

from jocker_engine.platform.shims import Zygote
from jocker_engine.shim.launch import Launch, LogRequest

BAR = 100.0
LINE = 80
PRINT = f"import os\nblock = (b'x' * {LINE - 1} + b'\\n') * 819\nfor _ in range(%d): os.write(1, block)"
"""Writes of just under a pipe's capacity."""


async def run(megabytes: int) -> tuple[float, int, int]:
    """MB/s, bytes of the log, bytes that the follower got (with frame headers)."""
    directory = tempfile.mkdtemp(prefix="jk")
    zygote = await Zygote.start(directory)
    try:
        count = megabytes * 1_000_000 // (LINE * 819)
        log, key = directory + "/log", "0123456789ab"
        launch = Launch(
            enter="chroot",
            root="/",
            argv=[sys.executable, "-S", "-c", PRINT % count],
            env=["PATH=/usr/bin:/bin"],
            status=directory + "/status",
            log=log,
        )
        link = await zygote.shim(key)
        ours, theirs = socket.socketpair()
        with theirs:
            await zygote.serve_log(
                theirs.fileno(), LogRequest(log=log, follow=True, socket=f"{directory}/{key}")
            )
        begin = time.perf_counter()
        await link.start(launch)
        got = await trio.to_thread.run_sync(drain, ours)
        seconds = time.perf_counter() - begin
        if await link.wait() != 0:
            sys.exit("the process failed")
        return count * 819 * LINE / seconds / 1e6, os.path.getsize(log), got
    finally:
        await zygote.aclose()
        shutil.rmtree(directory)


def drain(sock: socket.socket) -> int:
    """Bytes until the end of file."""
    total = 0
    buffer = bytearray(1 << 20)
    with sock:
        while got := sock.recv_into(buffer):
            total += got
    return total


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    speed, logged, followed = trio.run(run, megabytes)
    holds = speed >= BAR
    print(f"log to disk and one follower  {speed:8.1f} MB/s  (bar {BAR:.0f})  {'ok' if holds else 'MISSED'}")
    if followed < logged:
        sys.exit(f"the follower got {followed} bytes of {logged}")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
