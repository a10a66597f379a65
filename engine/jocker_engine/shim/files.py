"""Small things that shims do with files: the exit status, and sockets' names."""

from __future__ import annotations

import json
import os
from typing import Any


def write_status(path: str, status: dict[str, Any]) -> None:
    """Atomically, and synced to disk."""
    directory = os.path.dirname(path) or "."
    new = f"{path}.new"
    with open(new, "wb") as file:
        file.write(json.dumps(status).encode())
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove(path: str) -> None:
    """No error if it is not there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
