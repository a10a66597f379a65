"""The command beside a real docker: each takes what the other wrote, and says the same of it."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.dockerd import daemon
from conftest import need
from engines import Engine, processes_of

DOCKERFILE = """\
FROM base
RUN echo hi > /hello && busybox ln /hello /same && busybox mkdir /d && busybox ln -s /hello /d/link
RUN busybox rm -r /var && busybox rm /same && echo y > /d/y && busybox mkfifo /fifo && busybox chmod 4751 /hello
RUN busybox rm -r /d && busybox mkdir /d && echo z > /d/z && busybox chown 5:6 /d/z
LABEL a=b "c d"=e
ENV A=b
EXPOSE 80 53/udp
VOLUME /data
USER 0
WORKDIR /
STOPSIGNAL SIGINT
HEALTHCHECK --interval=3s --retries=2 CMD true
ONBUILD RUN true
SHELL ["/bin/sh", "-ec"]
ENTRYPOINT ["sh", "-c"]
CMD ["cat /hello /d/*; ls -d /var /same 2>/dev/null || echo gone"]
"""
pytestmark = pytest.mark.parametrize("shared", ["linux"], indirect=True)
SAID = "hi\nz\ngone\n"
FIELDS = (
    *("Env", "Cmd", "Entrypoint", "Labels", "ExposedPorts", "Volumes", "WorkingDir", "User", "Shell"),
    *("Healthcheck", "StopSignal", "OnBuild"),
)


class Docker:
    """The command against a daemon of its own."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def __call__(self, *words: str, **options: Any) -> str:
        done = subprocess.run([*self._command, *words], capture_output=True, timeout=60, **options)
        assert done.returncode == 0, (words, done)
        return done.stdout.decode()

    def bytes(self, *words: str) -> bytes:
        return subprocess.run([*self._command, *words], stdout=subprocess.PIPE, timeout=60, check=True).stdout

    def inspect(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("image", "inspect", image))[0]
        return found


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    """Of this module; nothing is left of it."""
    need(shutil.which("dockerd") and shutil.which("docker"), "docker.io is not installed")
    need(os.geteuid() == 0, "a docker daemon needs root")
    directory = tempfile.mkdtemp(prefix="jkd-", dir="/tmp")
    with daemon(directory) as command:
        if not command:
            pytest.skip("a docker daemon does not run here")
        yield Docker(command)
    assert not processes_of(directory)
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        assert directory not in mounts.read()
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def app(shared: Engine, docker: Docker) -> Iterator[str]:
    """The id of the image app:1, there and as app:2 in docker too."""
    made = shared.jocker("build", "-q", "-t", "app:1", "-", input=DOCKERFILE).stdout.strip()
    shared.jocker("tag", "app:1", "app:2")
    docker("load", input=save(shared, "app", "base"))
    yield made
    shared.jocker("rmi", "-f", "app:1", "app:2")
    docker("rmi", "-f", "app:1", "app:2", "base")


def save(engine: Engine, *words: str) -> bytes:
    return subprocess.run(
        [engine.jocker_path, "save", *words], env=engine.env, capture_output=True, check=True
    ).stdout


