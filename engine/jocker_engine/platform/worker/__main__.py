"""A worker process: one operation, its parameters as JSON on standard input, its result on standard output.

With the parameters as an argument in place of that, both are for the operation's own data, and the result is the last
line of standard error.

What a user can mend is answered as {"error": line}, an OSError with its number besides; anything else is a
traceback and an exit status. Standard library only, and each operation imports only what it needs.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from types import FrameType

OPERATIONS = {
    "apply_layer": "applylayer",
    "begin_context": "context",
    "clamp_times": "layertar",
    "clone": "clone",
    "compare_layers": "comparelayers",
    "compare_trees": "copytree",
    "copy_in": "copyin",
    "copy_tree": "copytree",
    "digest": "digest",
    "empty_tree": "copytree",
    "fetch": "fetch",
    "fetch_distribution": "distribution",
    "fill_volume": "copytree",
    "finish_context": "context",
    "host_settings": "distribution",
    "host_root": "hostroot",
    "import_tar": "untar",
    "layer_tar": "layertar",
    "overlay_changes": "overlaydiff",
    "pack": "pack",
    "place": "place",
    "pipe": "pipe",
    "probe_chroot": "namespaces",
    "probe_isolation": "namespaces",
    "read_archive": "readarchive",
    "remove_tree": "copytree",
    "save_archive": "savearchive",
    "save_tree": "savearchive",
    "seal_tree": "copytree",
    "stat_path": "place",
    "sync_tree": "copytree",
    "tree_size": "copytree",
    "tree_sizes": "copytree",
    "unpack": "untar",
}
"""Operation -> the module that has the function of this name."""

ANSWERS = (
    "ArchiveError",
    "CloneError",
    "ContextRefused",
    "CopyError",
    "FetchError",
    "HostRootError",
    "RecipeError",
)
"""Errors that are one line for the user; by name, so that their modules need not be imported."""


def _end(signum: int, frame: FrameType | None) -> None:
    """Not wanted any more: what is half made is taken away on the way out."""
    sys.exit(128 + signum)


def main() -> None:
    """Do it."""
    signal.signal(signal.SIGTERM, _end)
    operation = sys.argv[1]
    streamed = len(sys.argv) > 2
    params = json.loads(sys.argv[2]) if streamed else json.load(sys.stdin)
    module = importlib.import_module(f"jocker_engine.platform.worker.{OPERATIONS[operation]}")
    try:
        answer = getattr(module, operation)(**params)
    except OSError as error:
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
        answer = {"error": error.strerror or str(error), "errno": error.errno or 0, "path": path}
    except Exception as error:
        if type(error).__name__ not in ANSWERS:
            raise
        answer = {"error": str(error)}
    json.dump(answer, sys.stderr if streamed else sys.stdout)


if __name__ == "__main__":
    main()
