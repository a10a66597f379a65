"""Blocking work in a process of its own: a thread would make the event loop late by milliseconds."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from .commands import Commands, PlatformError

_START = (
    "import sys; sys.path[:0] = {paths!r}; from jocker_engine.platform.worker.__main__ import main; main()"
)


def package_paths() -> list[str]:
    """Where our packages are; nothing else is needed, so the worker starts without site-packages."""
    import jocker_engine
    import jocker_protocol

    return sorted(
        {os.path.dirname(os.path.dirname(str(p.__file__))) for p in (jocker_engine, jocker_protocol)}
    )


async def work(commands: Commands, op: str, *, timeout: float = 3600.0, **params: Any) -> dict[str, Any]:
    """Run a worker operation (platform/worker/__main__.py); `timeout` in seconds.

    Raises PlatformError with the operation's own line; OSError when that is what it died of.
    """
    argv = [sys.executable, "-I", "-S", "-c", _START.format(paths=package_paths()), op]
    done = await commands.run(argv, timeout=timeout, input=json.dumps(params).encode(), check=False)
    if done.exit_code != 0:
        said = done.stderr.strip() or f"exit status {done.exit_code}"
        raise PlatformError(f"worker {op} crashed: {said.splitlines()[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["error"], answer["path"])
    if "error" in answer:
        raise PlatformError(answer["error"])
    return answer
