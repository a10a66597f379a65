"""`jocker-engine setup`: the table of a FreeBSD on a stand-in, and the three lines in pf.conf."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from jocker_engine.platform.checks import examine, quoted
from jocker_engine.platform.commands import Commands, Completed
from jocker_engine.platform.freebsd import pf, pfconf, setup

FULL = """\
ext_if = "vtnet0"
set skip on { lo0 }
scrub in all
nat on $ext_if inet from 172.30.0.0/24 to any -> ($ext_if:0)
rdr on $ext_if inet proto tcp from any to ($ext_if) port 8080 \\
    -> 172.30.0.2 port 80
# pass comes later
block in log \\
    all
pass out
anchor "other/*"
"""


def test_lines_go_where_they_belong() -> None:
    """Translation before the first filter rule, the filter's anchor last; once."""
    text = pfconf.with_lines(FULL)
    lines = text.splitlines()
    assert lines[:7] == FULL.splitlines()[:7]
    assert lines[7:9] == ['nat-anchor "jocker/*"', 'rdr-anchor "jocker/*"']
    assert lines[9:-1] == FULL.splitlines()[7:]
    assert lines[-1] == 'anchor "jocker/*"'
    assert pfconf.missing(text) == [] and pfconf.with_lines(text) == text
    assert pfconf.with_lines("").splitlines() == list(pf.LINES)
    assert pfconf.missing(pfconf.FRESH) == []
    assert pfconf.missing('# anchor "jocker/*"\nnat-anchor   "jocker/*"  # ours\n') == list(pf.LINES[1:])


class Bare(Commands):
    """A FreeBSD as it is installed. What is set is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: dict[str, str] = {"devfs": "1\n2\n3\n4\n"}
        self.changes: list[list[str]] = []
        self.broken = False

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 60.0,
        input: bytes | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        words = list(argv)
        code, out = 0, ""
        match words:
            case ["sysrc", "-in", name]:
                out = self.facts.get(name, "")
            case ["sysrc", setting]:
                name, _, value = setting.partition("=")
                self.facts[name.rstrip("+")] = value
            case ["sysctl", "-n", name]:
                out = self.facts.get(name, "0")
            case ["sysctl", setting]:
                self.facts[setting.partition("=")[0]] = setting.partition("=")[2]
            case ["devfs", "rule", "showsets"]:
                out = self.facts["devfs"]
            case ["pfctl", "-nf", _]:
                code = 1 if self.broken else 0
            case ["pfctl", "-f", _]:
                pass
            case ["pfctl", "-s", "info"]:
                code, out = (0, "Status: Enabled\n") if "pf" in self.facts else (1, "")
            case ["pfctl", "-sn"]:
                out = "".join(f"{line} all\n" for line in pf.LINES)
            case ["pfctl", "-sr"]:
                pass
            case ["kldstat" | "zfs" | "zpool" | "pw" as tool, *rest]:
                makes = rest[0] in ("create", "groupadd")
                code = 0 if makes or f"{tool} {rest[-1]}" in self.facts or rest[-1] == "zroot" else 1
                if makes:
                    self.facts[f"{tool} {rest[-1]}"] = ""
            case ["kldload", "-n", name]:
                self.facts[f"kldstat {name}"] = ""
            case ["service", name, _]:
                self.facts[name] = ""
            case _:
                raise AssertionError(words)
        if words[0] in ("kldload", "service") or any("=" in word for word in words) or "create" in words:
            self.changes.append(words)
        return Completed(tuple(words), code, out, "stdin:1: syntax error" if code else "")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bare:
    monkeypatch.setattr(pfconf, "PATH", str(tmp_path / "pf.conf"))
    monkeypatch.setattr(setup, "_LOADER", str(tmp_path / "loader.conf"))
    return Bare()


def table(tmp_path: Path) -> list[setup.Check]:
    return setup.checks(zroot="zroot/jocker", volumes="", base="", socket=str(tmp_path))


async def test_looking_changes_nothing(bare: Bare, tmp_path: Path) -> None:
    said: list[str] = []
    outcomes = await examine(table(tmp_path), bare, apply=False, tell=said.append)
    assert bare.changes == [] and os.listdir(tmp_path) == []
    assert all(line.startswith(("ok ", "missing ")) and "\n" not in line for line in said)
    assert "missing  kernel module pf: it is not loaded; run `kldload -n pf`" in said
    assert "missing  dataset zroot/jocker: there is no such dataset; run `zfs create -p zroot/jocker`" in said
    assert "missing  rc.conf pf_enable: it is nothing; run `sysrc pf_enable=YES`" in said
    assert any("run `sysrc 'kld_list+=if_bridge if_epair nullfs tmpfs'`" in line for line in said)
    assert any("pf.conf: there is no" in line and 'nat-anchor "jocker/*"' in line for line in said)
    assert "ok       pool zroot" in said and "ok       devfs ruleset 4" in said
    assert all(each.check.mend or each.check.advice for each in outcomes if each.problem)


async def test_what_can_be_mended_is(bare: Bare, tmp_path: Path) -> None:
    (tmp_path / "pf.conf").write_text(FULL)
    (tmp_path / "loader.conf").write_text('zfs_load="YES"\n')
    outcomes = await examine(table(tmp_path), bare, apply=True, tell=lambda line: None)
    assert [each.check.subject for each in outcomes if each.problem] == ["resource accounting"]
    assert (tmp_path / "pf.conf").read_text() == pfconf.with_lines(FULL)
    (backup,) = tmp_path.glob("pf.conf.before-jocker-*")
    assert backup.read_text() == FULL
    assert (tmp_path / "loader.conf").read_text() == 'zfs_load="YES"\nkern.racct.enable=1\n'
    done = len(bare.changes)
    bare.facts["kern.racct.enable"] = "1"
    again = await examine(table(tmp_path), bare, apply=True, tell=lambda line: None)
    assert not any(each.problem for each in again) and len(bare.changes) == done


async def test_a_pf_conf_that_pf_does_not_take(bare: Bare, tmp_path: Path) -> None:
    """Nothing is changed then, and the reason is told."""
    (tmp_path / "pf.conf").write_text("pass\n")
    bare.broken = True
    outcomes = await examine(table(tmp_path), bare, apply=True, tell=lambda line: None)
    (refused,) = [each for each in outcomes if each.check.subject == "pf.conf"]
    assert "mending failed: pf does not take" in refused.text()
    assert (tmp_path / "pf.conf").read_text() == "pass\n"
    assert not (tmp_path / "pf.conf.jocker-new").exists()


def test_words_for_a_shell() -> None:
    assert [quoted(word) for word in ("a=b", "a b", "", "it's")] == ["a=b", "'a b'", "''", "'it'\\''s'"]
