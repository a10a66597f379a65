"""The id of a boot where the kernel has none of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jocker_engine import clock
from jocker_engine.platform.freebsd import holders


def test_a_boot_has_one_id(tmp_path: Path) -> None:
    path = str(tmp_path / "boot-id")
    first = clock._boot_file.__wrapped__(path)
    assert len(first) == 32 and os.listdir(tmp_path) == ["boot-id"]
    assert clock._boot_file.__wrapped__(path) == first
    os.unlink(path)  # as a boot does
    assert clock._boot_file.__wrapped__(path) != first


def test_two_engines_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is first, between our look and our link."""
    path = str(tmp_path / "boot-id")
    link = os.link

    def late(made: str, there: str) -> None:
        Path(there).write_text("other\n")
        link(made, there)

    monkeypatch.setattr(os, "link", late)
    assert clock._boot_file.__wrapped__(path) == "other"
    assert os.listdir(tmp_path) == ["boot-id"]


def test_without_the_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    path = str(tmp_path / "boot-id")
    assert clock._boot_file.__wrapped__(path).startswith("boottime-")
    assert os.listdir(tmp_path) == []


def test_who_has_a_file_open() -> None:
    assert holders.parse(" 1234w 77") == [1234, 77]
    assert holders.parse("") == []