def config(engine: Engine, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.jocker("image", "inspect", image).stdout)[0]["Config"]
    return found


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Of two configurations; what is empty is not there."""
    pairs = {field: (ours.get(field), theirs.get(field)) for field in FIELDS}
    return {field: pair for field, pair in pairs.items() if pair[0] != pair[1] and any(pair)}


def test_docker_takes_what_save_writes(shared: Engine, docker: Docker, app: str, tmp_path: Path) -> None:
    base = json.loads(shared.jocker("image", "inspect", "base").stdout)[0]["Id"]
    for image, identity in (("app:1", app), ("app:2", app), ("base", base)):
        assert docker.inspect(image)["Id"] == identity
    assert docker("run", "--rm", "--network", "none", "app:1") == SAID
    assert differing(config(shared, "app:1"), docker.inspect("app:1")["Config"]) == {}
    assert config(shared, "app:1")["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    template = (
        "--format",
        '{{json .Config.Volumes}} {{json .Config.ExposedPorts}} {{index .Config.Labels "a"}}',
    )
    ours = shared.jocker("image", "inspect", *template, "app:1").stdout
    assert ours.replace(" ", "") == docker("image", "inspect", *template, "app:1").replace(" ", "")
    for form in ((), ("--format", "docker-archive"), ("--compress", "gzip")):
        docker("rmi", "app:1", "app:2")
        said = docker("load", input=save(shared, *form, "app"))
        assert {"Loaded image: app:1", "Loaded image: app:2"} <= set(said.splitlines())
        assert docker.inspect("app:2")["Id"] == app
    path = tmp_path / "app.tar.gz"
    path.write_bytes(gzip.compress(save(shared, "app:1"), 1))
    docker("rmi", "app:1")
    assert docker("load", "-i", str(path)) == "Loaded image: app:1\n"
    assert docker.inspect("app:1")["Id"] == app


def test_load_takes_what_docker_writes(shared: Engine, docker: Docker, app: str) -> None:
    script = (
        "echo new > /new; busybox rm -r /d; busybox mkdir /d; busybox ln -s /new /d/n; busybox chown 7 /hello"
    )
    docker("run", "--name", "maker", "--network", "none", "app:1", script)
    changes = ("--change", 'ENTRYPOINT ["cat"]', "--change", "CMD /d/n", "--change", 'ENV B="c d"')
    made = docker("commit", "-m", "said", "-a", "me", *changes, "maker", "made:1").strip()
    docker("rm", "-v", "maker")
    archive = docker.bytes("save", "made:1", "app:1", "app:2")
    shared.jocker("rmi", "app:1", "app:2")
    for data in (archive, gzip.compress(archive, 1)):
        said = subprocess.run(
            [shared.jocker_path, "load"], env=shared.env, input=data, capture_output=True, check=True
        )
        lines = said.stdout.decode().splitlines()
        assert sorted(lines) == ["Loaded image: app:1", "Loaded image: app:2", "Loaded image: made:1"]
        for image, identity in (("app:1", app), ("app:2", app), ("made:1", made)):
            assert json.loads(shared.jocker("image", "inspect", image).stdout)[0]["Id"] == identity
        assert shared.jocker("run", "--rm", "app:1").stdout == SAID
        assert shared.jocker("run", "--rm", "--entrypoint", "cat", "made:1", "/d/n").stdout == "new\n"
        assert differing(config(shared, "made:1"), docker.inspect("made:1")["Config"]) == {}
        shared.jocker("rmi", "made:1")
    docker("rmi", "made:1")


def tree(archive: bytes) -> dict[str, tuple[Any, ...]]:
    """What a root file system holds, without what a runtime puts there."""
    found: dict[str, tuple[Any, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            name = os.path.normpath(member.name)
            if name in (".", ".dockerenv", "dev", "etc") or name.startswith(("dev/", "etc/", "data")):
                continue
            if member.islnk():
                found[name] = found[os.path.normpath(member.linkname)]
                continue
            content = tar.extractfile(member) if member.isfile() else None
            found[name] = (
                *(member.type, member.mode & 0o7777, member.uid, member.gid, member.linkname),
                hash(content.read()) if content else 0,
            )
    return found


def test_root_file_systems_go_both_ways(shared: Engine, docker: Docker, app: str, tmp_path: Path) -> None:
    docker("create", "--name", "theirs", "--network", "none", "app:1")
    shared.jocker("create", "--name", "ours", "app:1")
    theirs = docker.bytes("export", "theirs")
    path = str(tmp_path / "ours.tar")
    shared.jocker("export", "-o", path, "ours")
    ours = Path(path).read_bytes()
    assert tree(ours) == tree(theirs)
    change = ("-c", 'CMD ["cat", "/d/z"]')
    docker("import", *change, path, "from-ours")
    assert docker("run", "--rm", "--network", "none", "from-ours") == "z\n"
    Path(path).write_bytes(theirs)
    shared.jocker("import", *change, path, "from-theirs")
    assert shared.jocker("run", "--rm", "from-theirs").stdout == "z\n"
    shared.jocker("rm", "-v", "ours")
    shared.jocker("rmi", "from-theirs")
    docker("rm", "-v", "theirs")
    docker("rmi", "from-ours")
