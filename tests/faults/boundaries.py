"""Every boundary: each operation is cut off at each of its boundaries, and must be whole or undone afterwards."""

from __future__ import annotations

import glob
import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

from harness import Bystander, FaultyEngine, Tally

Done = subprocess.CompletedProcess[str]


class Operation(NamedTuple):
    """`{}` in arguments is a name of its own for each time, `{root}` the engine's root, where TAR lies, `{context}` a
    directory with a file that holds the name.
    """

    name: str
    prepare: Sequence[Sequence[str]]
    act: Sequence[str]
    input: str
    repeated: Sequence[str]
    """What the operation may say when it is done once more, beside succeeding."""
    there: Callable[[FaultyEngine, str], bool]
    """Whether what an acknowledged operation promises is true."""
    clean: Sequence[Sequence[str]]
    leaves_layers: bool = False
    """Afterwards, as builds do; else there are as many as before."""
    platforms: Sequence[str] = ("linux", "portable")


TAR = "content.tar"


def _status(engine: FaultyEngine, name: str) -> str:
    listed = engine.rpc("container.list", all=True, filters={"name": [name]})["containers"]
    return str(listed[0]["status"]) if listed else ""


def _image(engine: FaultyEngine, name: str) -> bool:
    return bool(engine.rpc("image.list", filters={"reference": [name]})["images"])


def _archive(engine: FaultyEngine, name: str) -> bool:
    """Whole, and nothing half made beside it."""
    with tarfile.open(os.path.join(engine.root, "archives", f"{name}.tar")) as archive:
        whole = archive.getnames()[-1] == "oci-layout"
    return whole and not any(file.startswith(".") for file in os.listdir(_archives(engine)))


def _volume(engine: FaultyEngine, name: str) -> bool:
    return bool(engine.rpc("volume.list", filters={"name": [name]})["volumes"])


_CREATE = ("create", "--name", "{}", "-v", "/own", "base", "sleep", "1000")
_RUN = ("run", "-d", "--stop-timeout", "0", "--name", "{}", "-v", "/own", "base", "sleep", "1000")
_GONE = ("rm", "-f", "-v", "{}")
_FILE = "{root}/archives/{}.tar"
_SAVE = ("save", "-o", _FILE, "base")
_PRUNE = ("image", "prune", "-f")
_STAGES = """\
FROM base AS one
RUN --mount=type=cache,id={},target=/c --mount=type=secret,id=s echo {} > /c/x; cat /run/secrets/s > /one
FROM base
RUN --mount=type=cache,id={},target=/c,sharing=locked echo {} > /two
COPY name /name
COPY --from=one /one /one
"""
_DOCKERFILE = "FROM base\nRUN echo {} > /made\nCOPY <<there /there\n{}\nthere\nWORKDIR /new/{}\nENV x={}\n"

OPERATIONS = (
    Operation("create", (), _CREATE, "", ("is taken",), lambda e, n: _status(e, n) == "created", (_GONE,)),
    Operation(
        "start", (_CREATE,), ("start", "{}"), "", (), lambda e, n: _status(e, n) == "running", (_GONE,)
    ),
    Operation(
        "stop", (_RUN,), ("stop", "-t", "0", "{}"), "", (), lambda e, n: _status(e, n) == "exited", (_GONE,)
    ),
    Operation(
        "rm", (_CREATE,), ("rm", "-v", "{}"), "", ("no such container",), lambda e, n: not _status(e, n), ()
    ),
    Operation(
        "rm -f",
        (_RUN,),
        ("rm", "-f", "-v", "{}"),
        "",
        ("no such container",),
        lambda e, n: not _status(e, n),
        (),
    ),
    Operation(
        "build",
        (),
        ("build", "-t", "{}", "-"),
        _DOCKERFILE,
        (),
        _image,
        (("rmi", "{}"),),
        leaves_layers=True,
    ),
    Operation("save", (), _SAVE, "", (), _archive, ()),
    Operation(
        "load",
        (_CREATE, ("commit", "{}", "{}"), _GONE, ("save", "-o", _FILE, "{}"), ("rmi", "{}")),
        ("load", "-i", _FILE),
        "",
        (),
        _image,
        (("rmi", "{}"),),
    ),
    Operation(
        "import",
        (_CREATE, ("export", "-o", _FILE, "{}"), _GONE),
        ("import", "-c", "CMD true", _FILE, "{}"),
        "",
        (),
        _image,
        (("rmi", "{}"), _PRUNE),  # done twice there are two
    ),
    Operation("commit", (_CREATE,), ("commit", "{}", "{}"), "", (), _image, (_GONE, ("rmi", "{}"), _PRUNE)),
    Operation(
        "commit running", (_RUN,), ("commit", "{}", "{}"), "", (), _image, (_GONE, ("rmi", "{}"), _PRUNE)
    ),
    Operation(
        "build of stages",
        (),
        ("build", "-t", "{}", "--secret", "id=s,src={context}/name", "-f", "-", "{context}"),
        _STAGES,
        (),
        _image,
        (("rmi", "{}"), ("builder", "prune", "-a", "-f")),
        leaves_layers=True,
    ),
    Operation("volume create", (), ("volume", "create", "{}"), "", (), _volume, (("volume", "rm", "{}"),)),
    Operation(
        "volume rm",
        (("volume", "create", "{}"),),
        ("volume", "rm", "{}"),
        "",
        ("no such volume",),
        lambda e, n: not _volume(e, n),
        (),
    ),
)


