"""`make bench`: Jocker beside what else is on this machine, in one run; ratios are what counts.

Prints a line per measure: the median of several runs, and its ratio to the first of its group.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import builds
import dockerd
import network

from conftest import why_not
from engines import Engine

ROUNDS = 15


def median(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Milliseconds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def quiet(*argv: str, **options: object) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, **options)  # type: ignore[call-overload]


def group(title: str, rows: list[tuple[str, float]]) -> None:
    print(f"\n{title}")
    for name, value in rows:
        print(f"  {name:<44} {value:9.1f} ms   {value / rows[0][1]:6.2f} x")


PODMAN = ("podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs")
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
"""podman asks for more than a container here may have."""


def run_of(command: list[str], options: tuple[str, ...], tar: str) -> list[tuple[str, float]]:
    """Another's `run --rm` of the base in `tar`, run as ours is; none if it cannot be used here: why is printed."""
    if not command:
        return []
    run = (*command, "run", "--rm", "--network", "none", *options, "jocker-bench", "true")
    try:
        quiet(*command, "import", tar, "jocker-bench")
        quiet(*run)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"  ({command[0]} cannot be used here: {error})")
        return []
    return [(f"{command[0]} run --rm", median(lambda: quiet(*run)))]


def bare_runc(bundle: str) -> Callable[[], None]:
    return lambda: quiet("runc", "--root", f"{bundle}/state", "run", "--bundle", bundle, "bench")


def runc_bundle(engine: Engine, directory: str) -> str:
    """The very bundle that Jocker makes, its root a copy."""
    container = engine.jocker("run", "-d", "--network", "none", "base", "sleep", "100").stdout.strip()
    detail = engine.rpc("container.inspect", container=container)
    with open(
        os.path.join(engine.root, "containers", container, "bundle", "config.json"), encoding="utf-8"
    ) as file:
        config = json.load(file)
    shutil.copytree(detail["rootfs"], f"{directory}/rootfs", symlinks=True)
    engine.jocker("rm", "-f", container)
    config["root"]["path"] = f"{directory}/rootfs"
    config["process"]["args"] = ["true"]
    config["mounts"] = [mount for mount in config["mounts"] if mount["type"] != "bind"]
    with open(f"{directory}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    return directory


def pss(pid: int) -> int:
    """KiB."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="jk-bench-", dir="/tmp") as own, dockerd.daemon(own) as docker:
        measure(own, docker)
    network.main()


def measure(own: str, docker: list[str]) -> None:
    """All but networks. `own`: an empty directory; `docker`: the command that speaks to its daemon, or []."""
    platform = "portable" if why_not("linux") else "linux"
    engine = Engine(platform).start()
    try:
        engine.base()
        print(f"platform {platform}")
        group(
            "ps",
            [
                ("python3 -c pass", median(lambda: quiet(sys.executable, "-c", "pass"))),
                ("jocker ps", median(lambda: engine.jocker("ps"))),
            ],
        )
        rows = []
        if platform == "linux" and shutil.which("runc"):
            with tempfile.TemporaryDirectory() as directory:
                rows.append(("runc run (the same bundle)", median(bare_runc(runc_bundle(engine, directory)))))
                rows.append(
                    (
                        "jocker run --rm --network none base true",
                        median(lambda: engine.jocker("run", "--rm", "--network", "none", "base", "true")),
                    )
                )
        else:
            rows.append(
                ("jocker run --rm base true", median(lambda: engine.jocker("run", "--rm", "base", "true")))
            )
        tar = builds.base_tar(engine, own)
        rows += run_of(list(PODMAN), _LIMITS, tar)
        rows += run_of(docker, (), tar)
        group("run", rows)
        assert engine.process is not None
        zygote = next(
            int(node["detail"].split()[1])
            for part in engine.rpc("system.tree")["children"]
            for node in part["children"]
            if node["name"] == "zygote"
        )
        print(f"\nidle engine + zygote: {(pss(engine.process.pid) + pss(zygote)) / 1024:.1f} MiB PSS")
        for title, rows in builds.compare(engine, docker):
            group(title, rows)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
