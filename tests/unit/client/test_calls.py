"""Every command against the catalogue: the client speaks plain dicts, so this is where they are checked."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jocker_client import cli
from jocker_client.connection import Stream
from jocker_protocol import types as t
from jocker_protocol import wire
from jocker_protocol.methods import METHODS

STAMP = "2026-11-24T12:00:00.000000000Z"

LINES = """
create --name n -e A=b -v v:/v --mount type=bind,source=/s,target=/t,readonly --tmpfs /tmp -w / -u 1 --entrypoint e base c
create --network none -h h -l a=b --stop-signal INT --stop-timeout 3 --restart on-failure:3 --depends-on x --init base
create --health-cmd c --health-interval 1s --health-timeout 1s --health-retries 2 --health-start-period 1m base
create --health-start-interval 1s base
create --no-healthcheck --restart on-startup base
create -m 512m --memory-swap -1 --memory-reservation 1g --cpus 1.5 -c 512 --cpuset-cpus 0 --pids-limit 10 base
create --ulimit nofile=1024:2048 --shm-size 1m --storage-size 1g --storage-opt size=2g --oom-score-adj 5 base
create --cap-add ALL --cap-drop net_raw --privileged --device /dev/null:/dev/x:r --sysctl a=b --group-add g base
create --security-opt no-new-privileges --security-opt seccomp=unconfined --read-only --pid host --ipc host --uts host b
create --volumes-from a:ro --mount type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=700 --tmpfs /y:size=1m,exec base
create -v /s:/t:ro,rslave -v n:/u:nocopy --mount type=volume,src=v,dst=/w,volume-nocopy base
update -m 1g --cpus 2 --pids-limit 5 --restart always a b
cp -a -L a:/x -
cp -q Dockerfile a:/x
pause a
unpause a
top a -o pid,cmd
stats --no-stream
stats -a --format {{.CPUPerc}} a
run --rm base true
run -d --restart unless-stopped base
run -i base cat
start a b
start -a a
stop -t 3 a
stop a
restart -t 3 a
kill -s INT a
wait a
rm -f -v a
rename a b
exec -e A=b -w / -u 1 a true
exec -d a true
attach --no-stdin a
logs -f -t -n 3 --since 1m --until 2026-01-31 a
ps -a -n 3 -f status=running
ps -l -f health=healthy --no-trunc
ps --format {{.Health}}
container ls
container inspect a
inspect a
inspect --type image -f {{.Id}} a
inspect --type volume a
inspect --type network a
build -t t --build-arg A=b --label a=b --no-cache --target x CONTEXT
build -q CONTEXT
build --check --target x --build-arg A=b --build-context c=d CONTEXT
build --check --format json CONTEXT
build --reproducible CONTEXT
build --verify CONTEXT
build -f Dockerfile --build-context more=. --build-context image=docker-image://base --pull CONTEXT
build --no-cache-filter one,two --network default --secret id=a,src=Dockerfile -J allow.mount --progress plain CONTEXT
builder du
builder du --verbose
builder du --format json -f type=regular
builder prune -a -f --filter until=1h --keep-storage 1GB
image create -t t --from-host sh
image create -t t from-dir CONTEXT
image create -t t --no-dns --no-localtime -f fetch http://h/base.txz
image create -q fetch-auto
image create -t t zfs-clone a/b@c
image inspect i
save -o /dev/null --compress zstd a b
image save --format docker-archive -o /dev/null a
export -o /dev/null a
container export -o /dev/null a
load -q -i Dockerfile
image load -i Dockerfile
import -m m -c CMD Dockerfile t
image import Dockerfile
commit -a me -m m -c CMD --no-pause a t
diff a
diff --format {{.Path}} a
history -q --no-trunc a
image history --no-human --format json a
container prune -f --filter until=24h --filter label!=a
system prune -a --volumes -f --filter label=a
system prune -f
image prune -a -f --filter until=24h --filter label!=a
image rm a
image ls
image tag a b
images -a -f dangling=true
tag a b
rmi -f a
create --network a --network name=b,ip=10.0.0.5,alias=x,mac-address=02:42:0a:00:00:05 --network-alias y --ip 10.1.0.5 --ip6 fd00::5 base
create -p 8080:80 -p 127.0.0.1::53/udp -p eth0:90-92:90-92 -P --expose 81 --add-host h:10.0.0.1 --dns 10.0.0.1 --dns-search . --dns-opt ndots:1 base
network create -d bridge --subnet 10.1.0.0/16 --gateway 10.1.0.1 --ip-range 10.1.1.0/24 --ipv6 --internal --interface br9 --nat off --label a=b n
network ls -f driver=bridge --no-trunc
network inspect -f {{.Name}} n
network rm -f n
network prune -f --filter label=a
network connect --ip 10.1.0.5 --ip6 fd00::5 --alias x --mac-address 02:42:0a:00:00:05 n c
network disconnect -f n c
port c
volume create --label a=b v
volume ls -f dangling=true
volume inspect v
volume rm -f v
volume create --quota 1g --driver local -o size=2g v
volume prune -a -f --filter label=a
volume snapshot v s
volume snapshots -q v
volume snapshot-rm v a b
volume restore v s
volume export --snapshot s -o out v
volume import -i Dockerfile v
events --since 1m --until 0s -f type=container -f type=image
events --format json
events --format {{.Actor.Attributes.nothing}}
info
version
rpc engine.ping
system tree
system df
system df -v
ps -s
system check --repair
system check --format json
system backup copy
system shutdown -t 3
system shutdown
""".strip().splitlines()  # fmt: skip

PROGRESS: dict[str, type] = {
    "system.events": t.Event,
    "image.build": t.BuildProgress,
    "image.create": t.CreateProgress,
    "container.stats": t.Figures,
}
ENDS = {
    "image.load": t.Loaded,
    "volume.import": t.Volume,
    "container.copy_from": t.Copied,
    "container.copy_to": t.Copied,
    "image.build": t.BuildResult,
    "container.attach": t.ExitStatus,
    "container.exec": t.ExitStatus,
}


def required(kind: msgspec.inspect.Type) -> Any:
    """The smallest value of a type; times are what strings may have to be."""
    match kind:
        case msgspec.inspect.StructType():
            return {field.encode_name: required(field.type) for field in kind.fields if field.required}
        case msgspec.inspect.ListType():
            return [required(kind.item_type)]
        case msgspec.inspect.DictType():
            return {}
        case msgspec.inspect.LiteralType():
            return kind.values[0]
        case msgspec.inspect.UnionType():
            return required(kind.types[0])
        case msgspec.inspect.BoolType():
            return True
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return 1
        case msgspec.inspect.StrType():
            return STAMP
    raise NotImplementedError(kind)


def answer(kind: type) -> dict[str, Any]:
    """What the engine would send for this type, defaults and all."""
    value = msgspec.convert(required(msgspec.inspect.type_info(kind)), kind)
    built: dict[str, Any] = msgspec.to_builtins(value)
    return built


class Catalogue:
    """In place of an engine: takes what the catalogue says, and answers what it says."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self._sockets: list[socket.socket] = []

    def call(self, name: str, /, **params: Any) -> dict[str, Any]:
        self.called.append(name)
        msgspec.json.decode(json.dumps(params), type=METHODS[name].params)
        result = answer(METHODS[name].result)
        if name == "container.inspect":
            result["state"]["status"] = "running"
        return result

    def stream(self, token: str, framing: str = "frames") -> Stream:
        method = self.called[-1]
        ours, theirs = socket.socketpair()
        self._sockets.append(theirs)
        if method in PROGRESS:
            theirs.sendall(wire.frame(wire.PROGRESS, json.dumps(answer(PROGRESS[method])).encode()))
        end = answer(ENDS[method]) if method in ENDS else {"id": "x"}
        theirs.sendall(wire.frame(wire.RESULT, json.dumps({**end, "error": ""}).encode()))
        return Stream(ours, framing)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


