"""Tars that go through the client as they are: from a file or standard input up, down to a file or standard output."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click

from jocker_protocol import wire

_CHUNK = 1 << 18


def refuse_terminal(remedy: str) -> None:
    """A tar on a terminal is of no use."""
    if sys.stdout.isatty():
        raise click.UsageError(f"standard output is a terminal: redirect it, or use {remedy}")


def read(path: str) -> Iterator[bytes]:
    """A file's bytes; - is standard input. Raises OSError at once when it cannot be opened."""
    if path == "-" and sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal: redirect it, or name a file")
    file = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115

    def chunks() -> Iterator[bytes]:
        with file:
            while chunk := os.read(file.fileno(), _CHUNK):
                yield chunk

    return chunks()


def upload(stream: Any, chunks: Iterable[bytes]) -> None:
    """Send them, and that it was all."""
    for chunk in chunks:
        stream.send(wire.STDIN, chunk)
    stream.send(wire.EOF)


def download(stream: Any, path: str) -> dict[str, Any]:
    """STDOUT frames to a file, which has its name when it is whole, or to standard output (-); the result."""
    if path == "-":
        return _receive(stream, sys.stdout.buffer, sys.stdout.fileno())
    partial = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "xb") as file:
            result = _receive(stream, file, None)
        os.rename(partial, path)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)
    return result


def _receive(stream: Any, file: Any, fd: int | None) -> dict[str, Any]:
    import json

    result: dict[str, Any] = {}
    for kind, payload in stream.frames(fd):
        if kind == wire.STDOUT:
            file.write(payload)
        elif kind == wire.RESULT:
            result = json.loads(payload)
    file.flush()
    return result
