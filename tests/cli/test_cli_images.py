"""The command, for real: images and builds."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from engines import Engine

DOCKERFILE = """\
FROM base AS first
ARG WHO=world
ENV GREETING="hello $WHO"
WORKDIR /app
COPY --chown=7:8 f.txt sub/ ./
RUN echo "$GREETING" > g.txt
FROM base
COPY --from=first /app /app
LABEL a=b
EXPOSE 80
VOLUME /data
USER 7
ENTRYPOINT ["cat"]
CMD ["/app/g.txt"]
"""


def context(path: Path, dockerfile: str = DOCKERFILE) -> str:
    (path / "sub").mkdir()
    (path / "sub" / "deep.txt").write_text("deep\n")
    (path / "f.txt").write_text("file\n")
    (path / "Dockerfile").write_text(dockerfile)
    return str(path)


def test_a_build_and_its_cache(shared: Engine, tmp_path: Path) -> None:
    where = context(tmp_path)
    first = shared.jocker("build", "-q", "-t", "built:1", where).stdout
    again = shared.jocker("build", "-t", "built:1", where)
    assert again.stderr.count("CACHED") == 4
    assert shared.jocker("build", "-q", "-t", "built:1", where).stdout == first
    assert shared.jocker("run", "--rm", "built:1").stdout == "hello world\n"
    assert shared.jocker("run", "--rm", "built:1", "/app/deep.txt", "/app/f.txt").stdout == "deep\nfile\n"
    other = shared.jocker("build", "-t", "built:2", "--build-arg", "WHO=you", where)
    assert "CACHED" in other.stderr
    assert shared.jocker("run", "--rm", "built:2").stdout == "hello you\n"
    (tmp_path / "f.txt").write_text("changed\n")
    shared.jocker("build", "-t", "built:1", where)
    assert shared.jocker("run", "--rm", "built:1", "/app/f.txt").stdout == "changed\n"
    config = json.loads(shared.jocker("image", "inspect", "built:1").stdout)[0]["Config"]
    assert (
        config["Labels"] == {"a": "b"} and config["ExposedPorts"] == {"80/tcp": {}} and config["User"] == "7"
    )
    shared.jocker("rmi", "built:1", "built:2")
    for image in shared.jocker("images", "-q", "--filter", "dangling=true").stdout.split():
        shared.jocker("rmi", image)


def test_a_failed_build_says_where_and_how_to_look(shared: Engine, tmp_path: Path) -> None:
    where = context(tmp_path, "FROM base\nRUN echo kept > /kept\nRUN echo out; exit 3\n")
    failed = shared.jocker("build", "-t", "bad", where, check=False)
    assert failed.returncode == 1
    line = failed.stderr.splitlines()[-1]
    assert "Dockerfile:3" in line and "exit status 3" in line and "jocker run --rm -it " in line
    assert line.endswith("jocker run --rm -it bad:failed sh")
    assert shared.jocker("run", "--rm", "bad:failed", "cat", "/kept").stdout == "kept\n"
    assert tagged(shared, "bad") == ["bad:failed"]
    (tmp_path / "Dockerfile").write_text("FROM base\nRUN echo again > /kept\nRUN exit 3\n")
    shared.jocker("build", "-t", "bad", where, check=False)
    assert shared.jocker("run", "--rm", "bad:failed", "cat", "/kept").stdout == "again\n"
    assert not shared.jocker("images", "-q", "--filter", "dangling=true").stdout
    (tmp_path / "Dockerfile").write_text("FROM base\nRUN echo again > /kept\n")
    shared.jocker("build", "-t", "bad", where)
    assert tagged(shared, "bad") == ["bad:latest"]
    shared.jocker("rmi", "bad")
    unnamed = context_of(tmp_path, "unnamed", "FROM base\nRUN true\nRUN exit 3\n")
    failed = shared.jocker("build", unnamed, check=False)
    layer = failed.stderr.splitlines()[-1].rpartition("jocker run --rm -it ")[2].split()[0]
    assert shared.jocker("run", "--rm", layer, "true").returncode == 0
    for image in shared.jocker("images", "-q", "--filter", "dangling=true").stdout.split():
        shared.jocker("rmi", image)


def tagged(engine: Engine, name: str) -> list[str]:
    listed = engine.jocker("images", "--format", "{{.Repository}}:{{.Tag}}", name).stdout
    return sorted(listed.split())


def context_of(path: Path, name: str, dockerfile: str) -> str:
    (path / name).mkdir()
    (path / name / "Dockerfile").write_text(dockerfile)
    return str(path / name)


def test_what_is_wrong_with_a_dockerfile_is_one_place(shared: Engine, tmp_path: Path) -> None:
    where = context(tmp_path, "FROM base\nRNU x\n")
    wrong = shared.jocker("build", where, check=False)
    assert wrong.returncode == 1 and "Dockerfile:2:1" in wrong.stderr and "did you mean RUN" in wrong.stderr
    (tmp_path / "Dockerfile").write_text("FROM base\nCOPY missing /\n")
    wrong = shared.jocker("build", where, check=False)
    assert wrong.returncode == 1 and "Dockerfile:2" in wrong.stderr and "missing" in wrong.stderr
    (tmp_path / "Dockerfile").write_text("FROM nowhere\n")
    assert "no such image: nowhere" in shared.jocker("build", where, check=False).stderr
    assert "no such Dockerfile" in shared.jocker("build", "-f", "x", where, check=False).stderr
    assert "no such directory" in shared.jocker("build", "/nowhere", check=False).stderr


def test_the_ignore_file_is_obeyed(shared: Engine, tmp_path: Path) -> None:
    where = context(tmp_path, "FROM base\nCOPY . /c/\nCMD ls /c\n")
    (tmp_path / ".dockerignore").write_text("sub\nDockerfile\n.dockerignore\n")
    shared.jocker("build", "-t", "ignoring", where)
    assert shared.jocker("run", "--rm", "ignoring").stdout == "f.txt\n"
    shared.jocker("rmi", "ignoring")


def test_base_images_from_a_tar_and_a_directory(shared: Engine, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "motd").write_text("hi\n")
    (root / "bin").mkdir()
    subprocess.run(["cp", "/bin/busybox", str(root / "bin" / "cat")], check=True)
    subprocess.run(["tar", "-czf", str(tmp_path / "root.tar.gz"), "-C", str(root), "."], check=True)
    for name, source in (
        ("tarred", ("--from-tar", str(tmp_path / "root.tar.gz"))),
        ("copied", ("--from-dir", str(root))),
    ):
        shared.jocker("image", "create", "-t", name, *source)
        assert shared.jocker("run", "--rm", name, "/bin/cat", "/etc/motd").stdout == "hi\n"
        shared.jocker("rmi", name)
    (tmp_path / "no.tar").write_text("this is no tar")
    refused = shared.jocker(
        "image", "create", "-t", "no", "--from-tar", str(tmp_path / "no.tar"), check=False
    )
    assert refused.returncode == 1 and "not a tar" in refused.stderr


def test_tags(shared: Engine) -> None:
    shared.jocker("tag", "base", "other:1.0")
    assert "other" in shared.jocker("images").stdout
    assert shared.jocker("rmi", "other:1.0").stdout == "Untagged: other:1.0\n"
    shared.jocker("create", "--name", "user", "base")
    used = shared.jocker("rmi", "base", check=False)
    assert used.returncode == 1 and "user" in used.stderr
    shared.jocker("rm", "user")
    assert shared.jocker("tag", "base", "Not/Good", check=False).returncode == 1


def test_from_scratch(shared: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        'FROM scratch\nCOPY busybox /bin/sh\nCMD ["/bin/sh", "-c", "echo small"]\n'
    )
    subprocess.run(["cp", "/bin/busybox", str(tmp_path / "busybox")], check=True)
    shared.jocker("build", "-t", "small", str(tmp_path))
    assert shared.jocker("run", "--rm", "small").stdout == "small\n"
    shared.jocker("rmi", "small")


def test_the_nginx_example(shared: Engine) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed on this host")
    if shared.platform != "linux":
        pytest.skip("the README has it with a runtime that isolates")
    where = Path(__file__).parents[2] / "examples" / "nginx"
    shared.jocker("image", "create", "-t", "nginx-base", "from-host", "nginx", "sh", "mkdir")
    shared.jocker("build", "-t", "web", "-f", str(where / "Dockerfile.linux"), str(where))
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8080)) == 0:
            pytest.skip("port 8080 of this host is in use")
    shared.jocker("run", "-d", "--name", "web", "--network", "host", "web")
    for _ in range(100):
        try:
            page = urllib.request.urlopen("http://127.0.0.1:8080/", timeout=5).read().decode()
            break
        except OSError:
            time.sleep(0.1)
    assert "Hello from nginx" in page
    shared.jocker("stop", "web")
    assert '"GET / HTTP/1.1" 200' in shared.jocker("logs", "web").stdout
    assert shared.jocker("inspect", "-f", "{{.State.ExitCode}}", "web").stdout == "0\n"
    shared.jocker("rm", "web")
    shared.jocker("rmi", "web", "nginx-base")
