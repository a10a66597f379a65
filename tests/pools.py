"""A throw-away ZFS pool on a file, and on Linux the zfs-fuse daemon for it, that go when the tests end, however.

`python pools.py DIR` is the caretaker: it makes the pool in DIR, prints its name, and takes all of it away when its
standard input ends. One at a time on a machine: zfs-fuse has one socket, whoever starts it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

FREEBSD = sys.platform.startswith("freebsd")
PREFIX = "/tmp/jk-pool-"
LOCK = "/tmp/jocker-test-pool.lock"
SIZE = 512 << 20
WAIT = 240
"""Seconds to wait for another run of the tests to give its pool back."""
LIFE = 3600 if FREEBSD else 500
"""Seconds after which it ends whatever the tests do: a zfs-fuse that hangs holds them in the kernel."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NoPool(Exception):
    """There can be no pool here; one line."""


class Taken(NoPool):
    """Another has what there is one of on a machine."""


@contextlib.contextmanager
def pool() -> Iterator[str]:
    """The name of a new pool. Raises NoPool."""
    if os.geteuid() != 0:
        raise NoPool("a ZFS pool needs root")
    directory = tempfile.mkdtemp(prefix=os.path.basename(PREFIX), dir=os.path.dirname(PREFIX))
    caretaker = subprocess.Popen(
        [sys.executable, __file__, directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the tests; this one ends after them
    )
    assert caretaker.stdin is not None and caretaker.stdout is not None
    try:
        state, _, value = caretaker.stdout.readline().strip().partition(" ")
        if state != "ready":
            raise (Taken if state == "taken" else NoPool)(value or "the caretaker of the pool failed")
        yield value
    finally:
        caretaker.stdin.close()
        assert caretaker.wait(120) == 0
        caretaker.stdout.close()


def destroy(dataset: str) -> None:
    """With all below it; what is busy for a moment is asked again."""
    for _ in range(50):
        done = _zfs("zfs", "destroy", "-r", dataset)
        if done.returncode == 0:
            return
        time.sleep(0.2)
    raise AssertionError(done.stderr)


def flavour() -> str:
    """openzfs, zfs-fuse, or "" where there is neither. Real ZFS is preferred."""
    if shutil.which("zfs", path=_PATH) is None:
        return ""
    if FREEBSD or os.path.exists("/dev/zfs"):  # FreeBSD loads the module when zfs(8) is first run
        return "openzfs"
    return "zfs-fuse" if shutil.which("zfs-fuse", path=_PATH) else ""


def _zfs(*argv: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": _PATH, "LC_ALL": "C"}
    return subprocess.run(argv, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


def _caretaker(directory: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        try:
            stack.enter_context(_alone())
            _sweep(directory)
            if (kind := flavour()) == "":
                raise NoPool("neither OpenZFS nor zfs-fuse is installed")
            if kind == "zfs-fuse":
                stack.enter_context(_daemon())
            name = stack.enter_context(_made(directory))
        except NoPool as error:
            print(f"{'taken' if isinstance(error, Taken) else 'no'} {error}", flush=True)
            return
        print(f"ready {name}", flush=True)
        select.select([sys.stdin], [], [], LIFE)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    with open(LOCK, "w") as lock:
        deadline = time.monotonic() + WAIT
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Taken("another run of the tests holds the pool") from None
                time.sleep(0.2)
        yield


def _sweep(directory: str) -> None:
    """What a caretaker that was killed has left: nobody else can have it now."""
    for name in os.listdir("/tmp"):
        path = os.path.join("/tmp", name)
        if path.startswith(PREFIX) and path != directory:
            _detach()
            with open(os.path.join(path, "pool"), "a+") as file:
                file.seek(0)
                if left := file.read().split():
                    _zfs("zpool", "destroy", "-f", left[0])
                    if len(left) > 1:
                        _zfs("mdconfig", "-d", "-u", left[1])
            shutil.rmtree(path, ignore_errors=True)


def _detach() -> None:
    """Mounts of a zfs-fuse that is gone."""
    if not os.path.exists("/proc/mounts"):
        return
    with open("/proc/mounts") as mounts:
        found = [fields[1] for fields in map(str.split, mounts) if fields[2] == "fuse.zfs"]
    for path in reversed(found):
        _zfs("umount", "-l", path)


@contextlib.contextmanager
def _daemon() -> Iterator[None]:
    """zfs-fuse, until the end; dies with this process."""
    if _zfs("zfs", "list").returncode == 0:
        raise Taken("a zfs-fuse that is not the tests' own runs on this machine")
    if not os.path.exists("/dev/fuse"):
        raise NoPool("there is no /dev/fuse")
    _detach()

    def die_with_us() -> None:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    daemon = subprocess.Popen(
        ["zfs-fuse", "--no-daemon", "--no-kstat-mount", "--enable-xattr", "--max-arc-size", "64"],
        env={"PATH": _PATH, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_us,
    )
    try:
        for _ in range(200):
            if daemon.poll() is not None:
                raise NoPool("zfs-fuse does not start here")
            if _zfs("zfs", "list").returncode == 0:
                break
            time.sleep(0.05)
        else:
            raise NoPool("zfs-fuse does not answer")
        yield
    finally:
        daemon.kill()  # its pool is destroyed; it takes seconds to end in good order
        daemon.wait()
        _detach()


@contextlib.contextmanager
def _made(directory: str) -> Iterator[str]:
    """The pool; on FreeBSD on a memory disk that is the file (mdconfig(8))."""
    name = "jk" + os.path.basename(directory).rpartition("-")[2].replace("_", "x")
    image, unit = os.path.join(directory, "image"), ""
    os.makedirs(directory, exist_ok=True)  # the sweep of one that came first may have taken it
    with open(image, "wb") as file:
        file.truncate(SIZE)
    device = image
    if FREEBSD:
        made = _zfs("mdconfig", "-a", "-t", "vnode", "-f", image)
        if made.returncode != 0:
            raise NoPool(f"mdconfig: {made.stderr.strip()}")
        unit = made.stdout.strip()
        device = f"/dev/{unit}"
    with open(os.path.join(directory, "pool"), "w") as file:
        file.write(f"{name} {unit}\n")
    try:
        made = _zfs("zpool", "create", "-o", "cachefile=none", "-m", "none", name, device)
        if made.returncode != 0:
            raise NoPool(f"zpool create: {' '.join(made.stderr.split())}")
        yield name
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            for _ in range(20):
                if (
                    not _zfs("zpool", "destroy", "-f", name).returncode
                    or _zfs("zpool", "list", name).returncode
                ):
                    break
                time.sleep(0.25)
        if unit:
            _zfs("mdconfig", "-d", "-u", unit)


if __name__ == "__main__":
    _caretaker(sys.argv[1])
