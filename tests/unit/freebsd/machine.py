"""A stand-in for a FreeBSD: jails, mounts, limits and interfaces in memory, behind the commands that drivers run.

It shows that drivers do the right things in the right order and clear up; that the commands do what is assumed here
is shown by transcripts of a real one, and on FreeBSD by tests/platform.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from real import said

from jocker_engine.platform.commands import Commands, Completed, PlatformError
from jocker_engine.platform.freebsd.pf import LINES


@dataclass
class Jail:
    """One jail; `processes` are ids of none that is real."""

    jid: int
    file: str
    processes: dict[int, str] = field(default_factory=dict)


class Machine(Commands):
    """What is there, what was run, and how it misbehaves."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[list[str]] = []
        self.jails: dict[str, Jail] = {}
        self.mounted: list[tuple[str, str, str]] = []
        self.rules: list[str] = []
        self.shared_memory: list[str] = []
        self.parameters = said("jail-rctl", "sysctl -N security.jail.param").replace(" ", "\n")
        self.busy: dict[str, int] = {}
        """Mount point -> how often unmounting it fails without -f."""
        self.stubborn = False
        """`jail -r` fails, as when a hook does."""
        self.hangs = False
        self.no_rulesets = False
        self._jid = 0
        self.interfaces: dict[str, dict[str, object]] = {}
        self.pf_info = "Status: Enabled for 0 days 00:00:19          Debug: Urgent\n"
        self.pf_main = "".join(line + " all\n" for line in LINES)
        self.anchors: dict[str, str] = {}
        self.sysctls = {"net.inet.ip.forwarding": "0", "net.inet6.ip6.forwarding": "0"}
        self._epairs = 0
        self.addresses: dict[str, str] = {}
        """Jail -> ip4.addr."""
        self.outputs: dict[tuple[str, ...], str] = {}
        """Command line -> what it prints."""
        self.stuck: dict[str, int] = {}
        """Interface -> how often destroying it fails."""
        for name, flags, groups, addresses in (
            ("vtnet0", "UP,RUNNING", "", ["10.0.2.15/24"]),
            ("lo0", "UP,LOOPBACK", "lo", ["127.0.0.1/8", "::1/128"]),
        ):
            self.interfaces[name] = {"flags": flags, "groups": groups, "addresses": addresses}

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 60.0,
        input: bytes | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        words = list(argv)
        self.ran.append(words)
        code, out, error = self._answer(words, input)
        if check and code:
            raise PlatformError(
                f"{words[0]} failed with exit status {code}: {error}", argv=words, exit_code=code
            )
        return Completed(tuple(words), code, out, error)

    def of(self, *begin: str) -> list[list[str]]:
        """Commands that began so."""
        return [words for words in self.ran if words[: len(begin)] == list(begin)]

    def _answer(self, words: list[str], input: bytes | None) -> tuple[int, str, str]:
        if tuple(words) in self.outputs:
            return 0, self.outputs[tuple(words)], ""
        match words:
            case ["sysctl", "-N", "security.jail.param"]:
                return 0, self.parameters, ""
            case ["jls", "-d", "jid", "name", "dying"]:
                lines = [f"{jail.jid} {name} false" for name, jail in self.jails.items()]
                return 0, "".join(line + "\n" for line in lines), ""
            case ["jail", "-f", file, "-c", name]:
                return self._create(file, name)
            case ["jail", "-f", file, "-r", name]:
                if self.hangs:
                    raise PlatformError("jail did not end within 40 s and was killed", argv=words)
                if self.stubborn:
                    return 1, "", "jail: /bin/false: failed"
                return self._remove(name)
            case ["jail", "-R", name]:
                return self._remove(name)
            case ["ps", "-J", name, *_]:
                jail = self.jails.get(name)
                rows = [
                    {"pid": str(pid), "ppid": "1", "state": state}
                    for pid, state in (jail.processes if jail else {}).items()
                ]
                if not rows:  # ps.c ends before it opens its container
                    return 1, "{ }\n", ""
                return 0, json.dumps({"process-information": {"process": rows}}), ""
            case ["mount", "--libxo:J"]:
                rows = [
                    {"special": source, "node": node, "fstype": kind} for source, node, kind in self.mounted
                ]
                return 0, json.dumps({"mount": {"mounted": rows}}), ""
            case ["mount", "-t", kind, *_, source, target]:
                if any(node == target and special == source for special, node, _ in self.mounted):
                    return 1, "", f"mount_{kind}: {target}: Resource deadlock avoided"
                self.mounted.append((source, target, kind))
                return 0, "", ""
            case ["umount", "-f", target] | ["umount", target]:
                return self._unmount(target, force=words[1] == "-f")
            case ["devfs", "rule", "showsets"]:
                return (
                    0,
                    "" if self.no_rulesets else said("trace-devfs-nullfs-mounts", "devfs rule showsets"),
                    "",
                )
            case ["devfs", "rule", "-s", "4", "show"]:
                return 0, said("trace-devfs-nullfs-mounts", "devfs rule -s 4 show"), ""
            case ["rctl", "-a", rule]:
                self.rules.append(rule)
                return 0, "", ""
            case ["rctl", "-r", subject]:
                kept = [rule for rule in self.rules if not rule.startswith(subject + ":")]
                missing, self.rules = len(kept) == len(self.rules), kept
                return (1, "", "rctl: No such process") if missing else (0, "", "")
            case ["posixshmcontrol", "ls"]:
                lines = ["MODE    \tOWNER\tGROUP\tSIZE\tPATH"]
                lines += [f"rw-------\t0\t0\t16\t{name}" for name in self.shared_memory]
                return 0, "\n".join(lines) + "\n", ""
            case ["posixshmcontrol", "rm", name]:
                self.shared_memory.remove(name)
                return 0, "", ""
            case ["cpuset", "-l", cpus, "-j", name]:
                return (1, "", "cpuset: setaffinity: Invalid argument") if cpus == "7" else (0, "", "")
            case ["sysctl", "-n", name]:
                return (0, self.sysctls[name] + "\n", "") if name in self.sysctls else (1, "", "unknown oid")
            case ["sysctl", setting] if "=" in setting:
                name, _, value = setting.partition("=")
                self.sysctls[name] = value
                return 0, "", ""
            case ["ifconfig" | "/sbin/ifconfig" | "/sbin/route", *rest]:
                return self._ifconfig(rest) if words[0].endswith("ifconfig") else (0, "", "")
            case ["pfctl", *rest]:
                return self._pfctl(rest, (input or b"").decode())
            case ["jls", "-j", name, "ip4.addr" | "ip6.addr"]:
                return 0, self.addresses.get(name, "-") + "\n", ""
            case ["jail", "-m", name, addresses]:
                self.addresses[name.removeprefix("name=")] = addresses.partition("=")[2]
                return 0, "", ""
        raise AssertionError(f"the stand-in does not know {words}")

    def _ifconfig(self, words: list[str]) -> tuple[int, str, str]:
        match words:
            case ["-a"]:
                return 0, "".join(self._show(name) for name in self.interfaces), ""
            case ["epair", "create"]:
                a = f"epair{self._epairs}a"
                self._epairs += 1
                for name in (a, a[:-1] + "b"):
                    self.interfaces[name] = {"flags": "", "groups": "epair", "addresses": [], "pair": a}
                return 0, a + "\n", ""
            case [("bridge" | "lo") as kind, "create", "name", name, "group", group, "descr", text]:
                if name in self.interfaces:
                    self.interfaces[f"{kind}9"] = {"flags": "", "groups": kind, "addresses": []}
                    return 1, f"{kind}9\n", "ifconfig: ioctl SIOCSIFNAME (set name): File exists"
                flags = "LOOPBACK" if kind == "lo" else ""
                made = {
                    "flags": flags,
                    "groups": f"{kind} {group}",
                    "addresses": [],
                    "descr": text,
                    "members": [],
                }
                self.interfaces[name] = made
                return 0, name + "\n", ""
            case ["-j", *_]:
                return 0, "", ""
            case [name, *rest] if name in self.interfaces:
                return self._configure(name, rest)
        return 1, "", f"ifconfig: interface {words[0]} does not exist"

    def _configure(self, name: str, rest: list[str]) -> tuple[int, str, str]:
        mine = self.interfaces[name]
        match rest:
            case ["ether", address]:
                assert "named" not in mine and "UP" not in str(mine["flags"])  # straight after its making
                mine["ether"] = address
            case ["name", new, "group", group, "descr", text, "up"]:
                self.interfaces[new] = {
                    **mine,
                    "groups": f"{mine['groups']} {group}",
                    "descr": text,
                    "flags": "UP",
                    "named": 1,
                }
                del self.interfaces[name]
                return 0, new + "\n", ""
            case ["name", new]:
                self.interfaces[new] = {**self.interfaces.pop(name), "named": 1}
                return 0, new + "\n", ""
            case ["addm", member]:
                if member not in self.interfaces:
                    return 1, "", f"ifconfig: BRDGADD {member}: No such file or directory"
                mine["members"].append(member)  # type: ignore[attr-defined]
            case ["inet" | "inet6", address, "alias", *_]:
                if address not in mine["addresses"]:  # type: ignore[operator]
                    mine["addresses"].append(address)  # type: ignore[attr-defined]
            case ["inet" | "inet6", address, "-alias"]:
                mine["addresses"] = [each for each in mine["addresses"] if not each.startswith(address + "/")]  # type: ignore[attr-defined]
            case ["vnet", _]:
                del self.interfaces[name]
            case ["up"]:
                mine["flags"] = f"UP,{mine['flags']}"
            case ["destroy"]:
                if self.stuck.get(name, 0):
                    self.stuck[name] -= 1
                    return 1, "", "ifconfig: SIOCIFDESTROY: Device busy"
                pair = mine.get("pair", name)
                self.interfaces = {
                    k: v for k, v in self.interfaces.items() if k != name and v.get("pair") != pair
                }
            case ["-txcsum", "-txcsum6"]:
                return 1, "", "ifconfig: -txcsum6: bad value"
            case _:
                raise AssertionError(f"the stand-in does not know ifconfig {name} {rest}")
        return 0, "", ""

    def _show(self, name: str) -> str:
        mine = self.interfaces[name]
        lines = [f"{name}: flags=8843<{mine['flags']}> metric 0 mtu 1500"]
        if "descr" in mine:
            lines.append(f"\tdescription: {mine['descr']}")
        for address in mine["addresses"]:  # type: ignore[attr-defined]
            bare, _, length = address.partition("/")
            if ":" in bare:
                lines.append(f"\tinet6 {bare} prefixlen {length}")
            else:
                lines.append(f"\tinet {bare} netmask 0x{(0xFFFFFFFF << (32 - int(length))) & 0xFFFFFFFF:08x}")
        lines += [f"\tmember: {each} flags=143<LEARNING>" for each in mine.get("members", [])]  # type: ignore[attr-defined]
        if mine["groups"]:
            lines.append(f"\tgroups: {mine['groups']}")
        return "\n".join(lines) + "\n"

    def _pfctl(self, words: list[str], rules: str) -> tuple[int, str, str]:
        match words:
            case ["-s", "info"]:
                return (
                    (0, self.pf_info, "")
                    if self.pf_info
                    else (1, "", "pfctl: /dev/pf: No such file or directory")
                )
            case ["-sn"]:
                return 0, "".join(line + "\n" for line in self.pf_main.splitlines() if "-anchor" in line), ""
            case ["-sr"]:
                return (
                    0,
                    "".join(line + "\n" for line in self.pf_main.splitlines() if "-anchor" not in line),
                    "",
                )
            case ["-vsA"]:
                return 0, "".join(f"  {name}\n" for name in ("jocker", *self.anchors)), ""
            case ["-a", name, "-nf", "-"]:
                return (1, "", "stdin:2: syntax error") if "bogus" in rules else (0, "", "")
            case ["-a", name, "-f", "-"]:
                self.anchors[name] = rules
                return 0, "", ""
            case ["-a", name, "-F", "nat" | "rules"]:
                self.anchors.pop(name, None)
                return 0, "", ""
            case ["-a", name, ("-sn" | "-sr")]:
                return 0, self.anchors.get(name, ""), ""
        raise AssertionError(f"the stand-in does not know pfctl {words}")

    def _create(self, file: str, name: str) -> tuple[int, str, str]:
        with open(file, encoding="utf-8") as text:
            description = text.read()
        assert description.startswith(f"{name} {{\n") and re.search(
            r"^\tpersist;$", description, re.MULTILINE
        )
        if "= '/bin/false';" in description:
            return 1, "", "jail: /bin/false: failed"
        self._jid += 1
        self.jails[name] = Jail(self._jid, description)
        return 0, f"{name}: created\n", ""

    def _remove(self, name: str) -> tuple[int, str, str]:
        if name not in self.jails:
            return 1, "", f'jail: "{name}" not found'
        del self.jails[name]
        return 0, "", ""

    def _unmount(self, target: str, *, force: bool) -> tuple[int, str, str]:
        found = [entry for entry in self.mounted if entry[1] == target]
        if not found:
            return 1, "", f"umount: {target}: not a file system root directory"
        inside = [node for _, node, _ in self.mounted if node.startswith(target + "/")]
        if (self.busy.get(target, 0) > 0 and not force) or inside:
            self.busy[target] = self.busy.get(target, 0) - 1
            return 1, "", f"umount: unmount of {target} failed: Device busy"
        self.mounted.remove(found[-1])
        return 0, "", ""
