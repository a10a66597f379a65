"""Worker operation: what ADD gets from git repositories. Blocking; standard library, and the program git.

Nothing of the machine's or a user's git configuration counts, no hook runs, and nobody is asked for a password.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import urllib.parse
from typing import NamedTuple

from ..rootfs import resolve

MAX_SECONDS = 1800.0
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CONFIG = (
    "protocol.file.allow=never",
    "core.hooksPath=/dev/null",
    "advice.detachedHead=false",
    "core.fsmonitor=false",
)


class CloneError(Exception):
    """It cannot be had; one line for the user."""


class Repository(NamedTuple):
    """REMOTE[#REF[:SUBDIRECTORY]], or with ?ref=, branch=, tag= and subdir=."""

    remote: str
    ref: str
    directory: str


def parse_repository(text: str) -> Repository:
    """Raises CloneError."""
    remote, _, fragment = text.partition("#")
    ref, _, directory = fragment.partition(":")
    remote, _, query = remote.partition("?")
    for key, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if key in ("ref", "branch", "tag"):
            ref = {"branch": "refs/heads/", "tag": "refs/tags/"}.get(key, "") + value
        elif key == "subdir":
            directory = value
        else:
            raise CloneError(f"{text}: unknown option {key}; there are ref, branch, tag and subdir")
    if ref.startswith("-") or remote.startswith("-"):
        raise CloneError(f"{text}: neither an address nor a ref begins with a dash")
    return Repository(remote, ref or "HEAD", directory.strip("/"))


def clone(
    repositories: list[str], target: str, keep: bool = False, checksum: str = ""
) -> dict[str, list[str]]:
    """Check repositories out, as `target`/0, 1 ...: without their .git, unless `keep`.

    `checksum` is what the commit of the only one begins with. Returns {"commits": [...]}. Raises CloneError, OSError.
    """
    os.umask(0o022)
    commits = []
    for index, text in enumerate(repositories):
        work = os.path.join(target, f".{index}")
        os.mkdir(work)
        commit = _check_out(text, parse_repository(text), work)
        if checksum and not commit.startswith(checksum):
            raise CloneError(f"{text}: it is commit {commit}, not {checksum}")
        if not keep:
            shutil.rmtree(os.path.join(work, ".git"))
        directory = parse_repository(text).directory
        wanted = resolve(work, directory)
        if not os.path.isdir(wanted):
            raise CloneError(f"{text}: there is no directory {directory}")
        os.rename(wanted, os.path.join(target, str(index)))
        shutil.rmtree(work, ignore_errors=True)
        commits.append(commit)
    return {"commits": commits}


def _check_out(text: str, repository: Repository, work: str) -> str:
    _git(text, work, "init", "-q")
    _git(text, work, "remote", "add", "origin", "--", repository.remote)
    try:
        _git(text, work, "fetch", "-q", "--depth=1", "origin", repository.ref)
        wanted = "FETCH_HEAD"
    except CloneError:  # a server of files alone, or a commit that it does not give by name
        _git(text, work, "fetch", "-q", "--tags", "--force", "origin", "+refs/heads/*:refs/remotes/origin/*")
        wanted = repository.ref
        if wanted == "HEAD" or not _COMMIT.fullmatch(wanted):
            _git(text, work, "fetch", "-q", "origin", wanted)
            wanted = "FETCH_HEAD"
    _git(text, work, "checkout", "-q", "--force", wanted)
    if os.path.exists(os.path.join(work, ".gitmodules")):
        _git(text, work, "submodule", "update", "-q", "--init", "--recursive")
    return _git(text, work, "rev-parse", "HEAD").strip()


def _git(text: str, work: str, *words: str) -> str:
    if not shutil.which("git"):
        raise CloneError("ADD of a repository needs the program git on the engine's host: install it")
    config = [part for setting in _CONFIG for part in ("-c", setting)]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            ["git", *config, *words],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=MAX_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise CloneError(f"{text}: git {words[0]} takes too long") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [
            f"exit status {done.returncode}"
        ]
        raise CloneError(f"{text}: git {words[0]}: {said[-1].strip()}")
    return done.stdout
