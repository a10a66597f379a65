"""The firewall of the networks: one nftables table of this engine's own, in which each network has chains of its own.

All chains of a network are replaced in one transaction (`nft -f -`), so that no packet ever meets half of them, and
other networks' rules and the host's are not touched. Each rule carries a digest of all rules of its network as its
comment; by that the audit sees whether what is there is what should be. Source: nft(8).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import trio

from ..commands import Commands
from ..interfaces import Network, Publication

_HOOKS = {
    "raw": "filter hook prerouting priority -300",
    "published": "nat hook prerouting priority -100",
    "local": "nat hook output priority -100",
    "leaving": "nat hook postrouting priority 100",
    "forward": "filter hook forward priority 0",
}
"""Chains of a network, and where they hook in: raw before connection tracking, `local` for what the host sends."""


def rules(network: Network, publications: Sequence[Publication]) -> dict[str, list[str]]:
    """Chain -> its rules."""
    bridge = f'"{network.interface}"'
    found: dict[str, list[str]] = {hook: [] for hook in _HOOKS}
    # Packets to 127.0.0.0/8 may pass this bridge, for published ports on it; none that a container made up.
    found["raw"] = [f"iifname {bridge} ip daddr 127.0.0.0/8 drop"]
    for each in filter(lambda each: each.translated, publications):
        found["published"].append(_redirect(each))
        found["local"].append(_redirect(each))
    for subnet in (each.subnet for each in network.subnets):
        ip = "ip6" if ":" in subnet else "ip"
        if not network.internal and network.nat != "off":
            out = f' oifname "{network.nat}"' if network.nat else ""
            found["leaving"].append(f"{ip} saddr {subnet} oifname != {bridge}{out} masquerade")
        # A container that goes to a published port of its own network must be answered through the host.
        found["leaving"].append(f"{ip} saddr {subnet} oifname {bridge} ct status dnat masquerade")
    found["leaving"].append(f"ip saddr 127.0.0.0/8 oifname {bridge} masquerade")
    found["forward"] = [
        f"iifname {bridge} oifname {bridge} accept",
        *([f"iifname {bridge} drop"] if network.internal else []),
        f"oifname {bridge} ct state established,related accept",
        *([] if network.internal else [f"oifname {bridge} ct status dnat accept"]),
        f"oifname {bridge} drop",
    ]
    return found


def _redirect(each: Publication) -> str:
    port = f"{each.protocol} dport {each.host_port}"
    if ":" in each.container_ip:
        anywhere = each.host_ip == "::"
        where = (
            "meta nfproto ipv6 fib daddr type local ip6 daddr != ::1"
            if anywhere
            else f"ip6 daddr {each.host_ip}"
        )
        return f"{where} {port} dnat ip6 to [{each.container_ip}]:{each.container_port}"
    anywhere = each.host_ip == "0.0.0.0"
    where = "meta nfproto ipv4 fib daddr type local" if anywhere else f"ip daddr {each.host_ip}"
    return f"{where} {port} dnat ip to {each.container_ip}:{each.container_port}"


def digest(found: dict[str, list[str]]) -> str:
    """Of the rules of one network."""
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


class Firewall:
    """One table, in the family inet."""

    def __init__(self, commands: Commands, table: str) -> None:
        self._commands = commands
        self.table = table
        self._one_at_a_time = trio.Lock()
        """The kernel takes one transaction at a time anyway; here it keeps a table from going while another network comes."""

    async def load(self, network: Network, publications: Sequence[Publication]) -> None:
        """These are the network's rules now."""
        found = rules(network, publications)
        comment = f' comment "{digest(found)}"'
        lines = [f"add table inet {self.table}"]
        for hook, where in _HOOKS.items():
            chain = f"inet {self.table} {_chain(network, hook)}"
            lines += [f"add chain {chain} {{ type {where}; policy accept; }}", f"flush chain {chain}"]
            lines += [f"add rule {chain} {rule}{comment}" for rule in found[hook]]
        async with self._one_at_a_time:
            await self._apply(lines)

    async def remove(self, token: str) -> None:
        """The chains of a network, and the table with the last of them."""
        async with self._one_at_a_time:
            there = await self.tokens()
            if not there - {token}:
                await self._apply([f"add table inet {self.table}", f"delete table inet {self.table}"])
                return
            lines = []
            for hook, where in _HOOKS.items():
                chain = f"inet {self.table} {token}-{hook}"
                lines += [
                    f"add chain {chain} {{ type {where}; }}",
                    f"flush chain {chain}",
                    f"delete chain {chain}",
                ]
            await self._apply(lines)

    async def tokens(self) -> set[str]:
        """Networks of which the table has anything."""
        return {name.partition("-")[0] for name in await self.comments()}

    async def comments(self) -> dict[str, list[str]]:
        """Chain -> the comments of its rules, in order."""
        done = await self._commands.run(["nft", "-j", "list", "table", "inet", self.table], check=False)
        if done.exit_code != 0:
            return {}
        found: dict[str, list[str]] = {}
        for item in json.loads(done.stdout)["nftables"]:
            if "chain" in item:
                found.setdefault(item["chain"]["name"], [])
            elif "rule" in item:
                found.setdefault(item["rule"]["chain"], []).append(item["rule"].get("comment", ""))
        return found

    async def strangers(self) -> list[tuple[str, str]]:
        """(table, chain) of others that drop what is forwarded unless a rule of theirs takes it, with the text of each."""
        done = await self._commands.run(["nft", "-j", "list", "chains"], check=False)
        if done.exit_code != 0:
            return []
        found = []
        for item in json.loads(done.stdout)["nftables"]:
            chain: dict[str, Any] = item.get("chain", {})
            if (
                chain.get("hook") == "forward"
                and chain.get("policy") == "drop"
                and chain["table"] != self.table
            ):
                name = [chain["family"], chain["table"], chain["name"]]
                text = await self._commands.run(["nft", "list", "chain", *name], check=False)
                found.append((" ".join(name), text.stdout))
        return found

    async def _apply(self, lines: Sequence[str]) -> None:
        await self._commands.run(["nft", "-f", "-"], input=("\n".join(lines) + "\n").encode())


def token(network: Network) -> str:
    """What a network's chains begin with."""
    return f"n{network.id[:12]}"


def _chain(network: Network, hook: str) -> str:
    return f"{token(network)}-{hook}"


def expected(network: Network, publications: Sequence[Publication]) -> dict[str, list[str]]:
    """What `comments` has of a network that is whole."""
    found = rules(network, publications)
    comment = digest(found)
    return {_chain(network, hook): [comment] * len(found[hook]) for hook in _HOOKS}
