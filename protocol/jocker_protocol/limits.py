"""What a container may take and what it may do: over the wire, in its record, and what runtime drivers enforce.

Sizes are bytes. 0, "", [] and false mean that nothing is asked for: the platform's own default holds.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class _Part(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Of a container's creation."""


class Ulimit(_Part, frozen=True):
    """A resource limit of each process, by setrlimit(2)'s name in lower case, such as "nofile"; -1: no limit."""

    name: str
    soft: int
    hard: int


class Limits(_Part, frozen=True):
    """What all processes of a container may take together."""

    memory: int = 0
    memory_swap: int = 0
    """Memory and swap together; -1: as much swap as there is; 0: twice the memory."""
    memory_reservation: int = 0
    """What it is pressed down to when the host runs short."""
    cpus: float = 0
    """Processors' time, such as 1.5."""
    cpu_shares: int = 0
    """Weight against other containers, when all want more than there is; 1024 is usual."""
    cpuset_cpus: str = ""
    """The processors it may run on: "0-2,4"."""
    pids: int = 0
    """Processes and threads; -1: no limit."""
    ulimits: list[Ulimit] = []
    shm_size: int = 0
    """Of /dev/shm."""
    storage: int = 0
    """Of what it writes to its own root."""
    oom_score_adj: int = 0
    """-1000 to 1000: how soon the kernel kills it when the host's memory is short."""


class Device(_Part, frozen=True):
    """A device of the host, or a directory of devices."""

    source: str
    target: str = ""
    """Inside; "": as on the host."""
    permissions: str = "rwm"
    """Letters of r, w, m (mknod)."""


class Security(_Part, frozen=True):
    """What the processes of a container may do."""

    privileged: bool = False
    """All capabilities, all devices, no filter: as good as root on the host."""
    cap_add: list[str] = []
    """Names of capabilities(7), "CAP_" may be left out, or "ALL"."""
    cap_drop: list[str] = []
    no_new_privileges: bool = False
    """execve(2) gives no privileges: set-uid programs do not work."""
    seccomp: str = ""
    """"unconfined", or a profile: the text of a JSON file as Docker or the OCI specification has it."""
    devices: list[Device] = []
    sysctls: dict[str, str] = {}
    """Kernel parameters that containers have their own of."""
    group_add: list[str] = []
    """More groups of the main process, by name or id."""
    read_only: bool = False
    """Nothing can be written to the root; mounts are as they say."""
    pid: Literal["", "host"] = ""
    """"host": without a pid namespace of its own; so, below, IPC and host name."""
    ipc: Literal["", "host"] = ""
    uts: Literal["", "host"] = ""
