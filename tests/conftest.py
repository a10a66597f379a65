"""For all tests: what must be there on a machine that has it, and a real engine per platform."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator

import pytest

sys.path.insert(0, os.path.dirname(__file__))
sys.path.append(os.path.join(os.path.dirname(__file__), "platform"))

import pools
from engines import Engine

pytest_plugins = ("conformance",)

# A shell without job control starts what is in its background with SIGINT ignored, and so would be all that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def need(condition: object, reason: str) -> None:
    """Skip without the condition; where JOCKER_TEST_REQUIRE is set a missing capability is a failure."""
    if not condition:
        if os.environ.get("JOCKER_TEST_REQUIRE"):
            pytest.fail(f"this machine should have it: {reason}")
        pytest.skip(reason)


def why_not(platform: str) -> str:
    """Why the platform cannot be used here, as far as that is cheap to tell. A FreeBSD's engine is that of tests/platform."""
    if (platform == "freebsd") != sys.platform.startswith("freebsd"):
        return f"engines of the {platform} platform are not tested on this system"
    if platform == "linux" and os.geteuid() != 0:
        return "the linux platform needs root"
    if platform == "linux" and not (shutil.which("runc") or shutil.which("crun")):
        return "neither runc nor crun is installed"
    return ""


def _engine(platform: str) -> Iterator[Engine]:
    reason = why_not(platform)
    need(not reason, reason)
    engine = Engine(platform).start()
    engine.base()
    yield engine
    engine.close()


@pytest.fixture(scope="session", params=["linux", "portable"])
def shared(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine with the image `base`, for tests that leave it as it was."""
    yield from _engine(request.param)


@pytest.fixture(params=["linux", "portable"])
def own(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine with the image `base` that the test may do anything to."""
    yield from _engine(request.param)


@pytest.fixture(scope="module")
def pool() -> Iterator[str]:
    """The name of a throw-away ZFS pool, real or of zfs-fuse; for one module, since there is one on a machine."""
    try:
        with pools.pool() as name:
            yield name
    except pools.Taken as error:
        pytest.skip(str(error))
    except pools.NoPool as error:
        need(False, str(error))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Of the conformance suite, tests/platform."""
    group = parser.getgroup("jocker")
    group.addoption(
        "--platform", choices=("freebsd", "linux", "portable"), help="run the drivers of this one"
    )
    group.addoption("--record", metavar="DIR", help="write transcripts of the commands that drivers run")
