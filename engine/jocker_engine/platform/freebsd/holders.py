"""Who has a file open: fuser(1), which prints process ids on standard output and everything else on standard error."""

from __future__ import annotations

import os
import re
import subprocess

_TIME = 30.0
"""Seconds."""


def parse(text: str) -> list[int]:
    """Process ids; a letter behind one says how it uses the file."""
    return [int(number) for number in re.findall(r"\d+", text)]


def holders_of(path: str) -> list[int]:
    """Processes other than this one. Blocking: for before the engine's loop runs."""
    done = subprocess.run(
        ["/usr/bin/fuser", path], capture_output=True, text=True, timeout=_TIME, stdin=subprocess.DEVNULL
    )
    return [pid for pid in parse(done.stdout) if pid != os.getpid()]
