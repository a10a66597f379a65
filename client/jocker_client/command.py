"""The command's way in and out, without what would make it slow: see cli/ for what it does."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """The entry point of `jocker`.

    Importing makes thousands of objects and no garbage, so that looking for some is put off. At the end there is
    nothing left to do for the interpreter: it need not take every module apart.
    """
    gc.disable()
    from .cli import main as run

    gc.freeze()
    gc.enable()
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
