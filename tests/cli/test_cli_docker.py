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
import textwrap
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

    def build(self, tag: str, context: Path, dockerfile: str, *words: str) -> str:
        """Why not, "" if it was built; by the BuildKit that is in the daemon."""
        command = shutil.which(
            "docker", path=f"/usr/bin:{os.environ['PATH']}"
        )  # that of the daemon's package
        (context / "Dockerfile").write_text(dockerfile)
        done = subprocess.run(
            [str(command), *self._command[1:], "build", "-q", "--network", "none", "-t", tag, *words, str(context)],
            env={**os.environ, "DOCKER_BUILDKIT": "1"}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.stderr if done.returncode else ""

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


def packed(mode: Any) -> bytes:
    """An archive with owners, modes and links of its own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, kind, target, bits in (
            ("td", tarfile.DIRTYPE, "", 0o750), ("td/f", tarfile.REGTYPE, "", 0o640),
            ("td/l", tarfile.SYMTYPE, "f", 0o777), ("td/h", tarfile.LNKTYPE, "td/f", 0o640),
            ("top", tarfile.REGTYPE, "", 0o4755),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode, info.uid, info.gid = kind, target, bits, 5, 6
            archive.addfile(info)
    return buffer.getvalue()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """For builds."""
    root = tmp_path / "context"
    for directory in ("dir/sub", "dir/empty", "docs/deep", "node_modules/p", "src/node_modules"):
        (root / directory).mkdir(parents=True)
    for name in ("a", "b", "x.sh", "dir/one", "dir/two", "dir/sub/three", "dir/.hidden", "f1.txt", "f10.txt",
                 "[br]", "sp ace", "docs/a.md", "docs/deep/b.md", "README.md", "node_modules/p/i", "src/node_modules/i",
                 "src/s", "none.tar"):  # fmt: skip
        (root / name).write_text(name)
    (root / "b").chmod(0o600)
    (root / "x.sh").chmod(0o755)
    (root / "dir/empty").chmod(0o711)
    for name, target in (("ln", "a"), ("dl", "dir"), ("dir/inl", "one"), ("dir/dangling", "/nowhere")):
        (root / name).symlink_to(target)
    for name, mode in (("t.tar", "w"), ("t.tar.gz", "w:gz"), ("t.tar.xz", "w:xz"), ("t.tar.bz2", "w:bz2")):
        (root / name).write_bytes(packed(mode))
    (root / ".dockerignore").write_text(
        "# all but\n**/*.md\n!README.md\n!docs/deep\n**/node_modules\n/dir/t*o\n[.]dockerignore\nDockerfile\n"
    )
    return root


USERS = """\
FROM base
RUN echo 'app:x:1234:2345::/home/app:/bin/sh' >> /etc/passwd; echo 'grp:x:3456:app' >> /etc/group
"""
BUILDS = {
    "copy": """
        FROM users
        COPY . /all
        COPY dir /x1
        COPY dir/ dir/. dir/sub /x2/
        COPY a /n1
        COPY a /n2/
        COPY ../a ./dir//one /b /n3/
        COPY f?.txt f[0-9]*.txt *.none /w1/
        COPY x.* /w2
        COPY */one dir/.h* /w3/
        COPY ln /s1
        COPY dl /s2
        COPY dl/one dl/sub /s3/
        COPY ["sp ace", "/o 1/"]
        COPY [[]br] /br
        RUN busybox mkdir -m 700 /real && busybox ln -s /real /abs && busybox ln -s ../../esc /esc1 && echo > /f && busybox ln -s /f /fl
        COPY a /abs/
        COPY b /abs
        COPY dir /abs
        COPY dir /esc1
        COPY a /fl
        COPY --chown=app dir /o1
        COPY --chown=app:grp --chmod=640 a /o2/3/4
        COPY --chown=7 a /real/o3
        WORKDIR /wd
        COPY a b ./
        COPY a x/y
        COPY a ../../../up
    """,
    "add": """
        FROM users
        ADD t.tar /t1
        ADD t.tar.gz /t2/
        ADD t.tar.xz t.tar.bz2 none.tar a /t3/
        ADD dir /t4
        COPY t.tar.gz /t5
        RUN busybox mkdir -p -m 700 /t6/td
        ADD t.tar /t6
    """,
    "variables": r"""
        ARG V=users
        ARG W=w
        FROM ${V:-no} AS one
        ARG W
        ARG G=g H
        ENV A=1 B=2 C="x y" D='q r' E=a\ b F="q\"r" G2='a$A' I=${A} J=${A}x K=$Ax L=\$A N=${NO:-def} O=${A:+alt} P=${NO:+alt}
        ENV OLD   hello  $W "world"
        ENV A=3 Q=$A \
          # a comment

          R=${NO:-${B:-deep}}
        ENV EE="a\
        b" PATH=/x:$PATH
        RUN echo "$A $B $W $G $H $EE $PATH" > /one
        ENV X=1
        ARG X=2
        RUN echo $X > /two
        ENV Y=$X
        LABEL l$A=$B "quoted k"="$C" m.n='$A' o=p\
        q
        LABEL old some value
        EXPOSE 80 $B/udp 8000-8002
        VOLUME /v$A /w
        USER ${U:-app}:grp
        WORKDIR $C
        WORKDIR ./${B}/../z
        RUN pwd > /tmp/pwd; id -u > /tmp/id; id -G >> /tmp/id; echo $HOME > /tmp/home
        STOPSIGNAL ${NO:-SIGINT}
        FROM one
        RUN echo "$A $G $X" > /tmp/inherited
    """,
    "configuration": """
        FROM users AS one
        CMD ["a", "b c", "\u0041"]
        ENTRYPOINT x $Y  'z'
        HEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --retries=7 CMD curl -f  x || exit 1
        ONBUILD RUN echo onbuild > /onbuild
        ONBUILD COPY a /tmp/
        MAINTAINER me
        FROM one AS two
        SHELL ["/bin/sh", "-ec"]
        ENTRYPOINT ["e"]
        HEALTHCHECK cmd ["a", "b"]
        ONBUILD ENV q=r
        volume /one /two
        VOLUME ["/three", "/fo ur"]
        RUN echo a \\
        # comment
           b > /cont; echo 'c \\
        d' >> /cont
        CMD ['not', 'json']
        FROM two
        HEALTHCHECK NONE
    """,
    "stages": """
        FROM users AS One
        RUN busybox mkdir -p /d/e && echo 1 > /d/x && busybox ln -s x /d/l && busybox ln /d/x /d/e/h && busybox chown -R 5:6 /d && busybox chmod 4750 /d/x
        FROM base AS unused
        RUN false
        FROM users
        COPY --from=one /d /k1
        COPY --from=0 d/* /k2/
        COPY --from=ONE /d/l /k3
        COPY --from=base /etc/passwd /k4
        COPY --from=one --chown=app /d/x /k5
        USER app
        WORKDIR /made/by/app
        USER 77:88
        WORKDIR by77
        RUN id -u > /tmp/id; id -g >> /tmp/id; umask >> /tmp/id
    """,
    "escape": """
        # escape=`
        FROM users
        RUN echo a `
          b > /o
        ENV A=a` b B="x`"y" C=`$A D=a\\b
        COPY a `
          /x`
    """,
}  # fmt: skip


def test_builds_are_those_of_buildkit(shared: Engine, docker: Docker, app: str, context: Path) -> None:
    why = docker.build("users", context, USERS)
    if "buildx" in why:
        pytest.skip("this docker's BuildKit is a package of its own, buildx")
    assert why == ""
    subprocess.run(
        [shared.jocker_path, "load"], env=shared.env, input=docker.bytes("save", "users"), check=True
    )
    for name, text in BUILDS.items():
        dockerfile = textwrap.dedent(text).lstrip()
        assert docker.build(name, context, dockerfile) == "", name
        shared.jocker("build", "-q", "-t", name, str(context))
        docker("create", "--name", name, "--network", "none", name, "x")
        shared.jocker("create", "--name", name, name, "x")
        ours = subprocess.run(
            [shared.jocker_path, "export", name], env=shared.env, capture_output=True, check=True
        )
        mine, theirs = tree(ours.stdout), tree(docker.bytes("export", name))
        assert {path: (mine.get(path), theirs.get(path)) for path in mine.keys() | theirs.keys()
                if mine.get(path) != theirs.get(path)} == {}, name  # fmt: skip
        assert differing(config(shared, name), docker.inspect(name)["Config"]) == {}, name
        shared.jocker("rm", "-v", name)
        shared.jocker("rmi", name)
    shared.jocker("rmi", "users")
