"""What a build is made of, as the words of its options say: contexts, Dockerfile, secrets, agents."""

from __future__ import annotations

import base64
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from ..context import ContextError, ignore_lines

_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
"""How compressed tars begin: gzip, bzip2, xz, zstd."""
_TAR_MAGIC = slice(257, 262)


class _Tar:
    """A context that is a tar on standard input; `start` of it was read already."""

    def __init__(self, start: bytes) -> None:
        self._start = start

    def pieces(self) -> Iterator[bytes]:
        """All of it."""
        yield self._start
        while data := sys.stdin.buffer.read(1 << 18):
            yield data


def contexts(path: str, dockerfile: str, named: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters that say what is built from what, and the contexts by name."""
    from ..manifest import Context

    found: dict[str, Any] = {}
    wish: dict[str, Any] = {"contexts": []}
    text: str | None = None
    if path == "-" and dockerfile == "-":
        raise click.UsageError("only one of Dockerfile and context can be standard input")
    if dockerfile == "-":
        text = decode(sys.stdin.buffer.read(), "-")
    if path == "-":
        start = sys.stdin.buffer.read(512)
        if start.startswith(_ARCHIVES) or start[_TAR_MAGIC] == b"ustar":
            found[""] = _Tar(start)
            wish["contexts"].append({})
            if dockerfile:
                wish["dockerfile"] = dockerfile
        else:
            text = decode(start + sys.stdin.buffer.read(), "-")
    else:
        file = os.path.join(path, "Dockerfile") if dockerfile in ("", "-") else dockerfile
        if text is None:
            text = read_dockerfile(path, file)
            wish["dockerfile"] = os.path.basename(file)
        found[""] = _directory(Context, path, file)
        wish["ignore"] = ignore_lines(path, file)
    if text is not None:
        wish["dockerfile_text"] = text
    for item in named:
        name, equals, source = item.partition("=")
        if not name or not equals or not source:
            raise click.UsageError(
                f"--build-context {item!r}: must be NAME=PATH or NAME=docker-image://IMAGE"
            )
        name = name.lower()
        if source.startswith("docker-image://"):
            wish["contexts"].append({"name": name, "image": source.removeprefix("docker-image://")})
        else:
            found[name] = _directory(Context, source, os.path.join(source, "Dockerfile"))
    for name, context in found.items():
        if not isinstance(context, _Tar):
            wish["contexts"].append({**({"name": name} if name else {}), "manifest": context.id})
    return wish, found


def _directory(kind: Callable[[str, str], Any], path: str, dockerfile: str) -> Any:
    if "://" in path:
        raise click.ClickException(
            f"{path}: a context is a directory here, or - for a tar; URLs are not fetched"
        )
    try:
        return kind(path, dockerfile)
    except ContextError as error:
        raise click.ClickException(str(error)) from None


def read_dockerfile(path: str, file: str) -> str:
    """Its text; `path` is the context, which a wrong argument is told of first. Raises ClickException."""
    if not os.path.isdir(path) and "://" not in path:
        why = "is not a directory" if os.path.exists(path) else "there is no such directory"
        raise click.ClickException(f"{path}: {why}; the context is a directory, or - for a tar")
    try:
        with open(file, "rb") as source:
            return decode(source.read(), file)
    except FileNotFoundError:
        raise click.ClickException(f"{file}: there is no such Dockerfile; name it with -f") from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}") from None


def decode(data: bytes, name: str) -> str:
    """The text of a Dockerfile. Raises ClickException."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise click.ClickException(f"{name}: is neither a Dockerfile in UTF-8 nor a tar") from None


def _fields(option: str, text: str) -> dict[str, str]:
    fields = dict(item.partition("=")[::2] for item in text.split(","))
    for name in fields:
        if name not in ("id", "src", "source", "env", "type"):
            raise click.UsageError(f"{option} {text!r}: {name!r} is not understood; id=, src=, env= are")
    return fields


def secret(text: str) -> tuple[str, str]:
    """id=ID[,src=FILE|,env=NAME], as the protocol has it: (id, base64). Raises ClickException, UsageError."""
    fields = _fields("--secret", text)
    name, source = fields.get("id", ""), fields.get("src") or fields.get("source") or ""
    variable = fields.get("env", "")
    if not name:
        raise click.UsageError(f"--secret {text!r}: id= is missing")
    kind = fields.get("type", "env" if variable else "file")
    if kind == "env" or (not source and name in os.environ and not variable):
        variable = variable or source or name
        if variable not in os.environ:
            raise click.ClickException(f"secret {name}: there is no variable {variable} in the environment")
        content = os.fsencode(os.environ[variable])
    else:
        try:
            with open(os.path.expanduser(source or name), "rb") as file:
                content = file.read()
        except OSError as error:
            raise click.ClickException(f"secret {name}: {source or name}: {error.strerror}") from None
    return name, base64.b64encode(content).decode()


def agent(text: str) -> tuple[str, str]:
    """default, ID or ID=SOCKET: (id, path of the agent's socket). Raises ClickException if none answers there."""
    name, equals, path = text.partition("=")
    if not equals:
        path = os.environ.get("SSH_AUTH_SOCK", "")
        if not path:
            raise click.ClickException(
                f"--ssh {text}: SSH_AUTH_SOCK is not set; start an agent, or name its socket"
            )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            raise click.ClickException(
                f"--ssh {text}: no agent answers at {path}: {error.strerror}; keys in files are not read here: ssh-add them"
            ) from None
    return name or "default", path
