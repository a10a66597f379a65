"""Restart policies: whether a container that ended is started again, and when. Docker's rules, and on-startup.

Pure: knows the policy and what happened. Source: Docker's documentation, "Start containers automatically" and
`docker run --restart`; Kleene's `--restart on-startup`.
"""

from __future__ import annotations

from jocker_protocol.errors import InvalidParams
from jocker_protocol.types import ContainerState, RestartPolicy

FIRST_DELAY = 0.1
MAX_DELAY = 60.0
"""Seconds; the delay doubles from one restart to the next."""
STABLE = 10.0
"""A run of so many seconds was a good one: the delay begins anew."""


def check(policy: RestartPolicy, *, auto_remove: bool) -> RestartPolicy:
    """The policy, if it makes sense. Raises InvalidParams."""
    if policy.maximum_retry_count < 0:
        raise InvalidParams("restart_policy: maximum_retry_count must not be negative")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidParams("restart_policy: maximum_retry_count goes with on-failure only")
    if auto_remove and policy.name != "no":
        raise InvalidParams(
            f"restart_policy: a container that is removed when it has ended (--rm) cannot have --restart {policy.name}"
        )
    return policy


def again(policy: RestartPolicy, state: ContainerState, exit_code: int) -> bool:
    """Whether a container that ended by itself is started again."""
    if state.stopped:
        return False
    if policy.name == "on-failure":
        return exit_code != 0 and not 0 < policy.maximum_retry_count <= state.restart_count
    return policy.name in ("always", "unless-stopped")


def at_startup(policy: RestartPolicy, state: ContainerState) -> bool:
    """Whether a container that does not run is started with the engine.

    A created one was never started by its user: only on-startup says that the engine shall.
    """
    if policy.name == "on-startup":
        return True
    if not state.finished_at:
        return False
    return policy.name == "always" or (policy.name == "unless-stopped" and not state.stopped)


class Backoff:
    """The delays between restarts of one container."""

    def __init__(self) -> None:
        self._delay = 0.0

    def next(self, ran: float) -> float:
        """Seconds to wait after a run that took `ran` seconds."""
        self._delay = FIRST_DELAY if ran >= STABLE or not self._delay else min(self._delay * 2, MAX_DELAY)
        return self._delay

    def reset(self) -> None:
        """It was started by hand."""
        self._delay = 0.0
