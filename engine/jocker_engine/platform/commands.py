"""The one way to run a command of the operating system: an argv, a time limit, the C locale, a typed error.

Each command inherits a locked descriptor, so that the next engine can tell whether commands of a killed one
still run (flock(2): the lock is held until the last copy of the descriptor is closed).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import trio

from jocker_protocol.errors import PlatformFailed

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}


_SAID = 4096
"""Bytes of standard error that are kept, the last ones: an error goes over the wire."""
_GRACE = 2.0
"""Seconds that a command has to end in good order."""


class PlatformError(PlatformFailed):
    """The operating system, or a command of it, refused. One line; what a command said is in `stderr`."""

    def __init__(
        self, message: str, *, argv: Sequence[str] = (), exit_code: int | None = None, stderr: str = ""
    ) -> None:
        facts = {"argv": list(argv), "exit_code": exit_code, "stderr": stderr} if argv else {}
        super().__init__(message, **facts)
        self.argv, self.exit_code, self.stderr = tuple(argv), exit_code, stderr


class Busy(PlatformError):
    """Something is in use, and stays, whole and known, until it is not: to be tried again later."""


@dataclass(frozen=True)
class Completed:
    """A command that ended by itself; of a long standard error only the end is kept."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str


def judged(done: Completed, check: bool) -> Completed:
    """What a command came to. Raises PlatformError, with `check`, for an exit status other than 0."""
    if check and done.exit_code != 0:
        said = " ".join(done.stderr.split()) or "it said nothing"
        raise PlatformError(
            f"{os.path.basename(done.argv[0])} failed with exit status {done.exit_code}: {said}",
            argv=done.argv,
            exit_code=done.exit_code,
            stderr=done.stderr,
        )
    return done


class Commands:
    """Runs commands. `lock_fd` is the descriptor that each of them inherits."""

    def __init__(self, lock_fd: int | None = None) -> None:
        self._pass_fds = () if lock_fd is None else (lock_fd,)

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 60.0,
        input: bytes | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Completed:
        """Run to the end; `timeout` in seconds; it inherits `pass_fds`. Cancelled, or out of time, its process group is killed.

        Raises PlatformError: no such program, out of time, and with `check` an exit status other than 0.
        """
        with trio.move_on_after(timeout):
            try:
                done = await trio.run_process(
                    list(argv),
                    stdin=input if input is not None else subprocess.DEVNULL,
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                    env={**_ENVIRONMENT, **(env or {})},
                    pass_fds=(*self._pass_fds, *pass_fds),
                    start_new_session=True,
                    deliver_cancel=_kill_group,
                )
            except OSError as error:
                raise PlatformError(f"{argv[0]}: cannot be run: {error.strerror}", argv=argv) from None
            stderr = done.stderr[-_SAID:].decode(errors="replace")
            stdout = done.stdout.decode(errors="surrogateescape")  # names of files are bytes
            return judged(Completed(tuple(argv), done.returncode, stdout, stderr), check)
        raise PlatformError(f"{argv[0]} did not end within {timeout:g} s and was killed", argv=argv)

    async def stream(
        self,
        argv: Sequence[str],
        *,
        pieces: AsyncIterable[bytes] | None = None,
        into: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> Completed:
        """Run with `pieces` as standard input, and give standard output to `into`, without a time limit.

        A command that ends before it has read all is let; cancelled, or when `pieces` or `into` raises, its process
        group gets TERM, and KILL when it does not heed that. Raises PlatformError: no such program.
        """
        try:
            process = await trio.lowlevel.open_process(
                list(argv),
                stdin=subprocess.DEVNULL if pieces is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_ENVIRONMENT,
                pass_fds=self._pass_fds,
                start_new_session=True,
            )
        except OSError as error:
            raise PlatformError(f"{argv[0]}: cannot be run: {error.strerror}", argv=argv) from None
        said = bytearray()
        failures: list[Exception] = []
        try:
            async with trio.open_nursery() as nursery:

                async def guard(work: Awaitable[None]) -> None:
                    try:
                        await work
                    except (
                        Exception
                    ) as error:  # raised below, as it is, without the nursery's group around it
                        failures.append(error)
                        nursery.cancel_scope.cancel()

                if pieces is not None:
                    nursery.start_soon(guard, _feed(process, pieces))
                async with trio.open_nursery() as reading:
                    reading.start_soon(guard, _take(process, said))
                    reading.start_soon(guard, _give_out(process, into))
                await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                if process.returncode is None:
                    await _end_group(process)
                for pipe in (process.stdin, process.stdout, process.stderr):
                    if pipe is not None:
                        await pipe.aclose()
        if failures:
            raise failures[0]
        stderr = bytes(said[-_SAID:]).decode(errors="replace")
        return Completed(tuple(argv), process.returncode or 0, "", stderr)


async def _feed(process: trio.Process, pieces: AsyncIterable[bytes]) -> None:
    assert process.stdin is not None
    try:
        async for piece in pieces:
            await process.stdin.send_all(piece)
        await process.stdin.aclose()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # it wants no more, and will say why


async def _give_out(process: trio.Process, into: Callable[[bytes], Awaitable[None]] | None) -> None:
    assert process.stdout is not None
    async for data in process.stdout:
        if into is not None:
            await into(bytes(data))


async def _take(process: trio.Process, said: bytearray) -> None:
    assert process.stderr is not None
    async for data in process.stderr:
        said += data
        del said[: -_SAID * 4]


async def _end_group(process: trio.Process) -> None:
    """In good order where that can be: a worker takes away what it has half made."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    with trio.move_on_after(_GRACE):
        await process.wait()
    await _kill_group(process)
    await process.wait()


async def _kill_group(process: trio.Process) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
