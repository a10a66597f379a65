"""What has gone through a jail's own interfaces, the host's routes, who listens: netstat(1), sockstat(1). Pure."""

from __future__ import annotations

import json


def counters(jail: str) -> list[str]:
    """Bytes by interface, in JSON."""
    return ["netstat", "-j", jail, "-ibn", "--libxo", "json"]


def parse_counters(text: str) -> tuple[int, int]:
    """Bytes received and sent, without the loopback's; each interface has a line of its own beside its addresses'."""
    if not text.strip().startswith("{"):
        return 0, 0
    rows = json.loads(text).get("statistics", {}).get("interface", [])
    own = [
        row
        for row in rows
        if row.get("network", "").startswith("<Link#") and not row["name"].startswith("lo")
    ]
    return sum(int(row.get("received-bytes", 0)) for row in own), sum(
        int(row.get("sent-bytes", 0)) for row in own
    )


ROUTES = ["netstat", "-rn"]


def parse_routes(text: str) -> list[tuple[str, str]]:
    """(subnet, interface) of each route to a subnet; default, single hosts and link-local ones left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4 and "/" in words[0] and "%" not in words[0] and "U" in words[2]:
            found.append((words[0], words[3]))
    return found


def listeners(protocol: str, port: int) -> list[str]:
    """Sockets that listen on a port."""
    return ["sockstat", "-l", "-P", protocol, "-p", str(port)]


def parse_holder(text: str) -> str:
    """ "nginx, pid 71" of the first line; "" without one."""
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) >= 6 and words[2].isdigit():
            return f"{words[1]}, pid {words[2]}"
    return ""
