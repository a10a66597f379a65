"""Every boundary: each operation is cut off at each of its boundaries, and must be whole or undone afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

from harness import Bystander, FaultyEngine, Tally

Done = subprocess.CompletedProcess[str]


class Operation(NamedTuple):
    """`{}` in arguments is a name of its own for each time."""

    name: str
    prepare: Sequence[Sequence[str]]
    act: Sequence[str]
    input: str
    repeated: Sequence[str]
    """What the operation may say when it is done once more, beside succeeding."""
    there: Callable[[FaultyEngine, str], bool]
    """Whether what an acknowledged operation promises is true."""
    clean: Sequence[Sequence[str]]


def _status(engine: FaultyEngine, name: str) -> str:
    listed = engine.rpc("container.list", all=True, filters={"name": [name]})["containers"]
    return str(listed[0]["status"]) if listed else ""


def _volume(engine: FaultyEngine, name: str) -> bool:
    return bool(engine.rpc("volume.list", filters={"name": [name]})["volumes"])


_CREATE = ("create", "--name", "{}", "-v", "/own", "base", "sleep", "1000")
_RUN = ("run", "-d", "--stop-timeout", "0", "--name", "{}", "-v", "/own", "base", "sleep", "1000")
_GONE = ("rm", "-f", "-v", "{}")
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
        lambda e, n: bool(e.rpc("image.list", filters={"reference": [n]})["images"]),
        (("rmi", "{}"),),
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


def run(
    engine: FaultyEngine, tally: Tally, every: int = 1, operations: Sequence[Operation] = OPERATIONS
) -> None:
    """All operations; `every`: only each n-th boundary."""
    bystander = Bystander(engine)
    for operation in operations:
        kind = f"{engine.platform}: {operation.name} cut off"
        name = f"{operation.name.replace(' ', '')}0"
        _each(engine, operation.prepare, name)
        engine.arm(0)
        assert _act(engine, operation, name).returncode == 0
        reached = engine.boundaries()
        _each(engine, operation.clean, name)
        for number in range(1 + every // 8, len(reached) + 1, every):
            tally.fault(kind)
            what = f"at {number} of {len(reached)}, {reached[number - 1]}"
            for problem in _cut_off(engine, operation, number):
                tally.loss(kind, f"{what}: {problem}")
        if complaint := bystander.complaint():
            tally.loss(kind, complaint)
    engine.jocker("rm", "-f", "bystander")


def _cut_off(engine: FaultyEngine, operation: Operation, number: int) -> list[str]:
    name = f"{operation.name.replace(' ', '')}{number}"
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
    left = [each["name"] for each in engine.rpc("volume.list")["volumes"]]
    if left:
        problems.append(f"volumes are left: {left}")
        engine.jocker("volume", "rm", *left)
    return problems


def _act(engine: FaultyEngine, operation: Operation, name: str) -> Done:
    words = [word.format(name) for word in operation.act]
    return engine.jocker(*words, input=operation.input.replace("{}", name), check=False)


def _each(engine: FaultyEngine, commands: Sequence[Sequence[str]], name: str) -> None:
    for command in commands:
        engine.jocker(*(word.format(name) for word in command))
