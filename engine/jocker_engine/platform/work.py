"""Blocking work in a process of its own: a thread would make the event loop late by milliseconds."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Any

from .commands import Commands, Completed, PlatformError

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


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment names proxies, for workers that fetch; this machine itself is never behind one."""
    found = {name: value for name, value in environment.items() if name.lower().endswith("_proxy")}
    if found:
        mine = "localhost,127.0.0.1,::1"
        left_out = found.pop("NO_PROXY", "") or found.get("no_proxy", "")
        found["no_proxy"] = f"{left_out},{mine}" if left_out not in ("", "*") else left_out or mine
    return found


async def work(
    commands: Commands, op: str, *, timeout: float = 3600.0, pass_fds: tuple[int, ...] = (), **params: Any
) -> dict[str, Any]:
    """Run a worker operation (platform/worker/__main__.py); `timeout` in seconds; it has `pass_fds` too.

    Raises PlatformError with the operation's own line; OSError when that is what it died of.
    """
    said = json.dumps(params).encode()
    done = await commands.run(
        _argv(op), timeout=timeout, input=said, check=False, pass_fds=pass_fds, env=proxies(os.environ)
    )
    return _answer(op, done, done.stdout)


async def work_streamed(
    commands: Commands,
    op: str,
    *,
    pieces: AsyncIterable[bytes] | None = None,
    into: Callable[[bytes], Awaitable[None]] | None = None,
    **params: Any,
) -> dict[str, Any]:
    """The same for an operation that reads `pieces` or writes what `into` takes, for as long as that goes on.

    Raises what they raise too; the worker is gone then.
    """
    done = await commands.stream([*_argv(op), json.dumps(params)], pieces=pieces, into=into)
    return _answer(op, done, done.stderr.strip().rpartition("\n")[2])


def _argv(op: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _START.format(paths=package_paths()), op]


def _answer(op: str, done: Completed, text: str) -> dict[str, Any]:
    if done.exit_code != 0:
        said = done.stderr.strip() or f"exit status {done.exit_code}"
        raise PlatformError(f"worker {op} crashed: {said.splitlines()[-1]}")
    answer: dict[str, Any] = json.loads(text)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["error"], answer["path"])
    if "error" in answer:
        raise PlatformError(answer["error"])
    return answer
