"""The command, for real: what the Dockerfile reference knows, the linter, and contexts that mean harm."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from engines import BIN, Engine

DOCKERFILE = """\
# syntax=docker/dockerfile:1
# escape=`
ARG NAME=world
FROM base AS parent
ARG NAME
ENV GREETING="hello ${NAME:-nobody}" EMPTY=${NOTHING:-} `
    # a comment in between
    TAIL=${NAME%ld}
ONBUILD COPY f.txt /triggered/
ONBUILD RUN <<END
echo "trigger of $NAME" > /triggered/by
END

FROM parent AS child
WORKDIR /work
WORKDIR below
SHELL ["/bin/sh", "-e", "-c"]
RUN <<ONE
echo "$GREETING, $TAIL" > greeting
false | true
ONE
RUN <<-'SCRIPT'
	#!/bin/sh
	echo "$0 by itself" > script
	SCRIPT
RUN cat <<A > both && cat <<'B' >> both
of $NAME
A
of $NAME
B
COPY <<doc f.txt /docs/
$GREETING "quoted" \\$NAME
doc
ADD --chown=7:8 --chmod=u=rwX,go=rX plain.tar http://127.0.0.1:PORT/got.txt /added/
ADD --checksum=sha256:SUM --unpack=true http://127.0.0.1:PORT/plain.tar /unpacked/
ADD http://127.0.0.1:PORT/r.git#main:sub /cloned
COPY --parents --exclude=*.md --exclude=**/no* tree/./**/* /kept/
COPY --link --from=parent /bin/sh /linked/
USER 7:8
RUN id > /tmp/who

FROM base
COPY --from=child / /all
HEALTHCHECK --interval=5s CMD true
EXPOSE 80-81 53/udp
STOPSIGNAL SIGINT
CMD ["cat", "/all/work/below/greeting"]
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A directory and the port that it is served on."""
    directory = tmp_path / "served"
    directory.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory))) as http:
        thread = Thread(target=http.serve_forever)
        thread.start()
        yield directory, http.server_port
        http.shutdown()
        thread.join()


def git(path: Path, *words: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *who, *words], cwd=path, check=True, capture_output=True, timeout=60)


def context(path: Path, served: Path) -> Path:
    root = path / "context"
    for name in ("f.txt", "tree/a.txt", "tree/b/c.txt", "tree/b/nothing", "tree/x.md", "sub/inside"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{name}\n")
    subprocess.run(["tar", "-cf", str(root / "plain.tar"), "-C", str(root), "sub"], check=True)
    (served / "got.txt").write_text("got\n")
    (served / "plain.tar").write_bytes((root / "plain.tar").read_bytes())
    source = path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "versioned").write_text("versioned\n")
    git(source, "init", "-q", "-b", "main")
    git(source, "add", ".")
    git(source, "commit", "-qm", "one")
    git(path, "clone", "-q", "--bare", str(source), str(served / "r.git"))
    git(served / "r.git", "update-server-info")
    return root


def test_what_the_reference_knows(shared: Engine, tmp_path: Path, served: tuple[Path, int]) -> None:
    directory, port = served
    root = context(tmp_path, directory)
    digest = subprocess.run(
        ["sha256sum", str(root / "plain.tar")], capture_output=True, text=True, check=True
    )
    text = DOCKERFILE.replace("PORT", str(port)).replace("SUM", digest.stdout.split()[0])
    (root / "Dockerfile").write_text(text)
    shared.jocker("build", "-t", "whole", str(root))
    show = (
        "cd /all; for f in work/below/greeting work/below/script work/below/both docs/* added/got.txt added/sub/inside "
        'unpacked/sub/inside cloned/* kept/a.txt kept/b/c.txt triggered/* tmp/who; do echo "$f: $(cat $f)"; done; ls kept kept/b'
    )
    shown = shared.jocker("run", "--rm", "whole", "sh", "-c", show).stdout
    assert shown.splitlines() == [
        "work/below/greeting: hello world, wor",
        "work/below/script: /dev/pipes/SCRIPT by itself",
        "work/below/both: of world",
        "of $NAME",
        'docs/doc: hello world "quoted" $NAME',
        "docs/f.txt: f.txt",
        "added/got.txt: got",
        "added/sub/inside: sub/inside",
        "unpacked/sub/inside: sub/inside",
        "cloned/versioned: versioned",
        "kept/a.txt: tree/a.txt",
        "kept/b/c.txt: tree/b/c.txt",
        "triggered/by: trigger of world",
        "triggered/f.txt: f.txt",
        "tmp/who: uid=7 gid=8 groups=8" if "groups=8" in shown else "tmp/who: uid=7 gid=8",
        "kept:", "a.txt", "b", "", "kept/b:", "c.txt",
    ]  # fmt: skip
    config = json.loads(shared.jocker("image", "inspect", "whole").stdout)[0]["Config"]
    assert list(config["ExposedPorts"]) == ["53/udp", "80/tcp", "81/tcp"] and config["StopSignal"] == "SIGINT"
    again = shared.jocker("build", "-q", "-t", "whole", "--progress", "rawjson", str(root))
    assert again.returncode == 0
    (directory / "got.txt").write_text("changed\n")
    shared.jocker("build", "-t", "whole", str(root))
    assert shared.jocker("run", "--rm", "whole", "cat", "/all/added/got.txt").stdout == "changed\n"
    shared.jocker("rmi", "whole")
    for image in shared.jocker("images", "-q", "--filter", "dangling=true").stdout.split():
        shared.jocker("rmi", image)


def test_triggers_of_an_image(shared: Engine, tmp_path: Path) -> None:
    """They see the stages of the Dockerfile that inherits them, and are not inherited further."""
    file = tmp_path / "Dockerfile"
    file.write_text(
        "FROM base\nONBUILD COPY --from=helper /made /got\nONBUILD RUN <<X\ncat /got > /twice\nX\n"
    )
    shared.jocker("build", "-t", "parent", str(tmp_path))
    file.write_text("FROM base AS helper\nRUN echo made > /made\nFROM parent\nRUN cat /twice\n")
    shared.jocker("build", "-t", "heir", str(tmp_path))
    assert shared.jocker("run", "--rm", "heir", "cat", "/twice").stdout == "made\n"
    file.write_text("FROM heir\n")
    shared.jocker("build", "-t", "heir", str(tmp_path))
    file.write_text("FROM parent\n")
    wrong = shared.jocker("build", str(tmp_path), check=False)
    assert (
        wrong.returncode == 1 and "Dockerfile:1:" in wrong.stderr and "no such image: helper" in wrong.stderr
    )
    shared.jocker("rmi", "heir", "parent")
    for image in shared.jocker("images", "-q", "--filter", "dangling=true").stdout.split():
        shared.jocker("rmi", image)


def test_check(shared: Engine, tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(
        'FROM base AS Build\nCOPY $nope secret.txt /d/\nFROM base\nCOPY --from=biuld /d /d\nCMD ["sh"]\n'
    )
    (tmp_path / ".dockerignore").write_text("*.txt\n")
    found = shared.jocker("build", "--check", str(tmp_path), check=False)
    assert found.returncode == 1 and found.stdout.startswith("Check complete, 4 warnings have been found!\n")
    for rule in ("StageNameCasing", "UndefinedVar", "CopyIgnoredFile", "UndefinedStage"):
        assert f"\nWARNING: {rule}" in found.stdout
    assert "   2 | >>> COPY $nope secret.txt /d/" in found.stdout and "did you mean build?" in found.stdout
    told = shared.jocker("build", "--check", "--format", "json", str(tmp_path), check=False)
    rules = [item["ruleName"] for item in json.loads(told.stdout)["warnings"]]
    assert rules == ["StageNameCasing", "CopyIgnoredFile", "UndefinedVar", "UndefinedStage"]
    file.write_text("FROM base\nENV A=1\n")
    clean = shared.jocker("build", "--check", str(tmp_path))
    assert clean.stdout == "Check complete, no warnings found.\n"
    read = shared.jocker("build", "--check", "-", input="FROM base\nMAINTAINER me\n", check=False)
    assert read.returncode == 1 and "MaintainerDeprecated" in read.stdout
    wrong = shared.jocker("build", "--check", "-", input="FROM base\nENV A=1 \\\n  B\n", check=False)
    assert wrong.returncode == 1 and wrong.stderr.splitlines() == [
        "jocker: Dockerfile:3:3: ENV takes NAME=VALUE, not 'B'",
        "   3 |   B",
        "     |   ^",
    ]


def test_a_build_tells_its_warnings(shared: Engine, tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM base as x\nENV A 1\n")
    built = shared.jocker("build", str(tmp_path))
    assert " 2 warnings found" in built.stderr
    assert " - LegacyKeyValueFormat: " in built.stderr and "(line 2)" in built.stderr
    file.write_text("# check=error=true\n" + file.read_text())
    refused = shared.jocker("build", str(tmp_path), check=False)
    assert refused.returncode == 1 and "Dockerfile:2:1: 'as' and 'FROM'" in refused.stderr
    assert "FromAsCasing, LegacyKeyValueFormat" in refused.stderr
    file.write_text("# check=skip=all;error=true\n" + file.read_text().partition("\n")[2])
    shared.jocker("build", str(tmp_path))
    for image in shared.jocker("images", "-q", "--filter", "dangling=true").stdout.split():
        shared.jocker("rmi", image)


def packed(*members: tuple[str, bytes, str, bytes]) -> bytes:
    """A tar of (name, type, link, content)."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, kind, link, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size, info.mode = kind, link, len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def test_contexts_that_mean_harm(shared: Engine, tmp_path: Path) -> None:
    """Each tries to write, or to read, outside of where it belongs."""
    (tmp_path / "secret").write_text("secret")
    file, link, hard, node = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
    outside = str(tmp_path)

    def build(dockerfile: str, *members: tuple[str, bytes, str, bytes]) -> subprocess.CompletedProcess[bytes]:
        data = packed(("Dockerfile", file, "", dockerfile.encode()), *members)
        command = [os.path.join(BIN, "jocker"), "build", "-t", "harm", "-"]
        return subprocess.run(command, env=shared.env, input=data, capture_output=True, timeout=120)

    def listing() -> str:
        return shared.jocker("run", "--rm", "harm", "ls", "/c").stdout

    up = "../" * 12
    done = build(
        "FROM base\nCOPY . /c/\n", (f"{up}{outside}/up", file, "", b"1"), (f"{outside}/abs", file, "", b"2"),
        ("way", link, outside, b""), ("way/through", file, "", b"3"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for refused, what in (
        (("d", node, "", b""), b"device node"),
        (("h", hard, f"{outside}/secret", b""), b"no file there"),
        (("n" * 5000, file, "", b""), b"too long"),
    ):
        done = build("FROM base\nCOPY . /c/\n", refused)
        assert done.returncode == 1 and what in done.stderr.splitlines()[-1], (refused, done.stderr)
    for source in ("l", "l/secret", "d/../../../secret"):
        done = build(
            f"FROM base\nCOPY {source} /c/\n", ("l", link, f"{outside}/secret", b""), ("d/x", file, "", b"")
        )
        assert done.returncode == 1 and b"secret\n" not in done.stdout, source
    evil = packed(
        (f"{up}{outside}/up", file, "", b"1"), ("way", link, outside, b""), ("way/through", file, "", b"3")
    )
    done = build("FROM base\nADD evil.tar /c/\n", ("evil.tar", file, "", evil))
    assert done.returncode == 0 and "way" in listing()
    out = "FROM base AS a\nCOPY . /\nFROM a AS b\nCOPY x /out/x\nFROM base\nCOPY --from=b /out/x /c/\n"
    done = build(out, ("out", link, outside, b""), ("x", file, "", b"4"))
    assert done.returncode == 0 and listing() == "x\n", done.stderr
    assert sorted(os.listdir(tmp_path)) == ["secret"] and (tmp_path / "secret").read_text() == "secret"
    shared.jocker("rmi", "harm")
    for image in shared.jocker("images", "-q", "--filter", "dangling=true").stdout.split():
        shared.jocker("rmi", image)
