"""ADD of git repositories, from a server of files on the loopback interface."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from jocker_engine.platform.worker.clone import CloneError, Repository, clone, parse_repository


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def git(path: Path, *words: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    return subprocess.run(
        ["git", *who, *words], cwd=path, check=True, capture_output=True, text=True, timeout=60
    ).stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the commits of main from the first."""
    top = tmp_path_factory.mktemp("git")
    source = top / "source"
    (source / "sub").mkdir(parents=True)
    git(source, "init", "-q", "-b", "main")
    for name in ("one", "two"):
        (source / "sub" / name).write_text(name)
        git(source, "add", ".")
        git(source, "commit", "-qm", name)
        git(source, "tag", f"v-{name}")
    (source / "up").symlink_to("../../..")
    git(source, "checkout", "-qb", "side")
    git(source, "add", ".")
    git(source, "commit", "-qm", "side")
    git(source, "checkout", "-q", "main")
    git(top, "clone", "-q", "--bare", "source", "r.git")
    git(top / "r.git", "update-server-info")
    commits = git(source, "log", "--reverse", "--format=%H", "main").split()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(top))) as http:
        thread = Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/r.git", commits
        http.shutdown()
        thread.join()


def test_refs_and_directories(repository: tuple[str, list[str]], tmp_path: Path) -> None:
    url, (first, second) = repository
    wanted = [url, f"{url}#v-one", f"{url}#{first}:sub", f"{url}?branch=side&subdir=sub"]
    found = clone(wanted, str(tmp_path))["commits"]
    assert found[:3] == [second, first, first]
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2", "3"]
    assert sorted(os.listdir(tmp_path / "0")) == ["sub"]
    assert os.listdir(tmp_path / "1" / "sub") == ["one"] and os.listdir(tmp_path / "2") == ["one"]
    assert sorted(os.listdir(tmp_path / "3")) == ["one", "two"]


def test_the_repository_itself_and_check_sums(repository: tuple[str, list[str]], tmp_path: Path) -> None:
    url, (first, second) = repository
    clone([url], str(tmp_path), keep=True, checksum=second[:10])
    assert git(tmp_path / "0", "rev-parse", "HEAD").strip() == second
    with pytest.raises(CloneError, match=f"it is commit {second}, not {first[:10]}"):
        clone([url], str(tmp_path), checksum=first[:10])


@pytest.mark.parametrize(
    ("more", "what"),
    [("#nothing", "git fetch"), (":nothing", "git fetch"), ("#main:nowhere", "no directory nowhere"),
     ("#side:up/etc", "no directory up/etc"), ("#--upload-pack=x", "begins with a dash"), ("?a=b", "unknown option")],
)  # fmt: skip
def test_what_goes_wrong_is_one_line(
    repository: tuple[str, list[str]], tmp_path: Path, more: str, what: str
) -> None:
    with pytest.raises(CloneError, match=what) as caught:
        clone([repository[0] + more], str(tmp_path))
    assert "\n" not in str(caught.value)


def test_nothing_but_the_network(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "r.git")
    with pytest.raises(CloneError, match=r"transport|protocol"):
        clone([f"file://{tmp_path}/r.git"], str(tmp_path))
    assert parse_repository("git@h:a/b.git#v1:d/") == Repository("git@h:a/b.git", "v1", "d")
