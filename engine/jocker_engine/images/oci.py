"""The OCI image configuration (image-spec config.md), with Docker's Healthcheck, OnBuild and Shell, as JSON. Pure.

An image's id is the digest of this text. It is kept as it is, since an image from elsewhere has a form of its own.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jocker_protocol.types import Healthcheck, HistoryEntry, ImageConfig

from ..clock import canonical

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm", "armv6l": "arm"}
_SECOND = 10**9

_LISTS = {"env": "Env", "on_build": "OnBuild"}
_TEXTS = {"user": "User", "working_dir": "WorkingDir", "stop_signal": "StopSignal"}
_COMMANDS = {"entrypoint": "Entrypoint", "cmd": "Cmd", "shell": "Shell"}
_SETS = {"exposed_ports": "ExposedPorts", "volumes": "Volumes"}
_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start_period": "StartPeriod",
    "start_interval": "StartInterval",
}
"""Seconds here, nanoseconds there."""


class BadConfig(Exception):
    """It is no image configuration; one line."""


def machine() -> str:
    """This machine's architecture in Go's words (GOARCH), which the specification takes."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def digest(text: bytes) -> str:
    """As a descriptor has it."""
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def write(
    *,
    created: str,
    author: str,
    architecture: str,
    os: str,
    config: ImageConfig,
    diff_ids: Sequence[str],
    history: Sequence[HistoryEntry],
) -> str:
    """The text; the same image has the same."""
    document = {
        "architecture": architecture,
        "config": _config(config),
        "created": created,
        "history": [_entry(entry) for entry in history],
        "os": os,
        "rootfs": {"diff_ids": list(diff_ids), "type": "layers"},
        **({"author": author} if author else {}),
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _config(config: ImageConfig) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for ours, theirs in (_LISTS | _TEXTS | _COMMANDS).items():
        if (value := getattr(config, ours)) not in ("", None, []) or (ours in _COMMANDS and value == []):
            out[theirs] = value
    for ours, theirs in _SETS.items():
        if value := getattr(config, ours):
            out[theirs] = {name: {} for name in value}
    if config.labels:
        out["Labels"] = config.labels
    if (check := config.healthcheck) is not None:
        found: dict[str, Any] = {"Test": check.test} if check.test else {}
        for ours, theirs in _TIMES.items():
            if seconds := getattr(check, ours):
                found[theirs] = round(seconds * _SECOND)
        if check.retries:
            found["Retries"] = check.retries
        out["Healthcheck"] = found
    return out


def _entry(entry: HistoryEntry) -> dict[str, Any]:
    out: dict[str, Any] = {"created": entry.created, "created_by": entry.created_by}
    if entry.empty_layer:
        out["empty_layer"] = True
    for field in ("author", "comment"):
        if value := getattr(entry, field):
            out[field] = value
    return out


class Read:
    """What a text says. Raises BadConfig for what cannot be understood; fields that are not known are left alone."""

    def __init__(self, text: bytes) -> None:
        try:
            document = json.loads(text.decode())
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise BadConfig(f"the image's configuration is not JSON: {error}") from None
        if not isinstance(document, dict):
            raise BadConfig("the image's configuration is no JSON object")
        self.architecture = _text(document, "architecture")
        self.os = _text(document, "os")
        self.created = _time(_text(document, "created"))
        self.author = _text(document, "author")
        rootfs = _get(document, "rootfs", dict, {})
        self.diff_ids = _texts(rootfs, "diff_ids") or []
        for diff_id in self.diff_ids:
            if not DIGEST.fullmatch(diff_id):
                raise BadConfig(
                    f"the image's configuration: rootfs.diff_ids has {diff_id!r}, which is no sha256 digest"
                )
        self.config = _read_config(_get(document, "config", dict, {}))
        self.history = [_read_entry(entry) for entry in _get(document, "history", list, [])]


def _read_config(found: Mapping[str, Any]) -> ImageConfig:
    values: dict[str, Any] = {}
    for ours, theirs in _LISTS.items():
        values[ours] = _texts(found, theirs) or []
    for ours, theirs in _TEXTS.items():
        values[ours] = _text(found, theirs)
    for ours, theirs in _COMMANDS.items():
        values[ours] = _texts(found, theirs)
    for ours, theirs in _SETS.items():
        values[ours] = list(_get(found, theirs, dict, {}))
    labels = _get(found, "Labels", dict, {})
    if not all(isinstance(value, str) for value in labels.values()):
        raise BadConfig("the image's configuration: Labels has a value that is no text")
    check = _get(found, "Healthcheck", dict, None)
    return ImageConfig(**values, labels=labels, healthcheck=None if check is None else _read_check(check))


def _read_check(found: Mapping[str, Any]) -> Healthcheck:
    times = {ours: _get(found, theirs, int, 0) / _SECOND for ours, theirs in _TIMES.items()}
    return Healthcheck(test=_texts(found, "Test") or [], retries=_get(found, "Retries", int, 0), **times)


def _read_entry(found: Any) -> HistoryEntry:
    if not isinstance(found, dict):
        raise BadConfig("the image's configuration: history has an entry that is no object")
    return HistoryEntry(
        created=_time(_text(found, "created")),
        created_by=_text(found, "created_by"),
        empty_layer=_get(found, "empty_layer", bool, False),
        author=_text(found, "author"),
        comment=_text(found, "comment"),
    )


def _get(found: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = found.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadConfig(f"the image's configuration: {key} is not what it should be")
    return value


def _text(found: Mapping[str, Any], key: str) -> str:
    value: str = _get(found, key, str, "")
    return value


def _texts(found: Mapping[str, Any], key: str) -> list[str] | None:
    value: list[str] | None = _get(found, key, list, None)
    if value is not None and not all(isinstance(item, str) for item in value):
        raise BadConfig(f"the image's configuration: {key} has an item that is no text")
    return value


def _time(text: str) -> str:
    try:
        return canonical(text) if text else ""
    except ValueError as error:
        raise BadConfig(f"the image's configuration: {error}") from None
