"""Builds beside docker's and buildah's, in one run: seven steps that print into a file, uncached and cached.

buildah runs with the isolation that works here, and with a store of its own. Who is not there is named, not guessed.
"""

from __future__ import annotations

import glob
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engines import Engine

STEPS = 7
"""FROM included, as docker counts."""
_BASE = "localhost/jocker-bench"


class Builder:
    """One of those that are compared."""

    def __init__(self, name: str, build: Callable[[bool], None]) -> None:
        self.name = name
        self.build = build
        """With or without its cache."""
        self.uncached: list[float] = []
        self.cached: list[float] = []


def compare(
    engine: Engine, docker: list[str], rounds: int = 5
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """(title, [(name, median in milliseconds)]), who is compared with first; they take turns.

    `docker`: the command that speaks to its daemon, [] if there is none.
    """
    with tempfile.TemporaryDirectory(prefix="jk-bench-", dir="/tmp") as directory:
        with _buildah(engine, directory) as buildah:
            builders = [*_docker(docker, engine, directory), *buildah, _jocker(engine, directory)]
            for _ in range(rounds):
                for builder in builders:
                    builder.uncached.append(_timed(lambda builder=builder: builder.build(False)))
                    builder.cached.append(_timed(lambda builder=builder: builder.build(True)))
    for title, times in (("uncached", "uncached"), ("cached", "cached")):
        rows = [(builder.name, statistics.median(getattr(builder, times))) for builder in builders]
        yield f"build of {STEPS} steps, {title}", rows


def _timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def _context(directory: str, name: str, base: str) -> str:
    path = os.path.join(directory, name)
    os.mkdir(path)
    with open(os.path.join(path, "Dockerfile"), "w", encoding="utf-8") as file:
        file.write(f"FROM {base}\n" + "".join(f"RUN echo {n} > /{n}\n" for n in range(STEPS - 1)))
    return path


def _quiet(*argv: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)
    return done.stdout.strip()


def base_tar(engine: Engine, directory: str) -> str:
    """The content of the image `base`."""
    tar = os.path.join(directory, "base.tar")
    if not os.path.exists(tar):
        root = os.path.dirname(glob.glob(f"{engine.data}/*/layers/*/*/bin")[0])
        _quiet("tar", "-cf", tar, "-C", root, ".")
    return tar


def _jocker(engine: Engine, directory: str) -> Builder:
    context = _context(directory, "jocker", "base")

    def build(cached: bool) -> None:
        engine.jocker("build", *([] if cached else ["--no-cache"]), "-t", "bench", context)

    return Builder("jocker build", build)


def _docker(docker: list[str], engine: Engine, directory: str) -> Iterator[Builder]:
    """By its own builder: BuildKit is a program of its own (buildx)."""
    if not docker:
        return
    context = _context(directory, "docker", _BASE)
    _quiet(*docker, "import", base_tar(engine, directory), _BASE)

    def build(cached: bool) -> None:
        options = [] if cached else ["--no-cache"]
        command = (*docker, "build", *options, "--network", "none", "-t", "jocker-bench-built", context)
        _quiet(*command, env={**os.environ, "DOCKER_BUILDKIT": "0"})

    yield Builder("docker build (its own builder)", build)


@contextmanager
def _buildah(engine: Engine, directory: str) -> Iterator[list[Builder]]:
    if not shutil.which("buildah"):
        print("  (buildah is not installed)")
        yield []
        return
    store = ("buildah", "--root", f"{directory}/root", "--runroot", f"{directory}/run")
    context = _context(directory, "buildah", _BASE)
    isolation = ""

    def build(cached: bool) -> None:
        options = [] if cached else ["--no-cache"]
        how = ("--isolation", isolation, "--network", "host")
        _quiet(*store, "build", "--layers", *options, *how, "-t", "bench", context)

    try:
        try:
            container = _quiet(*store, "from", "scratch")
            _quiet(*store, "add", container, base_tar(engine, directory), "/")
            _quiet(*store, "commit", container, _BASE)
            for isolation in ("oci", "chroot"):
                try:
                    build(True)
                    break
                except subprocess.CalledProcessError as error:
                    why = error.stderr.strip().splitlines()[-1]
                    print(f"  (buildah --isolation {isolation} does not work here: {why[:150]})")
            else:
                yield []
                return
        except subprocess.CalledProcessError as error:
            print(f"  (buildah does not work here: {error.stderr.strip()[:150]})")
            yield []
            return
        yield [Builder(f"buildah build --layers --isolation {isolation}", build)]
    finally:
        subprocess.run([*store, "rm", "-a"], capture_output=True, check=False)
        subprocess.run([*store, "rmi", "-a", "-f"], capture_output=True, check=False)
