"""What has gone through a jail's own interfaces: netstat(1) -j. Pure."""

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
