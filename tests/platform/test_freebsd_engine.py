"""The engine and its command on the platform of this machine, from a base image to the end: on a FreeBSD with jails, ZFS and pf."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sweep

from conftest import need, why_not
from engines import FREEBSD, Engine

PLATFORM = "freebsd" if FREEBSD else "linux"
DOCKERFILE = """\
FROM base
ENV WHO=me
RUN echo built > /built
COPY greeting /greeting
VOLUME /data
CMD ["sh", "-c", "cat /greeting /built; echo up; exec sleep 1000"]
"""


@pytest.fixture
def engine(request: pytest.FixtureRequest, where: str) -> Iterator[Engine]:
    need(os.geteuid() == 0 and not why_not(PLATFORM), why_not(PLATFORM) or "it needs root")
    made = Engine(PLATFORM, where)
    if FREEBSD:
        dataset = f"{request.getfixturevalue('pool')}/engine"
        os.system(f"zfs create -o mountpoint=none {dataset}")
        made.configure(zroot=dataset)
    made.start()
    yield made
    made.close()
    assert sweep.leftovers(made.root) == [] if FREEBSD else True


def until(engine: Engine, name: str, text: str) -> None:
    for _ in range(600):
        if text in engine.jocker("logs", name).stdout:
            return
        time.sleep(0.05)
    raise AssertionError(engine.jocker("logs", name))


def test_from_a_base_image_to_the_end(engine: Engine, tmp_path: Path) -> None:
    engine.base()
    (tmp_path / "greeting").write_text("hello\n")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    engine.jocker("build", "-t", "web", str(tmp_path))
    network = () if FREEBSD else ("--network", "none")
    engine.jocker("run", "-d", "--name", "one", *network, "web")
    until(engine, "one", "up")
    assert engine.jocker("logs", "one").stdout == "hello\nbuilt\nup\n"
    assert engine.jocker("exec", "one", "sh", "-c", "echo $WHO; exit 3", check=False).returncode == 3
    assert engine.jocker("exec", "one", "nothing", check=False).returncode == 127
    assert engine.jocker("exec", "one", "/greeting", check=False).returncode == 126
    engine.jocker("exec", "one", "sh", "-c", "echo kept > /data/file; echo changed > /changed")
    assert re.search(r"^A /changed$", engine.jocker("diff", "one").stdout, re.MULTILINE)
    engine.kill()  # -9
    engine.start()
    assert "one" in engine.jocker("ps").stdout
    assert engine.jocker("exec", "one", "cat", "/data/file").stdout == "kept\n"
    assert engine.jocker("system", "check", check=False).stdout.count("\n") >= 0
    engine.jocker("stop", "-t", "1", "one")
    assert engine.jocker("start", "one").returncode == 0
    until(engine, "one", "up")
    assert engine.jocker("run", "--rm", *network, "web", "sh", "-c", "exit 7", check=False).returncode == 7
    engine.jocker("rm", "-f", "-v", "one")


@pytest.mark.skipif(not FREEBSD, reason="jail parameters are for jails")
def test_jail_parameters(engine: Engine) -> None:
    engine.base()
    refused = engine.jocker("run", "-J", "allow.raw_socket", "base", "true", check=False)
    assert refused.returncode == 125 and "did you mean allow.raw_sockets" in refused.stderr
    assert engine.jocker("run", "--rm", "-J", "allow.raw_sockets", "base", "true").returncode == 0


@pytest.mark.skipif(FREEBSD, reason="for other systems")
def test_jail_parameters_elsewhere(engine: Engine) -> None:
    engine.base()
    refused = engine.jocker("run", "-J", "allow.raw_sockets", "base", "true", check=False)
    assert refused.returncode == 125
    assert "runtime oci makes no jails; leave --jail-param out" in refused.stderr
