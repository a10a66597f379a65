"""How fast images go in and out as files, beside skopeo and podman where they are installed.

    python tests/bench/archives.py [MEGABYTES]

One image with a layer of random and one of small files, in one run; the median of three. Needs root and runc.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from engines import Engine


def median(action: Callable[[], object], before: Callable[[], object], rounds: int = 3) -> float:
    """Seconds."""
    times = []
    for _ in range(rounds):
        before()
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def quiet(*argv: str) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    engine = Engine("linux").start()
    directory = tempfile.mkdtemp(prefix="jk-bench-", dir="/tmp")
    try:
        context = os.path.join(directory, "context")
        os.mkdir(context)
        for number in range(max(1, megabytes // 50)):
            with open(os.path.join(context, f"big{number}"), "wb") as file:
                for _ in range(45):
                    file.write(os.urandom(1 << 20))
        os.mkdir(os.path.join(context, "small"))
        for number in range(megabytes * 2):
            with open(os.path.join(context, "small", str(number)), "wb") as file:
                file.write(os.urandom(50_000))
        with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as text:
            text.write("FROM base\nCOPY big* /big/\nCOPY small /small/\n")
        engine.base()
        engine.jocker("build", "-q", "-t", "big", context)
        archive = os.path.join(directory, "big.tar")
        rows = []

        def measured(what: str, action: Callable[[], object], before: Callable[[], object]) -> None:
            seconds = median(action, before)
            rows.append((what, seconds, size / seconds / 1e6))

        def gone() -> None:
            for path in os.listdir(directory):
                if path.startswith("out"):
                    shutil.rmtree(os.path.join(directory, path), ignore_errors=True)
                    if os.path.exists(os.path.join(directory, path)):
                        os.unlink(os.path.join(directory, path))

        engine.jocker("save", "-o", archive, "big")
        size = os.path.getsize(archive)
        image = engine.rpc("image.inspect", image="big")["id"][7:19]
        out = os.path.join(directory, "out")
        measured("jocker save -o", lambda: engine.jocker("save", "-o", out, "big"), gone)
        measured("cp of the archive", lambda: quiet("cp", archive, out), gone)
        if shutil.which("skopeo"):
            source = f"oci-archive:{archive}"
            measured(
                "skopeo copy oci-archive: to oci-archive:",
                lambda: quiet("skopeo", "copy", source, f"oci-archive:{out}:x"),
                gone,
            )
        measured(
            "jocker load -i",
            lambda: engine.jocker("load", "-i", archive),
            lambda: engine.jocker("rmi", "big"),
        )
        if shutil.which("podman"):
            store = (
                "--root",
                f"{directory}/r",
                "--runroot",
                f"{directory}/rr",
                "--cgroup-manager",
                "cgroupfs",
            )
            for driver in ("overlay", "vfs"):
                podman = ("podman", *store, "--storage-driver", driver)
                if subprocess.run([*podman, "info"], capture_output=True, check=False).returncode != 0:
                    continue
                measured(
                    f"podman load -i, {driver}",
                    lambda podman=podman: quiet(*podman, "load", "-i", archive),  # type: ignore[misc]
                    lambda podman=podman: subprocess.run(  # type: ignore[misc]
                        [*podman, "rmi", "-a", "-f"], capture_output=True, check=False
                    ),
                )
                measured(
                    f"podman save, {driver}",
                    lambda podman=podman: quiet(*podman, "save", "-o", out, image),  # type: ignore[misc]
                    gone,
                )
                subprocess.run([*podman, "system", "reset", "-f"], capture_output=True, check=False)
        print(f"archive of {size / 1e6:.0f} MB")
        for what, seconds, rate in rows:
            print(f"  {what:<44} {seconds:7.2f} s  {rate:7.0f} MB/s")
    finally:
        engine.close()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
