"""Which base.txz is this machine's."""

from __future__ import annotations

import pytest

from jocker_engine.config import Config
from jocker_engine.platform.commands import Commands
from jocker_engine.platform.freebsd import releases
from jocker_engine.platform.worker.distribution import checksum


def test_release() -> None:
    assert releases.release("15.0-RELEASE\n") == "15.0-RELEASE"
    assert releases.release("14.3-RELEASE-p5") == "14.3-RELEASE"
    assert releases.release("15.1-BETA2") == "15.1-BETA2"
    assert releases.release("16.0-CURRENT") == "16.0-CURRENT"
    for text in ("", "15.0-MYBRANCH", "12", "../../x"):
        with pytest.raises(releases.BadVersion):
            releases.release(text)


def test_url() -> None:
    mirror = Config().freebsd_mirror
    assert releases.url(mirror, "amd64", "amd64", "15.0-RELEASE") == (
        "https://download.freebsd.org/releases/amd64/amd64/15.0-RELEASE/base.txz"
    )
    assert releases.url(mirror + "/", "arm64", "aarch64", "14.3-RELEASE") == (
        "https://download.freebsd.org/releases/arm64/aarch64/14.3-RELEASE/base.txz"
    )
    assert releases.url("http://m", "amd64", "amd64", "15.0-STABLE") == (
        "http://m/snapshots/amd64/amd64/15.0-STABLE/base.txz"
    )


def test_kernel_and_userland_must_agree() -> None:
    assert releases.agree("15.0-RELEASE-p1", "15.0-RELEASE-p2") == "15.0-RELEASE"
    with pytest.raises(releases.BadVersion, match=r"the kernel that runs is 14\.3-RELEASE"):
        releases.agree("14.3-RELEASE", "15.0-RELEASE")


async def test_a_machine_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    from test_zfs_storage import Script

    script = Script(
        freebsd_version=[(0, "15.0-RELEASE-p1\n15.0-RELEASE-p2\n", "")], uname=[(0, "arm64 aarch64\n", "")]
    )
    script._answers["freebsd-version"] = script._answers.pop("freebsd version")
    monkeypatch.setattr("sys.platform", "freebsd15")
    commands: Commands = script
    assert await releases.installed(commands) == ("15.0-RELEASE", "arm64", "aarch64")
    assert script.ran == ["freebsd-version -ru", "uname -mp"]


def test_manifest() -> None:
    text = (
        "base-dbg.txz\t" + "1" * 64 + '\t5\tx\t"y"\toff\nbase.txz\t' + "AB" * 32 + '\t9\tbase\t"Base"\ton\n'
    )
    assert checksum(text, "base.txz") == "ab" * 32
    assert checksum(text, "kernel.txz") == ""
    assert checksum("base.txz\tnonsense\n", "base.txz") == ""
    assert checksum("", "base.txz") == ""