def _holds(engine: FaultyEngine, name: str, content: str) -> bool:
    """Whether the file /d/f of a volume has this content, and nothing is beside it."""
    read = ("run", "--rm", "-v", f"{name}:/d", "base", "sh", "-c", "cat /d/f; ls /d")
    return engine.jocker(*read).stdout.split() == [content, "f"]


def _kept(engine: FaultyEngine, name: str) -> bool:
    snapshots = engine.rpc("volume.inspect", volume=name)["snapshots"]
    return [each["name"] for each in snapshots] == ["kept"]


def _copied(engine: FaultyEngine, name: str) -> bool:
    return engine.jocker("cp", f"{name}:/copied", "-", check=False).returncode == 0


def _limited(engine: FaultyEngine, name: str) -> bool:
    detail = engine.rpc("container.inspect", container=name)
    paths = glob.glob(f"/sys/fs/cgroup/**/jocker-*-{detail['id']}/memory.limit_in_bytes", recursive=True)
    paths += glob.glob(f"/sys/fs/cgroup/**/jocker-*-{detail['id']}/memory.max", recursive=True)
    with open(paths[0], encoding="ascii") as file:
        return detail["limits"].get("memory") == 64 << 20 == int(file.read())


_VOLUME = ("volume", "create", "{}")
_SIZED = ("volume", "create", "--quota", "4m", "{}")


def _put(content: str) -> tuple[str, ...]:
    return ("run", "--rm", "-v", "{}:/d", "base", "sh", "-c", f"echo {content} > /d/f")


_SNAPSHOT = ("volume", "snapshot", "{}", "kept")
_RESTORE = ("volume", "restore", "{}", "kept")
_NO_VOLUME = (("volume", "rm", "{}"),)
_PAUSE = ("pause", "{}")

UPKEEP = (
    Operation("volume snapshot", (_VOLUME, _put("one")), _SNAPSHOT, "", ("already",), _kept, _NO_VOLUME),
    Operation(
        "volume restore",
        (_VOLUME, _put("one"), _SNAPSHOT, _put("two")),
        _RESTORE,
        "",
        (),
        lambda e, n: _holds(e, n, "one"),
        _NO_VOLUME,
    ),
    Operation(
        "volume restore, sized",
        (_SIZED, _put("one"), _SNAPSHOT, _put("two")),
        _RESTORE,
        "",
        (),
        lambda e, n: _holds(e, n, "one"),
        _NO_VOLUME,
        platforms=("linux",),
    ),
    Operation("volume create --quota", (), _SIZED, "", (), _volume, _NO_VOLUME, platforms=("linux",)),
    Operation(
        "volume import",
        (_VOLUME, _put("old")),
        ("volume", "import", "-i", "{root}/" + TAR, "{}"),
        "",
        (),
        lambda e, n: _holds(e, n, "new"),
        _NO_VOLUME,
    ),
    Operation(
        "create --storage-size",
        (),
        ("create", "--storage-size", "8m", "--name", "{}", "base"),
        "",
        ("is taken",),
        lambda e, n: _status(e, n) == "created",
        (_GONE,),
        platforms=("linux",),
    ),
    Operation("cp", (_CREATE,), ("cp", "{root}/" + TAR, "{}:/copied"), "", (), _copied, (_GONE,)),
    Operation(
        "pause", (_RUN,), _PAUSE, "", ("held already",), lambda e, n: _status(e, n) == "paused", (_GONE,)
    ),
    Operation(
        "unpause",
        (_RUN, _PAUSE),
        ("unpause", "{}"),
        "",
        ("not held",),
        lambda e, n: _status(e, n) == "running",
        (_GONE,),
    ),
    Operation(
        "update", (_RUN,), ("update", "-m", "64m", "{}"), "", (), _limited, (_GONE,), platforms=("linux",)
    ),
)
"""What is done to things that are there."""


