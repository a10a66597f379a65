"""What a stopped container would see mounted: made in a mount namespace of the worker's own, gone with it."""

from __future__ import annotations

import os
import sys

from ...shim import namespaces
from ..rootfs import resolve


def set_scene(root: str, scene: list[list[object]]) -> None:
    """Mount [source, target, read-only] into the root; nothing runs in it. The target "/" is the root itself, and last.

    Directories to mount on are made where they are missing, as the container's start would.
    """
    if not scene or sys.platform != "linux":
        return
    if os.geteuid() == 0:
        namespaces.own_mounts()
    else:
        namespaces.own_mounts(os.geteuid(), os.getegid())
    for source, target, read_only in scene:
        directory = os.path.isdir(str(source))
        point = root if target == "/" else resolve(root, str(target), create=directory)
        if os.path.exists(point) and os.path.isdir(point) == directory:
            namespaces.bind(str(source), point, bool(read_only))
