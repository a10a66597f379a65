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
                return 0 if rows else 1, json.dumps({"process-information": {"process": rows}}), ""
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
        raise AssertionError(f"the stand-in does not know {words}")

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