def run(
    engine: FaultyEngine, tally: Tally, every: int = 1, operations: Sequence[Operation] = OPERATIONS
) -> None:
    """All operations; `every`: only each n-th boundary."""
    bystander = Bystander(engine)
    _archives(engine)
    with tarfile.open(os.path.join(engine.root, TAR), "w") as archive:
        member = tarfile.TarInfo("./f")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"new\n"))
    for operation in operations:
        if engine.platform not in operation.platforms:
            continue
        kind = f"{engine.platform}: {operation.name} cut off"
        name = f"{_short(operation)}0"
        _each(engine, operation.prepare, name)
        engine.arm(0)
        assert _act(engine, operation, name).returncode == 0
        reached = engine.boundaries()
        _each(engine, operation.clean, name)
        for number in range(min(1 + every // 8, len(reached)), len(reached) + 1, every):
            tally.fault(kind)
            what = f"at {number} of {len(reached)}, {reached[number - 1]}"
            for problem in _cut_off(engine, operation, number):
                tally.loss(kind, f"{what}: {problem}")
        if complaint := bystander.complaint():
            tally.loss(kind, complaint)
    engine.jocker("rm", "-f", "bystander")


def _cut_off(engine: FaultyEngine, operation: Operation, number: int) -> list[str]:
    name = f"{_short(operation)}{number}"
    layers = _layers(engine)
    _each(engine, operation.prepare, name)
    engine.arm(number)
    done = _act(engine, operation, name)
    problems = []
    if engine.died():
        engine.start()
    else:
        engine.arm(0)
    if found := engine.differences():
        problems.append(f"differences {found}")
    if done.returncode == 0 and not operation.there(engine, name):
        problems.append("it was acknowledged, and is not there")
    again = _act(engine, operation, name)
    if again.returncode != 0 and not any(said in again.stderr for said in operation.repeated):
        problems.append(f"done once more it says {again.stderr!r}")
    if not operation.there(engine, name):
        problems.append("it was done once more, and is not there")
    _each(engine, operation.clean, name)
    if not operation.leaves_layers and _layers(engine) != layers:
        problems.append("layers are left, or lost")
    if uploads := os.listdir(os.path.join(engine.data, "uploads")):
        problems.append(f"uploads are left: {uploads}")
    for file in os.listdir(_archives(engine)):
        os.unlink(os.path.join(_archives(engine), file))
    left = [each["name"] for each in engine.rpc("volume.list")["volumes"]]
    if left:
        problems.append(f"volumes are left: {left}")
        engine.jocker("volume", "rm", *left)
    return problems


def _short(operation: Operation) -> str:
    return "".join(letter for letter in operation.name if letter.isalnum())


def _act(engine: FaultyEngine, operation: Operation, name: str) -> Done:
    context = os.path.join(engine.root, "context")
    os.makedirs(context, exist_ok=True)
    with open(os.path.join(context, "name"), "w", encoding="utf-8") as file:
        file.write(name)  # so that there is something to send each time
    words = [word.format(name, root=engine.root, context=context) for word in operation.act]
    return engine.jocker(*words, input=operation.input.replace("{}", name), check=False)


def _each(engine: FaultyEngine, commands: Sequence[Sequence[str]], name: str) -> None:
    for command in commands:
        engine.jocker(*(word.format(name, root=engine.root) for word in command))


def _archives(engine: FaultyEngine) -> str:
    path = os.path.join(engine.root, "archives")
    os.makedirs(path, exist_ok=True)
    return path


def _layers(engine: FaultyEngine) -> set[str]:
    """On the disk."""
    homes = (os.path.join(engine.data, kind, "layers") for kind in ("overlay", "copy"))
    return {layer for home in homes if os.path.isdir(home) for layer in os.listdir(home)}
