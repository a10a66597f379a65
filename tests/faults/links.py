"""Operations on networks for `boundaries`: what they make, change and take away on the platform."""

from __future__ import annotations

from boundaries import Operation
from harness import FaultyEngine, eventually


def _there(engine: FaultyEngine, name: str) -> bool:
    found = engine.rpc("network.list", filters={"name": [name]})["networks"]
    return any(each["name"] == name for each in found)


def _on(engine: FaultyEngine, name: str) -> bool:
    """The container is on the network of its name, with an address there."""
    return eventually(lambda: _has_address(engine, name, name), 3)


def _has_address(engine: FaultyEngine, name: str, network: str) -> bool:
    endpoints = engine.rpc("container.inspect", container=name)["networks"]
    return any(each["network"] == network and each["ip"] for each in endpoints)


def _open(engine: FaultyEngine, name: str) -> bool:
    detail = engine.rpc("container.inspect", container=name)
    return detail["state"]["status"] == "running" and len(detail["ports"]) == 2


_MAKE = ("network", "create", "{}")
_REMOVE = ("network", "rm", "{}")
_RUN = ("run", "-d", "--stop-timeout", "0", "--name", "{}", "base", "sleep", "1000")
_CREATE = (
    *("create", "--stop-timeout", "0", "--name", "{}"),
    *("-p", "127.0.0.1:28081:80", "-p", "127.0.0.1:28081:80/udp", "base", "sleep", "1000"),
)
_GONE = ("rm", "-f", "{}")
_JOIN = ("network", "connect", "{}", "{}")

OPERATIONS = (
    Operation("network create", (), _MAKE, "", ("already",), _there, (_REMOVE,)),
    Operation("network rm", (_MAKE,), _REMOVE, "", ("no such network",), lambda e, n: not _there(e, n), ()),
    Operation("network connect", (_MAKE, _RUN), _JOIN, "", ("already",), _on, (_GONE, _REMOVE)),
    Operation(
        "network disconnect",
        (_MAKE, _RUN, _JOIN),
        ("network", "disconnect", "{}", "{}"),
        "",
        ("is not on network",),
        lambda e, n: not _has_address(e, n, n),
        (_GONE, _REMOVE),
    ),
    Operation(  # the default route goes with it, and the other network's takes its place
        "network disconnect, the first",
        (_MAKE, _RUN, _JOIN),
        ("network", "disconnect", "default", "{}"),
        "",
        ("is not on network",),
        lambda e, n: not _has_address(e, n, "default") and _has_address(e, n, n),
        (_GONE, _REMOVE),
    ),
    Operation(
        "network rm, at rest",
        (_MAKE, ("create", "--network", "{}", "--name", "{}", "base", "true")),
        _REMOVE,
        "",
        ("no such network",),
        lambda e, n: not _there(e, n),
        (_GONE,),
    ),
    Operation("start -p", (_CREATE,), ("start", "{}"), "", (), _open, (_GONE,)),
    Operation(
        "stop -p", (_CREATE, ("start", "{}")), ("stop", "{}"), "", (), lambda e, n: not _open(e, n), (_GONE,)
    ),
)
