"""What all tests share."""

from __future__ import annotations

import os

import pytest


def need(condition: object, reason: str) -> None:
    """Skip the test where the machine cannot run it; fail where JOCKER_TEST_REQUIRE says that it must."""
    if condition:
        return
    if os.environ.get("JOCKER_TEST_REQUIRE"):
        pytest.fail(f"JOCKER_TEST_REQUIRE is set, but: {reason}")
    pytest.skip(reason)
