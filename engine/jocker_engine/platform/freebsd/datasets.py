"""What is said to zfs(8) and zpool(8), and what they answer. Pure: words in, words out.

Written for OpenZFS 2.2 and later (FreeBSD 14, 15). What zfs-fuse (pool version 23) does otherwise is said where it
matters: it has no `list -p`, `diff`, `receive -u` or `zpool sync`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..interfaces import Change

LAYER, CONTAINER = "layer", "container"

_HOME = (
    "canmount=off",
    "mountpoint=none",
    "atime=off",
    "exec=on",
    "setuid=on",
    "readonly=off",
    "snapdir=hidden",
)
"""Properties of the datasets that hold ours: what a pool's own settings must not take from containers.

`.zfs` stays out of directory listings, or every copy of a tree would have the snapshots in it.
"""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]*(/[a-zA-Z0-9_.:-]+)*")


class BadName(ValueError):
    """It is no name of a dataset; one line."""


def check_name(name: str) -> str:
    """The name of a file system, POOL[/PATH], as we take it: without blanks. Raises BadName."""
    if not _NAME.fullmatch(name) or len(name) > 128:
        raise BadName(
            f"{name!r} is no name of a dataset: POOL/NAME, of letters, digits, `_`, `.`, `-` and `:`, at most 128"
        )
    return name


@dataclass(frozen=True)
class Names:
    """Datasets and mount points of one engine. Ids are hex, or the name of a volume."""

    root: str
    """ROOT, such as zroot/jocker: ROOT/layer/ID, each sealed by the snapshot ROOT/layer/ID@ID, and ROOT/container/ID."""
    volumes: str
    """The parent of volumes; ROOT/volumes, or any other dataset."""
    mounts: str
    """The directory that everything is mounted below, as KIND/ID."""

    @property
    def pool(self) -> str:
        """The pool of ROOT."""
        return self.root.partition("/")[0]

    def home(self, kind: str) -> str:
        """The parent of all of a kind."""
        return f"{self.root}/{kind}"

    def layer(self, layer: str) -> str:
        """A layer's dataset."""
        return f"{self.root}/{LAYER}/{layer}"

    def sealed(self, layer: str) -> str:
        """A layer's content. Named by the layer, since equal names of parent and clone would collide on promote."""
        return f"{self.layer(layer)}@{layer}"

    def is_layer(self, snapshot: str) -> bool:
        """Whether it is a layer's content at its own place (promote may have moved it)."""
        return snapshot == self.sealed(snapshot.rpartition("@")[2])

    def tree(self, tree: str) -> str:
        """A writable tree's dataset."""
        return f"{self.root}/{CONTAINER}/{tree}"

    def volume(self, volume: str) -> str:
        """A volume's dataset."""
        return f"{self.volumes}/{volume}"

    def below(self, home: str, names: Iterable[str]) -> frozenset[str]:
        """Ids, of these datasets, that lie directly below a parent; what is deeper belongs to one of them."""
        prefix = home + "/"
        return frozenset(name[len(prefix) :].partition("/")[0] for name in names if name.startswith(prefix))


# --- commands ------------------------------------------------------------------------------------


def make_home(dataset: str) -> list[str]:
    """A dataset that only holds others."""
    return ["zfs", "create", *_options(_HOME), dataset]


def make(dataset: str, mountpoint: str, quota: int = 0) -> list[str]:
    """An empty file system, not mounted."""
    return ["zfs", "create", *_options(own(mountpoint, quota)), dataset]


def clone(snapshot: str, dataset: str, mountpoint: str, quota: int = 0) -> list[str]:
    """A writable clone, not mounted. Its quota counts what it does not share with the snapshot."""
    return ["zfs", "clone", *_options(own(mountpoint, quota)), snapshot, dataset]


def own(mountpoint: str, quota: int = 0) -> list[str]:
    """Properties of each dataset of ours. canmount=noauto: nothing mounts it at boot, over whatever is there, but we do when it is used."""
    return ["canmount=noauto", f"mountpoint={mountpoint}", *([f"quota={quota}"] if quota else [])]


def _options(properties: Iterable[str]) -> list[str]:
    return [word for item in properties for word in ("-o", item)]


def destroy(dataset: str, *, force: bool = False) -> list[str]:
    """With its snapshots and children; `force` unmounts under whoever stands in it."""
    return ["zfs", "destroy", "-rf" if force else "-r", dataset]


def send(snapshot: str) -> list[str]:
    """A stream of a snapshot, without properties: the copy has those of its new parent."""
    return ["zfs", "send", snapshot]


def receive(dataset: str, *, mount: bool = False) -> list[str]:
    """A dataset from a stream, whole or not at all; zfs-fuse cannot but mount it."""
    return ["zfs", "receive", *([] if mount else ["-u"]), dataset]


def list_names(*datasets: str) -> list[str]:
    """All file systems at and below these."""
    return ["zfs", "list", "-H", "-r", "-t", "filesystem", "-o", "name", *datasets]


def list_origins(dataset: str) -> list[str]:
    """All file systems at and below this one, and the snapshots they are clones of."""
    return ["zfs", "list", "-H", "-r", "-t", "filesystem", "-o", "name,origin", dataset]


def list_used(*datasets: str) -> list[str]:
    """What each file system takes, in one go."""
    return ["zfs", "list", "-Hp", "-r", "-t", "filesystem", "-o", "name,used", *datasets]


