"""What can go wrong between actors. Knows nothing else."""

from __future__ import annotations


class OtpError(Exception):
    """Base of all errors of this package."""


class ActorDown(OtpError):
    """The actor ended before it answered, or is not there (it may be back soon: the name stays good)."""

    def __init__(self, name: str, reason: BaseException | None = None) -> None:
        why = f": {type(reason).__name__}: {reason}" if reason is not None else ""
        super().__init__(f"{name} is down{why}")
        self.name = name
        self.reason = reason


class NoSuchActor(ActorDown):
    """Nobody runs under this name now."""


class Poisoned(ActorDown):
    """The child failed too often in a row and was set aside with its last reason."""


class CallTimeout(OtpError):
    """No answer in the time the caller gave."""


class CallCycle(OtpError):
    """The call would wait for an actor that is itself waiting for this call to end."""


class MailboxFull(OtpError):
    """The actor has as many messages waiting as it may."""


class StartFailed(OtpError):
    """A child's `init` (or its factory) raised; the cause is chained."""

    def __init__(self, name: str, reason: BaseException) -> None:
        super().__init__(f"{name} could not be started: {type(reason).__name__}: {reason}")
        self.name = name
        self.reason = reason


class GaveUp(OtpError):
    """A supervisor saw more restarts in its period than its intensity allows."""

    def __init__(self, name: str, reason: BaseException | None) -> None:
        super().__init__(f"supervisor {name} gave up: {type(reason).__name__}: {reason}")
        self.name = name
        self.reason = reason
