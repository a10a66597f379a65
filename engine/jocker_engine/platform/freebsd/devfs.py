"""Which devices a jail sees: devfs(8) rulesets. Without one that is loaded it would see every device. Pure."""

from __future__ import annotations

JAIL = "4"
"""devfsrules_jail of /etc/defaults/devfs.rules: null, zero, random, fd, ptys, zfs."""

SHOWSETS = ["devfs", "rule", "showsets"]
MEND = "sysrc devfs_load_rulesets=YES && service devfs restart"
"""Before jails run: it takes the rules of running ones away for a moment."""


def parse_sets(text: str) -> frozenset[str]:
    """Numbers of the loaded rulesets."""
    return frozenset(text.split())


def show(ruleset: str) -> list[str]:
    """The rules of one."""
    return ["devfs", "rule", "-s", ruleset, "show"]


def hides(text: str) -> bool:
    """Whether a ruleset has rules at all: an empty one hides nothing."""
    return any(line.split()[:1] and line.split()[0].isdigit() for line in text.splitlines())
