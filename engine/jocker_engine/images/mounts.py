"""The options of RUN --mount. Pure.

Source: Docker's Dockerfile reference, "RUN --mount"; for what is not there, the behaviour of its frontend.
"""

from __future__ import annotations

import csv
import difflib
import posixpath
import re
from collections.abc import Callable
from typing import Any

from .steps import RunMount

_NAMES = {
    "type": "type", "from": "from", "source": "source", "src": "source", "target": "target", "dst": "target",
    "destination": "target", "id": "id", "sharing": "sharing", "mode": "mode", "uid": "uid", "gid": "gid",
    "size": "size", "env": "env", "readonly": "ro", "ro": "ro", "readwrite": "rw", "rw": "rw", "required": "required",
}  # fmt: skip
"""Key as it may be written -> its one name."""
_TAKES = {
    "bind": {"from", "source", "target", "ro"},
    "cache": {"from", "source", "target", "ro", "id", "sharing", "mode", "uid", "gid"},
    "tmpfs": {"target", "size", "ro"},
    "secret": {"id", "source", "target", "required", "mode", "uid", "gid", "env"},
    "ssh": {"id", "target", "required", "mode", "uid", "gid"},
}
_SHARING = ("shared", "private", "locked")
_MODES = {"cache": 0o755, "secret": 0o400, "ssh": 0o600}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp])?i?b?", re.IGNORECASE)
_TRUE, _FALSE = ("", "1", "t", "true"), ("0", "f", "false")


class BadMount(ValueError):
    """The options make no sense; one line."""


def source_of(text: str) -> str:
    """What `from=` of a mount says, "" without. It is known before anything is replaced."""
    for key, value in _fields(text):
        if key == "from":
            return value
    return ""


def parse_mount(text: str, expand: Callable[[str], str], cwd: str, agents: int) -> tuple[RunMount, str]:
    """The mount, without the source it is from, and that source's name. `agents`: how many ssh mounts come before.

    Raises BadMount.
    """
    given: dict[str, str] = {"type": "bind"}
    for key, value in _fields(text):
        if key == "from":
            if "$" in value.rstrip("$"):
                raise BadMount(
                    f"from={value}: variables are not replaced here; name a stage FROM $IMAGE AS NAME"
                )
            given[key] = value
        elif key == "rw":
            given["ro"] = "false" if _flag(key, expand(value)) else "true"
        else:
            given[key] = expand(value)
    kind = given.pop("type").lower()
    if kind not in _TAKES:
        raise BadMount(f"no mount type {kind!r}{_hint(kind, list(_TAKES))}: there are {', '.join(_TAKES)}")
    for key in given:
        if key not in _TAKES[kind]:
            raise BadMount(f"a mount of type {kind} has no {key}")
    return _mount(kind, given, cwd, agents), given.get("from", "")


def _mount(kind: Any, given: dict[str, str], cwd: str, agents: int) -> RunMount:
    identity, target, env = given.get("id", ""), given.get("target", ""), given.get("env", "")
    if kind == "secret":
        if given.get("source") and identity:
            raise BadMount("a secret has id or source, which are the same, not both")
        identity = identity or given.pop("source", "") or posixpath.basename(target)
        if not identity:
            raise BadMount("a secret needs id or target")
        if not target and "env" not in given:
            target = f"/run/secrets/{posixpath.basename(identity)}"
        given.pop("source", None)
    elif kind == "ssh":
        identity = identity or "default"
        target = target or f"/run/buildkit/ssh_agent.{agents}"
    if target or kind in ("bind", "cache", "tmpfs"):  # of these the working directory is the default
        target = posixpath.normpath(posixpath.join("/", cwd, target))
        target = "/" + target.lstrip("/")
        if target == "/":
            raise BadMount(f"a mount of type {kind} needs a target, which must not be /")
    sharing: Any = given.get("sharing", "shared").lower()
    if sharing not in _SHARING:
        raise BadMount(f"no sharing {sharing!r}{_hint(sharing, _SHARING)}: there are {', '.join(_SHARING)}")
    source = posixpath.normpath("/" + given.get("source", ""))
    return RunMount(
        type=kind,
        target=target,
        id=identity or (target if kind == "cache" else ""),
        source="/" + source.lstrip("/"),
        read_only=_flag("readonly", given["ro"]) if "ro" in given else kind == "bind",
        sharing=sharing,
        required=_flag("required", given["required"]) if "required" in given else False,
        mode=_number("mode", given["mode"], 8, 0o7777) if "mode" in given else _MODES.get(kind, 0o755),
        uid=_number("uid", given.get("uid", "0"), 10, 2**32 - 2),
        gid=_number("gid", given.get("gid", "0"), 10, 2**32 - 2),
        size=_size(given["size"]) if "size" in given else 0,
        env=env or (identity if "env" in given else ""),
    )


def _fields(text: str) -> list[tuple[str, str]]:
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise BadMount(f"{text!r}: {error}") from None
    found = []
    for field in rows[0] if rows else []:
        written, equals, value = field.partition("=")
        key = _NAMES.get(written.strip().lower())
        if key is None:
            raise BadMount(f"unknown option {written!r}{_hint(written, list(_NAMES))}")
        if not equals and key not in ("ro", "rw", "required"):
            raise BadMount(f"{written} needs a value: {written}=...")
        found.append((key, value))
    return found


def _hint(word: str, known: list[str] | tuple[str, ...]) -> str:
    likely = difflib.get_close_matches(word.lower(), known, n=1)
    return f" (did you mean {likely[0]}?)" if likely else ""


def _flag(key: str, value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise BadMount(f"{key}={value}: must be true or false")


def _number(key: str, value: str, base: int, most: int) -> int:
    try:
        number = int(value, base)
    except ValueError:
        number = -1
    if not 0 <= number <= most or not value.isascii() or "_" in value:
        raise BadMount(f"{key}={value}: must be {'octal, such as 0755' if base == 8 else 'a number'}")
    return number


def _size(value: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise BadMount(f"size={value}: must be a number of bytes, or one with k, m, g or t")
    return int(float(match[1]) * 1024 ** " kmgtp".index((match[2] or " ").lower()))
