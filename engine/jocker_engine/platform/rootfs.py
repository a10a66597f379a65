"""Looking into a container's file system from outside: no link in it ever leads out of it.

May be used by drivers and workers. The walk resolves every component itself, as a process that is
chrooted there would see it; the file system must not change meanwhile (nothing runs in it yet).
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass


def resolve(root: str, path: str, *, create: bool = False) -> str:
    """The host path of `path` inside `root`, all links followed; it need not exist.

    With create, directories missing on the way (the last component too) are made, mode 755.
    Raises OSError: ELOOP after 40 links (path_resolution(7)), ENOTDIR where a file is in the way.
    """
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            del done[-1:]
            continue
        here = os.path.join(root, *done, part)
        try:
            target = os.readlink(here)
        except FileNotFoundError:
            if create:
                os.mkdir(here, 0o755)
            done.append(part)
            continue
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            if todo and not os.path.isdir(here):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", here) from None
            done.append(part)
            continue
        links += 1
        if links > 40:
            raise OSError(errno.ELOOP, "too many links", path)
        if target.startswith("/"):
            done = []
        todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
    return os.path.join(root, *done)


@dataclass(frozen=True)
class User:
    """Who a process runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str


class NoSuchUser(LookupError):
    """The container's own passwd(5) or group(5) does not have it."""


def _entries(root: str, path: str) -> list[list[str]]:
    try:
        with open(resolve(root, path), encoding="utf-8", errors="surrogateescape") as file:
            return [line.rstrip("\n").split(":") for line in file if line.strip() and line[0] not in "#+-"]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []


def lookup_user(root: str, user: str) -> User:
    """USER as Docker has it: "", name, uid, name:group, uid:gid, looked up in the container's own files.

    A uid without an entry has gid 0 and home /. Raises NoSuchUser for a name without an entry.
    """
    name, _, group = user.partition(":")
    name = name or "0"
    entries = [entry for entry in _entries(root, "/etc/passwd") if len(entry) >= 6 and entry[2].isdigit()]
    found = next((entry for entry in entries if entry[0] == name), None)
    if found is None and name.isdigit():
        found = next((entry for entry in entries if int(entry[2]) == int(name)), None)
    if found is not None:
        name, uid, home = found[0], int(found[2]), found[5] or "/"
        gid = int(found[3]) if found[3].isdigit() else 0
    elif name.isdigit():
        uid, gid, home = int(name), 0, "/"
    else:
        raise NoSuchUser(f"no user {name!r} in the container's /etc/passwd; use a name from there, or a uid")
    if group:
        return User(uid, lookup_group(root, group), (), home, name)
    rows = [row for row in _entries(root, "/etc/group") if len(row) >= 3 and row[2].isdigit()]
    groups = tuple(int(row[2]) for row in rows if len(row) >= 4 and name in row[3].split(","))
    return User(uid, gid, groups, home, name)


def lookup_group(root: str, group: str) -> int:
    """The id of a group by its name in the container's own file, or by id. Raises NoSuchUser."""
    for row in _entries(root, "/etc/group"):
        if len(row) >= 3 and row[0] == group and row[2].isdigit():
            return int(row[2])
    if group.isdigit():
        return int(group)
    raise NoSuchUser(f"no group {group!r} in the container's /etc/group; use a name from there, or a gid")