def get_used(*datasets: str) -> list[str]:
    """The same of zfs-fuse, whose `list` has no -p."""
    return ["zfs", "get", "-rHp", "-o", "name,value", "used", *datasets]


def get(property: str, *datasets: str) -> list[str]:
    """One property, of these datasets only."""
    return ["zfs", "get", "-Hp", "-o", "name,value", property, *datasets]


def diff(snapshot: str, dataset: str) -> list[str]:
    """-F types, -H tabs, -h names as they are."""
    return ["zfs", "diff", "-FHh", snapshot, dataset]


# --- answers -------------------------------------------------------------------------------------

_SAYINGS = (
    ("dependent clones", "clones"),
    ("has dependent", "clones"),
    ("does not exist", "absent"),
    ("no such pool", "absent"),
    ("could not find any snapshots", "absent"),
    ("already exists", "exists"),
    ("already mounted", "mounted"),
    ("not currently mounted", "unmounted"),
    ("is busy", "busy"),
    ("resource busy", "busy"),
    ("out of space", "full"),
    ("size is less than current used", "quota"),
    ("unrecognized command", "old"),
    ("invalid option", "old"),
)


def problem(stderr: str) -> str:
    """What kind of refusal this is, by what libzfs says in the C locale; "" for one we do nothing about.

    clones: others stand on it; absent; exists; mounted already; unmounted already; busy; full; quota: below what is
    used; old: this zfs has no such command or option.
    """
    said = stderr.lower()
    return next((kind for words, kind in _SAYINGS if words in said), "")


def table(stdout: str) -> list[list[str]]:
    """What -H prints: a line each, columns divided by one tab."""
    return [line.split("\t") for line in stdout.splitlines() if line]


def used(stdout: str) -> dict[str, int]:
    """Of `list_used` and of `get used`: dataset -> bytes."""
    return {name: int(value) for name, value in table(stdout) if "@" not in name}


def clones(stdout: str, dataset: str) -> list[str]:
    """Of `list_origins`: file systems outside of a dataset that stand on a snapshot in it."""
    inside = (f"{dataset}@", f"{dataset}/")
    return [
        name
        for name, origin in table(stdout)
        if origin.startswith(inside) and name != dataset and not name.startswith(inside[1])
    ]


@dataclass(frozen=True)
class _Entry:
    kind: str
    type: str
    path: str
    to: str = ""


class Inexact(Exception):
    """`zfs diff` tells of a link that came or went, and does not say which name that is."""


def changes(stdout: str, mountpoint: str) -> tuple[list[Change], list[str]]:
    """Of `diff`: changes by path, as they are seen from the tree's root, and directories that were renamed.

    What is in a renamed directory is not listed by zfs: the caller adds it, from the tree. Raises Inexact.
    Source: zfs-diff(8); `(on_delete_queue)` and `<xattrdir>` are from libzfs.
    """
    entries = list(_entries(stdout, mountpoint))
    gone: dict[str, str] = {}
    there: dict[str, tuple[str, str]] = {}
    for entry in entries:
        if entry.kind == "-":
            gone[entry.path] = entry.type
        elif entry.kind == "R":
            gone[entry.path] = entry.type
            there[entry.to] = ("A", entry.type)
        elif entry.kind == "+":
            there[entry.path] = ("A", entry.type)
        else:
            there.setdefault(entry.path, ("C", entry.type))
    found = {path: ("C" if path in gone else kind) for path, (kind, _) in there.items()}
    for path in gone:
        if path not in there and not _lost_with_parent(path, gone, there):
            found[path] = "D"
    for path in list(found):  # zfs tells of a directory only when its own list has changed
        while (path := path.rpartition("/")[0]) != "":
            found.setdefault(path, "C")
    found.pop("/", None)
    moved = [entry.to for entry in entries if entry.kind == "R" and entry.type == "/"]
    return [Change(kind, path) for path, kind in sorted(found.items())], moved


def _lost_with_parent(path: str, gone: dict[str, str], there: dict[str, tuple[str, str]]) -> bool:
    """Whether a directory above is gone too, or is something else now."""
    while (path := path.rpartition("/")[0]) != "":
        if path in there:
            return there[path][1] != "/"
        if path in gone:
            return True
    return False


def _entries(stdout: str, mountpoint: str) -> Iterable[_Entry]:
    """Names may hold tabs and line feeds; a record begins with a kind, a type and the mount point."""
    root = mountpoint.rstrip("/")
    start = re.compile(rf"^([-+MR])\t([^\n])\t{re.escape(root)}(?=[/(])", re.MULTILINE)
    marks = list(start.finditer(stdout))
    for mark, end in zip(marks, [*(m.start() for m in marks[1:]), len(stdout)], strict=True):
        kind, type_, rest = mark[1], mark[2], stdout[mark.end() : end].removesuffix("\n")
        if rest.startswith("(on_delete_queue)") or "/<xattrdir>" in rest:
            continue
        if re.search(r"\t\([+-][0-9]+\)$", rest):
            raise Inexact
        if kind == "R":
            old, _, new = rest.partition(f"\t{root}/")
            yield _Entry(kind, type_, old, "/" + new)
        else:
            yield _Entry(kind, type_, rest)
