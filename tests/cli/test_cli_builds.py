"""Builds, for real: stages side by side, shared steps, mounts, contexts, and what is left of those that are stopped."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engines import Engine


@pytest.fixture
def build(shared: Engine, tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Build a Dockerfile given as text, in a directory of its own; afterwards nothing may be left."""

    def build(text: str, *args: str, **options: object) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "Dockerfile"
        if not file.exists() or file.read_text() != text:  # its time is part of the context
            file.write_text(text)
        return shared.jocker("build", "--progress", "plain", *args, str(tmp_path), **options)  # type: ignore[arg-type]

    yield build
    for image in images(shared) - {"base:latest"}:
        shared.jocker("rmi", "-f", image)
    shared.jocker("builder", "prune", "-a", "-f")
    assert os.listdir(os.path.join(shared.data, "builds")) == []
    left = shared.jocker("system", "check", check=False).stdout
    assert left.startswith("no differences"), left
    assert shared.jocker("builder", "du", "--format", "json").stdout == ""


def images(engine: Engine) -> set[str]:
    rows = engine.jocker("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").stdout.split("\n")
    return {row.split()[0] if "<none>" not in row else row.split()[1] for row in rows if row}


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return holds()


once = pytest.mark.parametrize("shared", ["linux"], indirect=True)
"""For what no driver has a part in."""

Build = Callable[..., "subprocess.CompletedProcess[str]"]

MEET = """\
FROM base AS one
RUN --mount=type=cache,id=meet,target=/m echo > /m/one; until [ -e /m/two ]; do sleep 0.05; done; echo 1 > /one
FROM base AS two
RUN --mount=type=cache,id=meet,target=/m echo > /m/two; until [ -e /m/one ]; do sleep 0.05; done; echo 2 > /two
FROM base AS unneeded
RUN exit 1
FROM base
COPY --from=one /one /
COPY --from=two /two /
CMD ["cat", "/one", "/two"]
"""


def test_stages_side_by_side_and_only_those_that_are_needed(shared: Engine, build: Build) -> None:
    built = build(MEET, "-t", "meet")
    assert "[one 2/2] RUN" in built.stderr and "unneeded" not in built.stderr
    assert shared.jocker("run", "--rm", "meet").stdout == "1\n2\n"
    again = build(MEET, "-t", "meet")
    assert again.stderr.count("CACHED") == 4
    only = build(MEET, "-t", "meet:one", "--target", "one")
    assert only.stderr.count("CACHED") == 1 and "[two" not in only.stderr
    failed = build(MEET.replace("FROM base\n", "FROM unneeded\n"), check=False)
    assert failed.returncode == 1 and "exit status 1" in failed.stderr


