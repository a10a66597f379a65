"""rc.d and systemd: containers are stopped when the machine goes down, and at no other time.

FreeBSD's rc.subr is not on every machine; a stand-in does what rc.subr(8) says of prefixes, precmd and postcmd.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import need

TOP = os.path.join(os.path.dirname(__file__), "..", "..", "..")
ETC = os.path.join(os.path.dirname(__file__), "..", "..", "..", "etc")

RC_SUBR = """
load_rc_config() { :; }
wait_for_pids() { echo "wait $*" >>"$RECORD"; }
run_rc_command() {
    rc_arg=$1
    case $rc_arg in fast*) rc_arg=${rc_arg#fast}; rc_fast=yes;; esac
    eval "_precmd=\\$${rc_arg}_precmd _postcmd=\\$${rc_arg}_postcmd"
    if [ -n "$_precmd" ] && ! $_precmd; then return 1; fi
    case $rc_arg in
    start) echo "start $command $command_args" >>"$RECORD";;
    stop) echo stop >>"$RECORD"; $_postcmd;;
    restart) (run_rc_command stop); (run_rc_command start);;
    esac
}
"""
COMMAND = '#!/bin/sh\necho "{name} $*" >>"$RECORD"\n{then}\n'


class RcScript:
    """The script with everything it runs in one directory."""

    def __init__(self, where: Path) -> None:
        self.record = where / "record"
        self.bin = where / "bin"
        self.bin.mkdir()
        (where / "rc.subr").write_text(RC_SUBR)
        (where / "jocker-engine.pid").write_text("4711\n")
        (where / "config.yaml").touch()
        with open(os.path.join(ETC, "rc.d", "jocker"), encoding="utf-8") as file:
            text = file.read()
        for there, here in (
            ("/etc/rc.subr", f"{where}/rc.subr"),
            ("/usr/local/bin", str(self.bin)),
            ("/usr/local/etc/jocker_config.yaml", f"{where}/config.yaml"),
            ("/var/run/jocker-engine.pid", f"{where}/jocker-engine.pid"),
        ):
            assert there in text
            text = text.replace(there, here)
        self.script = where / "jocker"
        self.script.write_text(text)
        self.make("jocker")
        self.make("jocker-engine")

    def make(self, name: str, then: str = "") -> None:
        path = self.bin / name
        path.write_text(COMMAND.format(name=name, then=then))
        path.chmod(0o755)

    def run(self, argument: str, **variables: str) -> tuple[int, list[str], str]:
        """Exit status, what was run, what was said on stderr."""
        self.record.write_text("")
        env = {"PATH": os.environ["PATH"], "RECORD": str(self.record), **variables}
        done = subprocess.run(
            ["sh", str(self.script), argument],
            env=env,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return done.returncode, self.record.read_text().splitlines(), done.stderr


@pytest.fixture
def rc(tmp_path: Path) -> RcScript:
    return RcScript(tmp_path)


def test_only_a_faststop_stops_containers(rc: RcScript) -> None:
    shutdown = "jocker -H /var/run/jocker.sock system shutdown"
    assert rc.run("faststop") == (0, [shutdown, "stop", "wait 4711"], "")
    assert rc.run("stop") == (0, ["stop", "wait 4711"], "")
    for restart in ("restart", "fastrestart"):
        _, ran, _ = rc.run(restart)
        assert shutdown not in ran
        assert [line.split()[0] for line in ran] == [
            "jocker-engine",
            "stop",
            "wait",
            "jocker-engine",
            "start",
        ]


def test_the_engine_is_stopped_even_if_containers_cannot_be(rc: RcScript) -> None:
    rc.make("jocker", "echo 'jocker: cannot reach the engine' >&2; exit 1")
    code, ran, said = rc.run("faststop", jocker_socket="/other")
    assert code == 0 and ran[0].startswith("jocker -H /other ") and ran[1] == "stop"
    assert said == "jocker: cannot reach the engine\n"


def test_a_wrong_configuration_is_told_and_stops_nothing(rc: RcScript) -> None:
    rc.make("jocker-engine", "echo 'unknown key' >&2; exit 78")
    for argument in ("start", "restart"):
        code, ran, said = rc.run(argument)
        assert code == 1 and said == "unknown key\n"
        assert ran == [f"jocker-engine --config {rc.script.parent}/config.yaml --check-config"]


def test_flags_are_the_engines(rc: RcScript) -> None:
    _, ran, _ = rc.run("start", jocker_flags="--log-level debug")
    assert ran[0].endswith("config.yaml --log-level debug --check-config")
    assert ran[1].startswith("start /usr/sbin/daemon -r ") and ran[1].endswith(" --log-level debug")


def test_scripts_are_good_shell() -> None:
    need(shutil.which("shellcheck"), "shellcheck is not installed")
    scripts = ["etc/rc.d/jocker", "etc/host-packages.sh", ".ci/run"]
    subprocess.run(["sh", "-n", "etc/rc.d/jocker"], cwd=TOP, check=True, timeout=20)
    # SC2034, SC2154: what rc.subr(8) reads and sets; SC2086: options that are several words.
    done = subprocess.run(
        ["shellcheck", "-s", "sh", "-e", "SC1091,SC2034,SC2154,SC2086,SC3043", *scripts],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", sorted(os.listdir(os.path.join(ETC, "man"))))
def test_manual_pages(page: str) -> None:
    need(shutil.which("mandoc"), "mandoc is not installed")
    command = ["mandoc", "-Tlint", "-W", "warning", os.path.join(ETC, "man", page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_manual_has_all_keys_of_the_configuration() -> None:
    import msgspec

    from jocker_engine.config import Config

    with open(os.path.join(ETC, "man", "jocker_config.5"), encoding="utf-8") as file:
        text = file.read()
    with open(os.path.join(ETC, "jocker_config.yaml"), encoding="utf-8") as file:
        sample = file.read()
    for field in msgspec.structs.fields(Config):
        assert re.search(rf"\b{field.name}\b", text), f"{field.name} is not in jocker_config(5)"
        assert f"#{field.name}:" in sample, f"{field.name} is not in jocker_config.yaml"


def test_the_port_installs_what_it_lists() -> None:
    """And what it installs is here."""
    with open(os.path.join(ETC, "port", "Makefile"), encoding="utf-8") as file:
        makefile = file.read()
    with open(os.path.join(ETC, "port", "pkg-plist"), encoding="utf-8") as file:
        listed = [line.split("/")[-1] for line in file.read().split() if "/" in line]
    for name in listed:
        assert name.removesuffix(".gz").removesuffix(".sample") in makefile or name.startswith("%%"), name
    for name in re.findall(r"\$\{ETC\}/([\w./-]+)", makefile):
        if "$" not in name and name != "man/":
            assert os.path.exists(os.path.join(ETC, name)), name
    for name in ("jocker.1", "jocker_config.5", "jocker-engine.8"):
        assert name in makefile and name in os.listdir(os.path.join(ETC, "man"))


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    need(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    paths = []
    for name in ("jocker.service", "jocker-containers.service"):
        with open(os.path.join(ETC, "systemd", name), encoding="utf-8") as file:
            text = file.read()
        assert "/usr/local/bin/jocker" in text
        paths.append(str(tmp_path / name))
        (tmp_path / name).write_text(
            text.replace("/usr/local/bin/jocker-engine", "/bin/true").replace(
                "/usr/local/bin/jocker", "/bin/true"
            )
        )
    done = subprocess.run(
        ["systemd-analyze", "verify", *paths], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and str(tmp_path) not in done.stderr, done.stderr
