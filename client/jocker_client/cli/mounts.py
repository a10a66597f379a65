"""-v, --mount, --tmpfs: from their text to the mounts of container.create. The syntax is docker's."""

from __future__ import annotations

import csv
import os
from typing import Any

import click

from .limits import size

_PROPAGATION = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
_KINDS = ("bind", "volume", "tmpfs")


def volume(text: str) -> dict[str, Any]:
    """-v [SOURCE:]TARGET[:OPTION,...]: ro, rw, nocopy, a propagation."""
    parts = text.split(":")
    words: list[str] = []
    if len(parts) == 3 or (len(parts) == 2 and not parts[1].startswith("/")):
        words = parts.pop().split(",")
    if len(parts) > 2 or not all(parts) or not parts[-1].startswith("/"):
        raise click.UsageError(f"-v {text!r}: must be [NAME:]/TARGET[:ro] or /SOURCE:/TARGET[:ro]")
    source = parts[0] if len(parts) == 2 else ""
    if source.startswith((".", "~")):
        source = os.path.abspath(os.path.expanduser(source))
    said: dict[str, Any] = {
        "type": "bind" if source.startswith("/") else "volume",
        "source": source,
        "target": parts[-1],
        "read_only": "ro" in words,
    }
    for word in words:
        if word == "nocopy" and said["type"] == "volume":
            said["no_copy"] = True
        elif word in _PROPAGATION and said["type"] == "bind":
            said["options"] = [word]
        elif word not in ("ro", "rw", "z", "Z", "consistent", "cached", "delegated"):
            raise click.UsageError(f"-v {text!r}: {word!r} is no option of a {said['type']} mount")
    return said


def tmpfs(text: str) -> dict[str, Any]:
    """--tmpfs TARGET[:OPTION,...], the options of mount(8)."""
    target, _, options = text.partition(":")
    if not target.startswith("/"):
        raise click.UsageError(f"--tmpfs {text!r}: must be /TARGET[:OPTIONS]")
    said: dict[str, Any] = {"type": "tmpfs", "target": target}
    return said | ({"options": options.split(",")} if options else {})


def mount(text: str) -> dict[str, Any]:
    """--mount type=...,source=...,target=...[,readonly]...: one line of CSV."""
    result: dict[str, Any] = {"type": "volume", "read_only": False}
    options: list[str] = []
    for item in next(csv.reader([text]), []):
        key, equals, value = item.partition("=")
        key = key.strip().lower()
        if key == "type":
            if value not in _KINDS:
                raise click.UsageError(f"--mount {text!r}: type must be one of {', '.join(_KINDS)}")
            result["type"] = value
        elif key in ("source", "src"):
            result["source"] = value
        elif key in ("target", "dst", "destination"):
            result["target"] = value
        elif key in ("readonly", "ro"):
            result["read_only"] = _yes(text, value, equals)
        elif key == "volume-nocopy":
            result["no_copy"] = _yes(text, value, equals)
        elif key == "bind-propagation" and value in _PROPAGATION:
            options.append(value)
        elif key == "bind-nonrecursive":
            options += ["bind"] if _yes(text, value, equals) else []
        elif key == "bind-create-src":
            result["must_exist"] = not _yes(text, value, equals)
        elif key == "tmpfs-size":
            options.append(f"size={size(value, '--mount tmpfs-size')}")
        elif key == "tmpfs-mode":
            options.append(f"mode={value}")
        elif not (key == "volume-driver" and value == "local") and key != "consistency":
            raise click.UsageError(
                f"--mount: {item!r} is not understood; there are type=, source=, target=, readonly, volume-nocopy, "
                "bind-propagation=, tmpfs-size=, tmpfs-mode="
            )
    return _checked(text, result, options)


def _checked(text: str, result: dict[str, Any], options: list[str]) -> dict[str, Any]:
    kind = result["type"]
    if not result.get("target", "").startswith("/"):
        raise click.UsageError(f"--mount {text!r}: target= is missing, or not an absolute path")
    belongs = {"size": "tmpfs", "mode": "tmpfs"}
    for option in options:
        if belongs.get(option.partition("=")[0], "bind") != kind:
            raise click.UsageError(f"--mount {text!r}: {option!r} does not go with type={kind}")
    if kind == "bind":
        if not result.get("source"):
            raise click.UsageError(f"--mount {text!r}: source= is missing")
        result["source"] = os.path.abspath(os.path.expanduser(result["source"]))
        result.setdefault("must_exist", True)
    elif kind == "tmpfs" and result.get("source"):
        raise click.UsageError(f"--mount {text!r}: a tmpfs has no source")
    if result.get("no_copy") and kind != "volume":
        raise click.UsageError(f"--mount {text!r}: volume-nocopy does not go with type={kind}")
    return result | ({"options": options} if options else {})


def _yes(text: str, value: str, given: str) -> bool:
    if not given or value in ("true", "1"):
        return True
    if value in ("false", "0"):
        return False
    raise click.UsageError(f"--mount {text!r}: {value!r} must be true or false")
