"""What the engine tells a shim: the Launch record, and the control protocol spoken on its socket.

Control protocol, version 1. The shim listens on RUN/KEY (12 hex digits). A connection carries JSON, one
document per line; requests may carry file descriptors (SCM_RIGHTS) on their first byte.

    -> {"op": "start", "launch": {...}, "clients": [{"framing": "frames", "stdin": true}, ...]}   + one fd per client
    <- {"event": "started", "pid": 123}      or {"event": "failed", "exit_code": 127, "error": "..."} and end of file
    <- {"event": "exited", "exit_code": 0}   and end of file

    -> {"op": "watch"}
    <- {"event": "waiting", "version": 1} | {"event": "started", "pid": 123, "version": 1}, then as above

    -> {"op": "attach", "framing": "frames", "stdin": true, "from": "now" | "start"}   + 1 fd
    <- {"event": "attached"}

    -> {"op": "signal", "signum": 15}
    <- {"event": "signalled"}

    -> {"op": "log"}                          (what follows the log is told when there is more)
    <- {"event": "grown"} ...                 coalesced; end of file when the log is complete

A refused request is answered with {"event": "refused", "error": "..."}.

`start` is taken once, on the first connection. A shim whose first connection ends before `start` goes away
without a trace. The exit status is in the file `status` ({"exit_code": ..., "error": ..., "finished_at": ...,
"started_at": ..., "pid": ...}), written atomically and synced, before "exited" or "failed" is sent.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

PROTOCOL_VERSION = 1


@dataclass(frozen=True)
class Launch:
    """One process, ready to be started by a shim that knows nothing else. Plain JSON types only."""

    enter: str
    """How: "command" (an OCI runtime that detaches and writes pid_file), "chroot", "jail"."""
    argv: list[str]
    """enter=command: the runtime's command line; otherwise the program and its arguments."""
    status: str
    """File for the exit status."""
    env: list[str] = field(default_factory=list)
    cwd: str = "/"

    # enter=command
    pid_file: str = ""
    console_socket: str = ""
    """With tty: where the shim listens for the runtime to send the pty master (OCI --console-socket)."""
    error_log: str = ""
    """The runtime's own JSON log: where its last error is read from when it fails."""

    # enter=chroot, jail
    root: str = ""
    uid: int = 0
    gid: int = 0
    groups: list[int] = field(default_factory=list)
    user_namespace: bool = False
    """Map the caller to `uid` in a new user namespace of one id (Linux, not root)."""
    binds: list[list[Any]] = field(default_factory=list)
    """[source, target, read_only, data]: bind mounts made in a mount namespace of the process's own; "" is a tmpfs,
    with these options of mount(2), where there are any.
    """
    rlimits: list[list[Any]] = field(default_factory=list)
    """[name, soft, hard] of setrlimit(2), the name in lower case; -1: no limit."""
    oom_score_adj: int = 0
    no_new_privileges: bool = False
    join_pid: int = 0
    """Enter the namespaces of this process first (exec)."""
    jid: int = 0
    hostname: str = ""
    login: str = ""
    """Login name of the session, setlogin(2); FreeBSD, as root."""
    fib: int = 0
    """Routing table, setfib(2); FreeBSD: never that of whoever started the engine."""

    # stdio
    tty: bool = False
    rows: int = 0
    cols: int = 0
    stdin: bool = False
    """Keep standard input open for clients; otherwise it is /dev/null (or a pty nobody types on)."""
    log: str = ""
    """File for the output in CRI format; "" for none (exec): then attached clients bound the process's speed."""
    log_max_size: int = 0
    """Rotate when it grows over this many bytes; 0: never."""
    log_max_files: int = 1
    """Rotated files kept (log.1 is the newest)."""
    linger: bool = False
    """The end is that of the last descendant, the exit code the process's own: a userland that /etc/rc has started."""
    kill_rest: bool = False
    """When the process has ended, KILL what is left of its descendants (no pid namespace does it)."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Launch:
        """Fields that this version does not know are ignored: a newer engine may speak to an older shim."""
        known = cls.__dataclass_fields__
        return cls(**{key: item for key, item in value.items() if key in known})


@dataclass(frozen=True)
class LogRequest:
    """What of a log a reader wants; times are RFC 3339 or ""."""

    log: str
    follow: bool = False
    tail: int = -1
    since: str = ""
    until: str = ""
    socket: str = ""
    """The shim's socket, to follow; a shim that is not there ends the following."""
    framing: str = "frames"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def dump(value: dict[str, Any]) -> bytes:
    """One document of the control protocol."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
