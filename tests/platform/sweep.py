"""What the tests of FreeBSD's drivers could leave on the machine, and how all of it goes, however they end.

`python sweep.py DIR` is the caretaker of one run, whose test directories are below DIR: when its standard input ends it takes
away jails, mounts, interfaces, rules of the packet filter and limits that belong to them, and DIR. A run begins by doing
that for runs whose caretaker was killed too. Only what lies below DIR, or carries its tags, is touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

PREFIX = "jf-"
_TRIES = 5


@contextlib.contextmanager
def territory() -> Iterator[str]:
    """A directory for one run of the tests; afterwards, also when they are killed, nothing of it is left."""
    top = tempfile.mkdtemp(prefix=PREFIX, dir=os.path.realpath("/tmp"))  # short: sockets are below it
    caretaker = subprocess.Popen(
        [sys.executable, __file__, top],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the tests; this one ends after them
    )
    assert caretaker.stdin is not None and caretaker.stdout is not None
    try:
        assert caretaker.stdout.readline() == b"ready\n"
        yield top
    finally:
        caretaker.stdin.close()
        assert caretaker.wait(120) == 0, f"something of {top} is left"
        caretaker.stdout.close()


def clear(top: str) -> list[str]:
    """Take away all that belongs to a directory; what withstands."""
    for _ in range(_TRIES):
        _remove(top)
        left = leftovers(top)
        if not left:
            shutil.rmtree(top, ignore_errors=True)
            return [top] if os.path.exists(top) else []
        time.sleep(0.5)
    return left


def leftovers(top: str) -> list[str]:
    """Jails, mounts, interfaces and anchors of a directory."""
    return [
        *(f"jail {name}" for name in _jails(top)),
        *(f"mount {path}" for path in _mounts(top)),
        *(f"interface {name}" for name in _interfaces(top)),
        *(f"anchor {name}" for name in _anchors(top)),
    ]


def _remove(top: str) -> None:
    for name in _jails(top):
        _run("jail", "-R", name)
        _run("rctl", "-r", f"jail:{name}")
    for name in _interfaces(top):
        _run("ifconfig", name, "destroy")
    for path in _mounts(top):
        if _run("umount", path)[0] != 0:
            _run("umount", "-f", path)
    for name in _anchors(top):
        for what in ("nat", "rules"):
            _run("pfctl", "-a", name, "-F", what)


def _jails(top: str) -> list[str]:
    lines = _run("jls", "name", "path")[1].splitlines()
    return [
        line.split()[0] for line in lines if len(line.split()) == 2 and line.split()[1].startswith(top + "/")
    ]


def _mounts(top: str) -> list[str]:
    """The last mounted first."""
    code, text = _run("mount", "--libxo:J")
    rows = json.loads(text)["mount"]["mounted"] if code == 0 else []
    return [row["node"] for row in reversed(rows) if row["node"].startswith(top + "/")]


def _tags(top: str) -> list[str]:
    """As the drivers make them of an engine's root (networks.py): of the directory, and each below it."""
    names = os.listdir(top) if os.path.isdir(top) else []
    paths = [os.path.realpath(path) for path in (top, *(os.path.join(top, name) for name in names))]
    return [hashlib.sha256(path.encode()).hexdigest()[:6] for path in paths]


def _interfaces(top: str) -> list[str]:
    found, name = [], ""
    tags = _tags(top)
    for line in _run("ifconfig", "-a")[1].splitlines():
        if head := re.match(r"(\S+): flags=", line):
            name = head[1]
        elif line.strip().startswith("description: jocker ") and line.split()[2] in tags:
            found.append(name)
    return found


def _anchors(top: str) -> list[str]:
    lines = [line.strip() for line in _run("pfctl", "-vsA")[1].splitlines()]
    return [
        line
        for line in lines
        if any(line.startswith(f"jocker/{tag}-") for tag in _tags(top))
        and _run("pfctl", "-a", line, "-sn")[1].strip()
    ]


def _run(*argv: str) -> tuple[int, str]:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return 1, ""
    return done.returncode, done.stdout


def _of_the_dead() -> None:
    """Directories whose lock nobody holds."""
    for name in os.listdir("/tmp"):
        top = os.path.join("/tmp", name)
        lock = os.path.join(top, "lock")
        if name.startswith(PREFIX) and os.path.exists(lock) and os.stat(lock).st_uid == os.getuid():
            with open(lock) as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                clear(top)


def _caretaker(top: str) -> int:
    with open(os.path.join(top, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _of_the_dead()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
        return 1 if clear(top) else 0


if __name__ == "__main__":
    sys.exit(_caretaker(sys.argv[1]))
