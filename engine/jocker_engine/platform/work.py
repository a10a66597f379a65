"""Blocking work in a process of its own: a thread would make the event loop late by milliseconds."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import sys
from typing import Any

from .commands import Commands, PlatformError

_START = (
    "import sys; sys.path[:0] = {paths!r}; from jocker_engine.platform.worker.__main__ import main; main()"
)


@functools.cache
def package_paths() -> list[str]:
    """Where our packages are, and the one of others that workers import: they start without site-packages."""
    import jocker_engine
    import jocker_protocol

    own = {os.path.dirname(os.path.dirname(str(p.__file__))) for p in (jocker_engine, jocker_protocol)}
    zstandard = importlib.util.find_spec("zstandard")
    assert zstandard is not None and zstandard.origin is not None
    return [*sorted(own), os.path.dirname(os.path.dirname(zstandard.origin))]


async def work(
    commands: Commands, op: str, *, timeout: float = 3600.0, pass_fds: tuple[int, ...] = (), **params: Any
) -> dict[str, Any]:
    """Run a worker operation (platform/worker/__main__.py); `timeout` in seconds; it has `pass_fds` too.

    Raises PlatformError with the operation's own line; OSError when that is what it died of.
    """
    argv = [sys.executable, "-I", "-S", "-c", _START.format(paths=package_paths()), op]
    said = json.dumps(params).encode()
    done = await commands.run(argv, timeout=timeout, input=said, check=False, pass_fds=pass_fds)
    if done.exit_code != 0:
        why = done.stderr.strip() or f"exit status {done.exit_code}"
        raise PlatformError(f"worker {op} crashed: {why.splitlines()[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["error"], answer["path"])
    if "error" in answer:
        raise PlatformError(answer["error"])
    return answer
