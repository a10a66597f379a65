"""For the conformance suite: which platform's drivers it runs, where, and recording or replaying FreeBSD's commands.

pytest tests/platform                                       drivers of this machine
pytest tests/platform --platform freebsd                    those of FreeBSD; elsewhere from transcripts
pytest tests/platform --platform freebsd --record DIR       on a FreeBSD, as root: and write transcripts
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sweep

from jocker_engine.platform.commands import Commands
from jocker_engine.platform.transcripts import NotVerified, Recorder, Replayer

FREEBSD = sys.platform.startswith("freebsd")
TRANSCRIPTS = Path(__file__).parent / "transcripts"
_OF = {
    "freebsd": {"zfs", "jail"},
    "linux": {"overlay", "copy", "zfs", "runc", "crun", "chroot"},
    "portable": {"copy", "chroot"},
}
"""Platform -> its drivers, as tests are parametrized by."""
_ALL = frozenset().union(*_OF.values())

_NOT_VERIFIED: dict[str, str] = {}
"""Test -> what no transcript knows."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only tests of the platform that was asked for; jails are for FreeBSD, unless they are asked for."""
    platform = config.getoption("--platform") or ("freebsd" if FREEBSD else "")
    kept, left_out = [], []
    for item in items:
        here = Path(item.path).parent == Path(__file__).parent
        params = getattr(getattr(item, "callspec", None), "params", {})
        drivers = {value for value in params.values() if isinstance(value, str) and value in _ALL}
        wanted = drivers <= _OF[platform] if platform else "jail" not in drivers
        if platform == "freebsd" and item.path.name in ("test_oci.py", "test_network.py"):
            wanted = False
        (kept if wanted or not here else left_out).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def where() -> Iterator[str]:
    """The directory below which tests make theirs. On FreeBSD all that belongs to it goes, however they end."""
    if not FREEBSD:
        yield "/tmp"
        return
    with sweep.territory() as top:
        yield top


@pytest.fixture
def commands(request: pytest.FixtureRequest, where: str) -> Commands:
    """Of the machine, recorded if that is wanted."""
    return _commands(request, {where: "where"})


def _commands(request: pytest.FixtureRequest, known: dict[str, str]) -> Commands:
    directory = request.config.getoption("--record")
    if not directory:
        return Commands()
    Path(directory).mkdir(parents=True, exist_ok=True)
    return Recorder(str(Path(directory) / f"{_name(request)}.jsonl"), known)


@pytest.fixture
def freebsd(request: pytest.FixtureRequest, where: str, tmp_path: Path) -> Commands:
    """Commands of a FreeBSD: of this one, or from transcripts."""
    known = {where: "where"} if FREEBSD else {str(tmp_path): "root"}
    if FREEBSD:
        return _commands(request, known)
    names = [f"{_name(request)}.jsonl", "by-hand.jsonl"]
    texts = [(TRANSCRIPTS / name).read_text() for name in names if (TRANSCRIPTS / name).exists()]
    return Replayer(texts, known)


def _name(request: pytest.FixtureRequest) -> str:
    return re.sub(r"[^a-zA-Z0-9_.-]+", "-", f"{request.node.path.stem}.{request.node.name}").strip("-")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A command that no transcript knows is not a failure, and not a success."""
    outcome: Any = yield
    report = outcome.get_result()
    if call.excinfo is not None and (unknown := _unknown(call.excinfo.value)) is not None:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: {unknown}")
        _NOT_VERIFIED[item.nodeid] = str(unknown)
    elif report.skipped and isinstance(report.longrepr, tuple) and "not verified" in report.longrepr[2]:
        _NOT_VERIFIED[item.nodeid] = report.longrepr[2].removeprefix("Skipped: ")


def _unknown(error: BaseException) -> NotVerified | None:
    if isinstance(error, BaseExceptionGroup):
        return next((found for each in error.exceptions if (found := _unknown(each))), None)
    return error if isinstance(error, NotVerified) else None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The record of what this run could not show."""
    if _NOT_VERIFIED:
        terminalreporter.section("not verified on this machine")
        for test, why in sorted(_NOT_VERIFIED.items()):
            terminalreporter.write_line(f"{test.removeprefix('tests/platform/')}: {why}")
