"""Actors and supervisors: Erlang/OTP's semantics with trio's manners. Imports nothing of ours.

The contract, each sentence of which has a test (tests/unit/otp/):

*Actors.* An actor takes one message at a time, in the order they came. `call` waits for the answer: what the
handler returns, or raises if the exception is one of the actor's `answers`. Any other exception is a crash. `cast`
never waits. A mailbox has room for `mailbox_size` messages; over that, sending raises MailboxFull. A handler that
must wait on the outside defers its reply and spawns a task; messages go on being handled meanwhile. Spawned tasks
end with the actor, and a crash of one is a crash of the actor. A caller that is cancelled or times out takes its
message out of the mailbox, or cancels the `answer_later` that works for it.

*Ends.* When an actor ends, for whatever reason, everybody who waits for an answer of it gets ActorDown at once, those
still in the mailbox too. Those who monitor its name get Down each time. `terminate` is called once per life, after a
crash too, shielded from cancellation and bounded by the shutdown time.

*Names.* A Ref is a name: it stays good when the actor behind it is replaced. A call whose chain of waiting actors
has the callee in it already raises CallCycle in place of hanging.

*Supervisors.* Children start in order, the next one when the `init` of the one before is done, and stop in reverse
order. If a child cannot be started with its supervisor, those before it are stopped, and the start of the supervisor
fails. A `permanent` child is restarted whenever it ends, a `transient` one when it crashed, a `temporary` one never.
`one_for_one` restarts the child that ended; `one_for_all` stops all others in reverse order and starts all in order;
`rest_for_one` does so for those after it. From the end of the child on, nobody below those who will be stopped is
started again: what ends there because the child is down is no failure of its own. A child whose restart fails is tried
again, and each try counts. With more than `intensity` restarts in `period` seconds the supervisor gives up: it stops
its children and ends with GaveUp, which is a crash for its own supervisor; from the root it comes out of `System.run`.
A child gets its shutdown time for an orderly end, then it is killed.

*Dynamic supervisors.* Children come and go by `start_child` and `stop_child`, and are stopped side by side. A child
that fails `poison_after` times, each time within `period` seconds of the time before, is set aside: it is not started
again, calls to it raise Poisoned with the reason, those who monitor it get Down with Poisoned, the tree shows it, and
its failures count no more. `stop_child` forgets it, `start_child` tries it anew.

*Time* is trio's clock throughout, so that all this can be tested on a mock clock.
"""

from .actor import Actor, Down, handles
from .calls import Ref, Reply
from .errors import (
    ActorDown,
    CallCycle,
    CallTimeout,
    GaveUp,
    MailboxFull,
    NoSuchActor,
    OtpError,
    Poisoned,
    StartFailed,
)
from .supervisor import ChildSpec, DynamicSupervisor, Supervisor
from .system import Node, System

__all__ = [
    "Actor",
    "ActorDown",
    "CallCycle",
    "CallTimeout",
    "ChildSpec",
    "Down",
    "DynamicSupervisor",
    "GaveUp",
    "MailboxFull",
    "NoSuchActor",
    "Node",
    "OtpError",
    "Poisoned",
    "Ref",
    "Reply",
    "StartFailed",
    "Supervisor",
    "System",
    "handles",
]
