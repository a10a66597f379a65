"""Who has a port of the host. Source: proc_net(5), proc_pid_fd(5)."""

from __future__ import annotations

import os

_LISTENS = "0A"


def holder(protocol: str, port: int) -> str:
    """The program that has the port, with its process id; "" when that cannot be told."""
    wanted = {f"socket:[{inode}]" for inode in _sockets(protocol, port)}
    for pid in (name for name in os.listdir("/proc") if name.isdigit()) if wanted else ():
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in wanted:
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                        return f"{file.read().strip()}, pid {pid}"
        except OSError:
            continue  # it has ended, or is another user's
    return ""


def _sockets(protocol: str, port: int) -> list[str]:
    found = []
    for table in (protocol, f"{protocol}6"):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as file:
                lines = [line.split() for line in file][1:]
        except FileNotFoundError:
            continue
        for fields in lines:
            local, state, inode = fields[1], fields[3], fields[9]
            if int(local.rpartition(":")[2], 16) == port and (protocol == "udp" or state == _LISTENS):
                found.append(inode)
    return found
