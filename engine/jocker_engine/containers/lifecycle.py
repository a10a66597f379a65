"""The container lifecycle: one table, (state, event) -> state. Nothing else changes a container's state.

States that a user sees: creating, created, starting, running, paused, stopping, restarting (it ended, and its policy
will start it again), exited, removing, dead. Events are
what happened, not what is wished for; a wish that the table has no row for is refused with `explain`.
"""

from __future__ import annotations

from jocker_protocol.errors import InvalidState

TABLE: dict[tuple[str, str], str] = {
    ("creating", "made"): "created",
    ("created", "start"): "starting",
    ("exited", "start"): "starting",
    ("restarting", "start"): "starting",
    ("starting", "started"): "running",
    ("starting", "not started"): "created",
    ("starting", "exited"): "exited",
    ("running", "stop"): "stopping",
    ("running", "pause"): "paused",
    ("paused", "unpause"): "running",
    ("paused", "stop"): "stopping",
    ("running", "exited"): "exited",
    ("paused", "exited"): "exited",
    ("stopping", "exited"): "exited",
    ("starting", "ends for now"): "restarting",
    ("running", "ends for now"): "restarting",
    ("paused", "ends for now"): "restarting",
    ("restarting", "exited"): "exited",
    ("creating", "remove"): "removing",
    ("created", "remove"): "removing",
    ("restarting", "remove"): "removing",
    ("exited", "remove"): "removing",
    ("dead", "remove"): "removing",
    ("removing", "remove"): "removing",
    ("creating", "failed"): "dead",
    ("created", "failed"): "dead",
    ("starting", "failed"): "dead",
    ("running", "failed"): "dead",
    ("paused", "failed"): "dead",
    ("stopping", "failed"): "dead",
    ("restarting", "failed"): "dead",
    ("exited", "failed"): "dead",
    ("removing", "failed"): "dead",
    ("dead", "failed"): "dead",
}

STATES = frozenset(state for state, _ in TABLE)
ALIVE = frozenset({"starting", "running", "paused", "stopping"})
"""States in which a process may be there."""
UNFINISHED = ALIVE | {"restarting"}
"""States that one waits for the end of."""

_REMEDY = {
    ("start", "starting"): "it is starting already",
    ("start", "stopping"): "it is being stopped; wait for that, or `jocker kill` it",
    ("start", "dead"): "it cannot be used any more; remove it",
    ("start", "paused"): "`jocker unpause` it",
    ("remove", "paused"): "stop it first, or remove it with -f",
    ("exec", "paused"): "unpause it first",
    ("attach", "paused"): "unpause it first",
    ("pause", "paused"): "it is held already",
    ("pause", "created"): "it is not running",
    ("pause", "exited"): "it is not running",
    ("unpause", "running"): "it is not held",
    ("copy", "starting"): "try again when it runs",
    ("top", "created"): "it is not running",
    ("top", "exited"): "it is not running",
    ("remove", "running"): "stop it first, or remove it with -f",
    ("remove", "starting"): "stop it first, or remove it with -f",
    ("remove", "stopping"): "wait until it has stopped, or remove it with -f",
    ("remove", "restarting"): "stop it first, or remove it with -f",
    ("exec", "created"): "start it first",
    ("exec", "restarting"): "wait until it runs again",
    ("kill", "restarting"): "stop it with `jocker stop`",
    ("attach", "restarting"): "wait until it runs again, or read its `jocker logs`",
    ("exec", "exited"): "start it first",
    ("kill", "created"): "it is not running",
    ("kill", "exited"): "it is not running",
    ("attach", "exited"): "start it first, or read its `jocker logs`",
}


def allows(state: str, event: str) -> bool:
    """Whether the table has this row."""
    return (state, event) in TABLE


def follow(state: str, event: str) -> str:
    """The next state. An event that cannot happen in this state is a bug: KeyError, and the actor crashes."""
    return TABLE[state, event]


def refusal(name: str, state: str, wish: str) -> InvalidState:
    """The answer to a wish that this state does not allow."""
    remedy = _REMEDY.get((wish, state), "")
    return InvalidState(f"cannot {wish} container {name}: it is {state}" + (f"; {remedy}" if remedy else ""))
