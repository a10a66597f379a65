"""What is mounted into a container: what was asked for, what other containers have, what the image wants."""

from __future__ import annotations

import os
import posixpath
import re

from jocker_protocol import types as t
from jocker_protocol.errors import InvalidParams

from ..db.records import ContainerRecord, MountRecord
from ..otp import System
from ..volumes.manager import EnsureVolume

_TMPFS = re.compile(
    r"(size=\d+[kmgKMG%]?|mode=[0-7]{1,4}|[ug]id=\d+|nr_inodes=\d+[kmgKMG]?|(no)?(exec|suid|dev)|rw|ro)"
)
_BIND = ("private", "rprivate", "slave", "rslave", "shared", "rshared", "bind")


def all_mounts(asked: list[t.Mount], config: t.ImageConfig, taken: set[str]) -> list[t.Mount]:
    """What was asked for, and an anonymous volume for each VOLUME of the image that nothing else covers: no mount
    asked for, and none at the `taken` targets.
    """
    targets = {posixpath.normpath(mount.target) for mount in asked}
    if len(targets) < len(asked):
        raise InvalidParams("mounts: two of them have the same target")
    extra = [
        t.Mount(type="volume", target=path)
        for path in config.volumes
        if posixpath.normpath(path) not in targets | taken
    ]
    return sorted([*asked, *extra], key=lambda mount: mount.target.count("/"))


def of_others(record: ContainerRecord, read_only: bool) -> list[MountRecord]:
    """What --volumes-from takes over; anonymous volumes stay the other container's."""
    return [
        MountRecord(
            type=mount.type,
            source=mount.source,
            path=mount.path,
            target=mount.target,
            read_only=mount.read_only or read_only,
            options=mount.options,
            no_copy=True,
        )
        for mount in record.mounts
        if mount.type != "tmpfs"
    ]


def split_from(text: str) -> tuple[str, bool]:
    """(container, read-only) of "CONTAINER[:ro|:rw]"."""
    name, _, mode = text.partition(":")
    if mode not in ("", "ro", "rw"):
        raise InvalidParams(f"volumes_from: {text!r} must be CONTAINER, CONTAINER:ro or CONTAINER:rw")
    return name, mode == "ro"


async def make(system: System, mount: t.Mount) -> MountRecord:
    """The volume or the directory is there afterwards. Raises InvalidParams."""
    if not posixpath.isabs(mount.target) or posixpath.normpath(mount.target) == "/":
        raise InvalidParams(f"mounts: target {mount.target!r} must be an absolute path other than /")
    path, source, anonymous, options = "", mount.source, False, _options(mount)
    if mount.type == "volume":
        anonymous = not mount.source
        volume, _ = await system.ref("volumes").call(
            EnsureVolume(mount.source, anonymous=anonymous, owned=anonymous)
        )
        path, source = volume.path, volume.name
    elif mount.type == "bind":
        if not os.path.isabs(mount.source):
            raise InvalidParams(f"mounts: source {mount.source!r} must be an absolute path of the host")
        if not os.path.exists(mount.source):
            if mount.must_exist:
                raise InvalidParams(
                    f"mounts: source {mount.source!r} is not there; make it, or use -v, which does"
                )
            os.makedirs(mount.source)  # as docker -v does
        path = mount.source
    return MountRecord(
        type=mount.type,
        source=source,
        path=path,
        target=posixpath.normpath(mount.target),
        read_only=mount.read_only or "ro" in options,
        anonymous=anonymous,
        options=[option for option in options if option not in ("ro", "rw")],
        no_copy=mount.no_copy,
    )


def _options(mount: t.Mount) -> list[str]:
    for option in mount.options:
        if mount.type == "tmpfs" and not _TMPFS.fullmatch(option):
            raise InvalidParams(
                f"mounts: {option!r} is no option of a tmpfs; there are size=, mode=, uid=, gid=, exec ..."
            )
        if mount.type == "bind" and option not in _BIND:
            raise InvalidParams(f"mounts: {option!r} is no propagation; there are {', '.join(_BIND)}")
        if mount.type == "volume":
            raise InvalidParams(f"mounts: a volume has no mount options such as {option!r}")
    return mount.options