def test_two_builds_do_a_step_once(shared: Engine, build: Build, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM base\nRUN --mount=type=cache,id=once,target=/m echo x >> /m/n; sleep 1; cat /m/n > /n\n"
        'CMD ["cat", "/n"]\n'
    )
    running = [
        shared.popen("build", "-q", str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    ids = {process.communicate(timeout=60)[0] for process in running}
    assert len(ids) == 1 and [process.returncode for process in running] == [0, 0]
    assert shared.jocker("run", "--rm", ids.pop().decode().strip()).stdout == "x\n"


@once
def test_who_waits_takes_over_from_one_that_is_stopped(shared: Engine, build: Build, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM base\nRUN --mount=type=cache,id=over,target=/m "
        'echo x >> /m/n; echo begun; [ "$(cat /m/n)" = x ] && sleep 1000; true\n'
    )
    first = shared.popen("build", "--progress", "plain", str(tmp_path), stderr=subprocess.PIPE)
    assert first.stderr is not None
    while b" begun" not in (line := first.stderr.readline()):
        assert line
    second = shared.popen("build", "-q", str(tmp_path), stdout=subprocess.PIPE)
    assert eventually(lambda: shared.jocker("system", "tree").stdout.count("build/") == 2)
    first.send_signal(signal.SIGINT)
    assert first.wait(20) == 130
    first.stderr.close()
    assert second.communicate(timeout=60)[0].startswith(b"sha256:")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_build_whose_client_ends_is_stopped(
    shared: Engine, build: Build, tmp_path: Path, how: signal.Signals
) -> None:
    mark = f"sleep 7{how:04d}"
    (tmp_path / "Dockerfile").write_text(f"FROM base\nRUN echo kept > /kept\nRUN echo begun; {mark}\n")
    client = shared.popen(
        "build", "--progress", "plain", "-t", "stopped", str(tmp_path), stderr=subprocess.PIPE
    )
    assert client.stderr is not None
    while b" begun" not in (line := client.stderr.readline()):
        assert line
    client.send_signal(how)
    assert client.wait(20) == (-9 if how == signal.SIGKILL else 130)
    client.stderr.close()
    assert eventually(
        lambda: mark not in subprocess.run(["ps", "axww"], capture_output=True, text=True).stdout
    )
    assert eventually(lambda: "build/" not in shared.jocker("system", "tree").stdout)
    assert "stopped" not in " ".join(images(shared))
    assert build("FROM base\nRUN echo kept > /kept\n").stderr.count("CACHED") == 1


MOUNTS = """\
FROM base AS other
RUN echo from-other > /o
FROM base
RUN --mount=type=bind,source=sub,target=/ctx cat /ctx/a; ! sh -c 'echo > /ctx/b' 2>/x || exit 9
RUN --mount=target=/ctx,rw echo new > /ctx/sub/b; ls /ctx/sub
RUN --mount=from=other,source=/o,target=/deep/er/o cat /deep/er/o
RUN --mount=type=cache,target=/c,from=other,source=/,mode=0700 cat /c/o; echo changed > /c/o
RUN --mount=type=cache,target=/c,from=other,source=/,mode=0700 cat /c/o
RUN --mount=type=tmpfs,target=/t,size=64k dd if=/dev/zero of=/t/x bs=1k count=100 || echo full
RUN --mount=type=secret,id=word --mount=type=secret,id=word,env=WORD,target=/w cat /run/secrets/word /w; echo "=$WORD="
RUN --mount=type=secret,id=nothing ls /run/secrets || echo nothing there
"""


def test_run_mounts(shared: Engine, build: Build, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("in-context\n")
    (tmp_path / "word").write_text("xyzzy-plugh")
    (tmp_path / ".dockerignore").write_text("word\n")
    secret = f"id=word,src={tmp_path}/word"
    built = build(MOUNTS, "-t", "mounted", "--secret", secret)
    said = re.findall(r"^#\d+ \d+\.\d{3} (.*)$", built.stderr, re.MULTILINE)
    for expected in ("in-context", "from-other", "changed", "full", "xyzzy-plughxyzzy-plugh=xyzzy-plugh="):
        assert expected in said, (expected, built.stderr)
    assert said.count("from-other") == 2  # the mount, and what a new cache begins with
    assert "nothing there" in said, built.stderr
    assert not (tmp_path / "sub" / "b").exists()
    top = shared.jocker("run", "--rm", "mounted", "ls", "/").stdout.split()
    assert not {"ctx", "deep", "c", "t", "w"} & set(top)
    assert shared.jocker("run", "--rm", "mounted", "ls", "/run").stdout == ""
    assert subprocess.run(["grep", "-rl", "xyzzy-plugh", shared.data], capture_output=True).stdout == b""
    (tmp_path / "word").write_text("another")
    assert build(MOUNTS, "--secret", secret).stderr.count("CACHED") == 9  # a secret is in no key
    (tmp_path / "sub" / "a").write_text("changed\n")
    assert build(MOUNTS, "--secret", secret).stderr.count("CACHED") == 1  # what is mounted is
    missing = build("FROM base\nRUN --mount=type=secret,id=key,required true\n", check=False)
    assert missing.returncode == 1 and "--secret id=key" in missing.stderr.splitlines()[-1]
    ssh = build("FROM base\nRUN --mount=type=ssh,required true\n", check=False)
    assert ssh.returncode == 1 and "--ssh default" in ssh.stderr.splitlines()[-1]


@once
def test_caches_that_are_locked_or_private(shared: Engine, build: Build) -> None:
    text = """\
FROM base AS s1
RUN --mount=type=cache,id=l,sharing=locked,target=/m --mount=type=cache,id=p,sharing=private,target=/p \\
    [ ! -e /m/busy ] && echo > /m/busy && sleep 0.5 && busybox rm /m/busy && [ ! -e /p/x ] && echo > /p/x
FROM base AS s2
RUN --mount=type=cache,id=l,sharing=locked,target=/m true && \\
    [ ! -e /m/busy ] && echo > /m/busy && sleep 0.5 && busybox rm /m/busy
FROM base
COPY --from=s1 /etc/passwd /1
COPY --from=s2 /etc/passwd /2
"""
    assert build(text).returncode == 0
    opposite = "RUN --mount=type=cache,id=%s,sharing=locked,target=/1 --mount=type=cache,id=%s,sharing=locked,target=/2"
    stages = [f"FROM base AS {a}{b}\n{opposite % (a, b)} sleep 0.2\n" for a, b in ("lp", "pl", "ll")]
    copies = [f"COPY --from={name} /etc/passwd /{name}\n" for name in ("lp", "pl", "ll")]
    assert build("".join([*stages, "FROM base\n", *copies])).returncode == 0
    kinds = [
        json.loads(line) for line in shared.jocker("builder", "du", "--format", "json").stdout.splitlines()
    ]
    assert sorted(kind["Description"] for kind in kinds if kind["Type"] == "exec.cachemount") == [
        "mount l",
        "mount p",
    ]


@once
def test_an_ssh_agent_is_relayed(shared: Engine, build: Build, tmp_path: Path) -> None:
    if not (shutil.which("ssh-agent") and shutil.which("ssh-add")):
        pytest.skip("openssh-client is not installed")
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(tmp_path / "agent")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually((tmp_path / "agent").exists)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "agent")}
        subprocess.run(
            ["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", str(tmp_path / "key")], check=True
        )
        subprocess.run(["ssh-add", "-q", str(tmp_path / "key")], env=environment, check=True)
        shared.jocker("image", "create", "-t", "withssh", "--from-host", "sh", "ssh-add", "ls")
        text = "FROM withssh\nRUN --mount=type=ssh ssh-add -l; ls -l $SSH_AUTH_SOCK; ssh-add -l\n"
        built = build(text, "--no-cache", "--ssh", f"default={tmp_path}/agent")
        assert built.stderr.count("(ED25519)") == 2, built.stderr
        assert "/run/buildkit/ssh_agent.0" in built.stderr
    finally:
        agent.terminate()
        agent.wait()


def sent(done: subprocess.CompletedProcess[str]) -> str:
    return next(line for line in done.stderr.splitlines() if "transferring context: " in line).partition(
        ": "
    )[2]


@once
def test_only_what_changed_of_a_context_is_sent(shared: Engine, build: Build, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"f{number}").write_bytes(os.urandom(10_000))
    text = "FROM base\nCOPY . /c/\n"
    first = build(text, "-t", "c")
    assert sent(first).endswith(" in 21 files")
    again = build(text, "-t", "c")
    assert sent(again) == "0B, nothing has changed" and "CACHED" in again.stderr
    os.utime(tmp_path / "f1", (1, 1))
    touched = build(text, "-t", "c")
    assert sent(touched).endswith(" in 0 files") and "CACHED" in touched.stderr
    (tmp_path / "f1").write_text("changed")
    (tmp_path / "f2").unlink()
    (tmp_path / "new").symlink_to("f1")
    changed = build(text, "-t", "c")
    assert sent(changed).endswith(" in 1 file") and "CACHED" not in changed.stderr
    assert shared.jocker("run", "--rm", "c", "cat", "/c/f1", "/c/new").stdout == "changedchanged"
    assert "f2" not in shared.jocker("run", "--rm", "c", "ls", "/c").stdout.split()
    (tmp_path / "f3").chmod(0o755)
    assert "CACHED" not in build(text, "-t", "c").stderr
    shared.jocker("builder", "prune", "-f")
    assert sent(build(text, "-t", "c")).endswith(" in 20 files")


@once
def test_contexts_from_elsewhere(shared: Engine, build: Build, tmp_path: Path) -> None:
    where, more = tmp_path / "where", tmp_path / "more"
    for directory, content in ((where, "here"), (more, "there")):
        directory.mkdir()
        (directory / "f").write_text(content)
    text = "FROM base\nCOPY f /f\nCOPY --from=more f /g\nCOPY --from=img /etc/passwd /p\nCMD cat /f /g\n"
    named = ("--build-context", f"more={more}", "--build-context", "img=docker-image://base")
    shared.jocker("build", "-q", "-t", "e", "-f", "-", *named, str(where), input=text)
    assert shared.jocker("run", "--rm", "e").stdout == "herethere"
    (tmp_path / "Other").write_text(text)
    shared.jocker("build", "-q", "-t", "e", "-f", str(tmp_path / "Other"), *named, str(where))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in (("D", "FROM base\nCOPY f /f\nCMD cat /f\n"), ("f", "packed")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    subprocess.run(
        [shared.jocker_path, "build", "-q", "-t", "e", "-f", "D", "-"],
        input=packed.getvalue(), env=shared.env, check=True, capture_output=True,
    )  # fmt: skip
    assert shared.jocker("run", "--rm", "e").stdout == "packed"
    root = tmp_path / "root"
    shared.jocker("create", "--name", "root", "base")
    shared.jocker("export", "-o", str(tmp_path / "root.tar"), "root")
    shared.jocker("rm", "root")
    root.mkdir()
    subprocess.run(["tar", "-C", str(root), "-xf", str(tmp_path / "root.tar")], check=True)
    (root / "mine").write_text("mine")
    from_it = "FROM Rootfs AS one\nRUN echo >> /mine\nFROM one\nCMD cat /mine\n"
    for cached in ("0", "1"):
        built = build(from_it, "-t", "e", "--build-context", f"rootfs={root}")
        assert str(built.stderr.count("CACHED") // 2) == cached, built.stderr
        assert shared.jocker("run", "--rm", "e").stdout == "mine\n"
    (root / "mine").write_text("other")
    build(from_it, "-t", "e", "--build-context", f"rootfs={root}")
    assert shared.jocker("run", "--rm", "e").stdout == "other\n"
    alone = shared.jocker("build", "-q", "-", input="FROM base\nCOPY f /f\n", check=False)
    assert alone.returncode == 1 and "Dockerfile:2:1: this build has no context" in alone.stderr
    assert shared.jocker("build", "-q", "-t", "e", "-", input="FROM base\nRUN true\n").stdout.startswith(
        "sha256:"
    )


@once
def test_from_any_step_of_an_image(shared: Engine, build: Build) -> None:
    build("FROM base\nRUN echo 1 > /n\nRUN echo 2 > /n\n", "-t", "steps")
    history = shared.rpc("image.inspect", image="steps")["history"]
    first = next(entry["layer"] for entry in history if "echo 1" in entry["created_by"])
    build(f"FROM steps@{first[:12]}\nRUN cat /n > /seen\n", "-t", "on")
    assert shared.jocker("run", "--rm", "on", "cat", "/n", "/seen").stdout == "1\n1\n"
    wrong = build("FROM steps@0000\nRUN true\n", check=False)
    assert wrong.returncode == 1 and "has no step 0000" in wrong.stderr and first[:12] in wrong.stderr


@once
def test_what_the_cache_knows(shared: Engine, build: Build, tmp_path: Path) -> None:
    text = "FROM base AS b\nARG A\nARG UNUSED\nRUN echo $A > /a\nFROM base\nCOPY --from=b /a /a\nRUN true\n"
    build(text, "--build-arg", "A=1")
    same = build(text.replace("echo $A", 'echo "$A"') + "ENV x=y\n", "--build-arg", "A=1")
    assert (
        same.stderr.count("CACHED") == 2
    )  # another RUN in b made the same file: what copies it is as before
    assert build(text, "--build-arg", "A=2").stderr.count("CACHED") == 0
    assert build(text, "--build-arg", "A=1", "--no-cache").stderr.count("CACHED") == 0
    only = build(text, "--build-arg", "A=1", "--no-cache-filter", "b")
    assert only.stderr.count("CACHED") == 2


@once
def test_du_and_prune(shared: Engine, build: Build) -> None:
    build("FROM base\nRUN --mount=type=cache,target=/c echo > /c/x; echo 1 > /1\n", "-t", "kept")
    build("FROM base\nRUN echo 2 > /2\n", "-q")
    shared.jocker("rmi", "-f", *(images(shared) - {"base:latest", "kept:latest"}))
    build("FROM base\nRUN echo 3 > /3\nRUN exit 1\n", check=False)
    table = shared.jocker("builder", "du").stdout
    assert table.startswith("ID") and "Total:" in table
    assert "Last used:" in shared.jocker("builder", "du", "--verbose").stdout
    assert "Total:\t0B" in shared.jocker("builder", "prune", "-f", "--filter", "until=24h").stdout
    assert "Total:\t0B" in shared.jocker("builder", "prune", "-f", "--keep-storage", "10GB").stdout
    asked = shared.jocker("builder", "prune", input="n\n")
    assert "WARNING!" in asked.stderr
    pruned = shared.jocker("builder", "prune", "-f").stdout
    assert "Total:" in pruned and len(pruned.splitlines()) >= 4
    assert (
        build("FROM base\nRUN --mount=type=cache,target=/c echo > /c/x; echo 1 > /1\n").stderr.count("CACHED")
        == 1
    )
    shared.jocker("builder", "prune", "-a", "-f")
    again = build("FROM base\nRUN --mount=type=cache,target=/c echo > /c/x; echo 1 > /1\n", "-t", "kept")
    assert "CACHED" not in again.stderr


@once
def test_ways_to_show_progress(shared: Engine, build: Build, tmp_path: Path) -> None:
    text = "FROM base AS a\nRUN echo said\nFROM base\nCOPY --from=a /etc/passwd /x\n"
    plain = build(text).stderr
    number = re.search(r"^#(\d+) \[a 2/2\] RUN echo said$", plain, re.MULTILINE)
    assert number is not None, plain
    assert re.search(rf"^#{number[1]} \d+\.\d{{3}} said$", plain, re.MULTILINE), plain
    assert re.search(rf"^#{number[1]} DONE \d+\.\ds$", plain, re.MULTILINE), plain
    raw = shared.jocker("build", "--progress", "rawjson", "--no-cache", str(tmp_path)).stdout
    events = [json.loads(line)["event"] for line in raw.splitlines()]
    assert events[0] == "context" and events[-1] == "result" and "output" in events
    quiet = shared.jocker("build", "-q", str(tmp_path))
    assert quiet.stdout.startswith("sha256:") and quiet.stdout.count("\n") == 1 and not quiet.stderr
    seen = on_a_terminal(shared, "build", "--no-cache", str(tmp_path))
    assert "\x1b[?25l" in seen and seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    assert " => [a 2/2] RUN echo said" in seen and "FINISHED" in seen


def test_a_shell_where_a_build_failed(shared: Engine, build: Build, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM base\nRUN echo kept > /kept\nENV A=b\nWORKDIR /w\nUSER 7\nRUN exit 3\nRUN echo never\n"
    )
    seen = on_a_terminal(
        shared, "build", "--debug", str(tmp_path), typed="echo $A $PWD `id -u` `cat /kept`; exit\n"
    )
    assert "exit status 3" in seen and "b /w 7 kept" in seen
    refused = build("FROM base\n", "--debug", check=False)
    assert refused.returncode == 1 and "needs a terminal" in refused.stderr


@once
def test_jail_parameters_need_jails(shared: Engine, build: Build) -> None:
    refused = build("FROM base\nRUN true\n", "-J", "allow.mount", check=False)
    assert refused.returncode == 1 and "makes no jails" in refused.stderr


def on_a_terminal(engine: Engine, *args: str, typed: str = "") -> str:
    """What a terminal shows of the command; `typed` when a prompt is there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [engine.jocker_path, *args],
        env={**engine.env, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 1 << 16)
        except OSError:
            break
        if not data:
            break
        seen += data
        if typed and (b"$ " in seen[-200:] or b"# " in seen[-200:]) and b"a shell before" in seen:
            os.write(ours, typed.encode())
            typed = ""
    process.wait(60)
    os.close(ours)
    return seen.decode(errors="replace")
