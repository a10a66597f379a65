"""`build --reproducible`: the same image at another time, on another machine and on another storage driver."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import need, why_not
from engines import Engine

DOCKERFILE = """\
FROM base AS one
RUN busybox mkdir -p /out/a && echo x > /out/a/b && busybox ln /out/a/b /out/c
FROM base
WORKDIR /app
COPY . /app/
COPY --from=one /out /out
RUN echo hi > /tmp/x && busybox rm /tmp/x && busybox chmod 700 /root && busybox rm /etc/group
RUN busybox rm -r /out/a && busybox mkdir /out/a && echo y > /out/a/d && echo $SOURCE_DATE_EPOCH > /epoch
RUN echo two > /app/file
LABEL a=b
CMD ["cat", "/epoch"]
"""


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    """One on overlay, one on copies."""
    reason = why_not("linux")
    need(not reason, reason)
    first, second = Engine("linux").start(), Engine("linux")
    config = os.path.join(second.root, "config.yaml")
    with open(config, "w", encoding="utf-8") as file:
        file.write("storage: copy\n")
    second.command += ["--config", config]
    second.start()
    first.base()
    path = os.path.join(first.root, "base.tar")
    first.jocker("save", "-o", path, "base")
    second.jocker("load", "-i", path)
    yield first, second
    first.close()
    second.close()


def context(path: Path, name: str) -> Path:
    directory = path / name
    (directory / "sub").mkdir(parents=True)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / ".dockerignore").write_text(".git\n")
    (directory / "file").write_text("one\n")
    (directory / "sub" / "file").write_text("deep\n")
    (directory / "link").symlink_to("file")
    return directory


def commit(directory: Path, date: int) -> None:
    git = ["git", "-C", str(directory), "-c", "user.email=a@b", "-c", "user.name=a"]
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "x")):
        subprocess.run([*git, *words], check=True, env={**os.environ, "GIT_COMMITTER_DATE": f"{date} +0000"})


def test_the_same_everywhere(engines: tuple[Engine, Engine], tmp_path: Path) -> None:
    one, other = context(tmp_path, "one"), context(tmp_path, "other")
    os.utime(other / "file", (5, 5))  # a checkout of another day, older than anything
    build = ("build", "-q", "--reproducible", "--build-arg", "SOURCE_DATE_EPOCH=1600000000", "-t", "same")
    first = engines[0].jocker(*build, str(one)).stdout
    assert engines[1].jocker(*build, str(other)).stdout == first
    assert engines[0].jocker(*build, "--no-cache", str(other)).stdout == first
    assert engines[0].jocker("run", "--rm", "same").stdout == "1600000000\n"
    detail = json.loads(engines[1].jocker("image", "inspect", "same").stdout)[0]
    assert detail["CreatedAt"] == "2020-09-13T12:26:40.000000000Z"
    # Another time, another image; and what has no time of its own is not found in the cache.
    plain = engines[0].jocker("build", "-q", str(one)).stdout
    assert plain != first
    need(shutil.which("git"), "git is not installed")
    commit(one, 1600000000)
    assert engines[0].jocker("build", "-q", "--reproducible", str(one)).stdout == first
    dated = engines[0].jocker("build", "-q", "--reproducible", str(other)).stdout.strip()
    assert engines[0].rpc("image.inspect", image=dated)["created_at"].startswith("1980-01-01")
    wrong = engines[0].jocker(
        "build", "--reproducible", "--build-arg", "SOURCE_DATE_EPOCH=soon", str(one), check=False
    )
    assert wrong.returncode == 1 and "seconds since 1970" in wrong.stderr


@pytest.mark.parametrize(
    ("instruction", "path", "what"),
    [
        ("RUN cat /proc/uptime > /when", "/when", "content"),
        ('RUN busybox touch -d @$(busybox awk "{print int(\\$1*99)}" /proc/uptime) /when', "/when", "mtime"),
        ('RUN > /f && busybox chown $(busybox awk "{print int(\\$1*99)}" /proc/uptime) /f', "/f", "owner"),
    ],
)
def test_what_differs_is_named(
    engines: tuple[Engine, Engine], tmp_path: Path, instruction: str, path: str, what: str
) -> None:
    directory = context(tmp_path, "verified")
    (directory / "Dockerfile").write_text(f"FROM base\nCOPY . /\nRUN echo same\n{instruction}\n")
    failed = engines[0].jocker("build", "--verify", "-t", "never", str(directory), check=False)
    assert failed.returncode == 1
    line = failed.stderr.splitlines()[-1]
    assert (
        line.startswith(f"jocker: not reproducible: {path} differs in its {what}: ") and instruction in line
    )
    assert "never" not in engines[0].jocker("images").stdout


def test_what_is_the_same_twice_is_verified(engines: tuple[Engine, Engine], tmp_path: Path) -> None:
    directory = context(tmp_path, "verified")
    (directory / "Dockerfile").write_text("FROM base\nCOPY . /\nRUN echo same > /same\n")
    engines[0].jocker("build", "-q", "--verify", "-t", "verified", str(directory))
    assert engines[0].jocker("run", "--rm", "verified", "cat", "/same").stdout == "same\n"
