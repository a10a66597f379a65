"""-v, --mount, --tmpfs, sizes, ulimits, devices: from the text to the parameters."""

from __future__ import annotations

from typing import Any

import click
import pytest

from jocker_client.cli import limits, mounts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/a", {"type": "volume", "source": "", "target": "/a", "read_only": False}),
        ("n:/a", {"type": "volume", "source": "n", "target": "/a", "read_only": False}),
        ("n:/a:ro,nocopy", {"type": "volume", "source": "n", "target": "/a", "read_only": True, "no_copy": True}),
        ("/h:/a:rw,rslave", {"type": "bind", "source": "/h", "target": "/a", "read_only": False, "options": ["rslave"]}),
        ("/h:/a:z", {"type": "bind", "source": "/h", "target": "/a", "read_only": False}),
    ],
)  # fmt: skip
def test_v(text: str, said: dict[str, Any]) -> None:
    assert mounts.volume(text) == said


@pytest.mark.parametrize(
    "text", ["", ":", "a", "a:b", "n:/a:huh", "n:/a:rslave", "/h:/a:nocopy", "a:b:c:d", ":/a"]
)
def test_v_that_is_none(text: str) -> None:
    with pytest.raises(click.UsageError):
        mounts.volume(text)


def test_mount() -> None:
    assert mounts.mount("type=bind,src=/h,dst=/a,ro=false,bind-propagation=shared") == {
        "type": "bind", "source": "/h", "target": "/a", "read_only": False, "must_exist": True, "options": ["shared"],
    }  # fmt: skip
    assert mounts.mount("type=tmpfs,destination=/a,tmpfs-size=1m,tmpfs-mode=1770") == {
        "type": "tmpfs", "target": "/a", "read_only": False, "options": ["size=1048576", "mode=1770"],
    }  # fmt: skip
    assert mounts.mount('"source=with,comma",target=/a,volume-nocopy')["source"] == "with,comma"
    for text in (
        "",
        "target=a",
        "type=bind,target=/a",
        "type=tmpfs,src=/x,target=/a",
        "target=/a,huh=1",
        "target=/a,ro=x",
    ):
        with pytest.raises(click.UsageError):
            mounts.mount(text)


def test_sizes() -> None:
    found = [limits.size(text, "--memory") for text in ("512m", "1.5g", "100k", "4096", "1GiB", "2MB", "7b")]
    assert found == [512 << 20, 3 << 29, 100 << 10, 4096, 1 << 30, 2 << 20, 7]
    assert limits.size("-1", "--memory-swap") == -1
    for text in ("", "m", "1x", "-1", "1 2"):
        with pytest.raises(click.UsageError):
            limits.size(text, "--memory")


def test_devices_and_ulimits() -> None:
    assert limits._device("/dev/a") == {"source": "/dev/a", "target": "/dev/a", "permissions": "rwm"}
    assert limits._device("/dev/a:r") == {"source": "/dev/a", "target": "/dev/a", "permissions": "r"}
    assert limits._device("/dev/a:/dev/b:rw") == {"source": "/dev/a", "target": "/dev/b", "permissions": "rw"}
    assert limits._ulimit("nofile=1:2") == {"name": "nofile", "soft": 1, "hard": 2}
    assert limits._ulimit("core=unlimited") == {"name": "core", "soft": -1, "hard": -1}
    for wrong in ("a", "nofile", "nofile=x"):
        with pytest.raises(click.UsageError):
            limits._ulimit(wrong)