def test_every_command_speaks_as_the_catalogue_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM base\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115
    called: set[str] = set()
    for line in LINES:
        catalogue = Catalogue()
        monkeypatch.setattr(cli, "Connection", lambda host, catalogue=catalogue: catalogue)
        words = [str(tmp_path) if word == "CONTEXT" else word for word in line.split()]
        code = cli.root.main(args=words, prog_name="jocker", standalone_mode=False)
        catalogue.close()
        if words[:2] == ["system", "check"]:
            code = None  # the difference that it was told of is repaired, or is not
        assert code in (None, 0, 1), line
        assert catalogue.called, line
        called.update(catalogue.called)
    assert set(METHODS) - called == {"rpc.discover", "stream.open"}


def test_every_row_of_the_tables_is_a_command_with_help() -> None:
    groups = {"": cli.TOP, **{name: rows for name, (_, rows) in cli.GROUPS.items()}}
    seen = {tuple(line.split()[:2]) for line in LINES} | {tuple(line.split()[:1]) for line in LINES}
    for group, rows in groups.items():
        for name, row in rows.items():
            words = [group, name] if group else [name]
            command = cli.Table(rows).get_command(None, name)  # type: ignore[arg-type]
            assert command is not None and command.help, words
            same = {
                (*([g] if g else []), n) for g, table in groups.items() for n, r in table.items() if r == row
            }
            assert same & seen, f"no line of the test above runs {' '.join(words)}"
