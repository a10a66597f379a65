"""When a reproducible build claims to have been made. Standard library only, loaded on use.

Source: https://reproducible-builds.org/specs/source-date-epoch/
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from jocker_protocol.errors import InvalidParams

NO_DATE = 315532800
"""1980-01-01, the earliest that every archive format can say: of a context without a history, since the times of its
files are those of their copying."""


def source_date_epoch(context: str, build_args: Mapping[str, str]) -> int:
    """Seconds since 1970: SOURCE_DATE_EPOCH as a build argument or in the environment, the newest commit of the git
    repository that the context is in, NO_DATE. Raises InvalidParams.
    """
    for text in (build_args.get("SOURCE_DATE_EPOCH"), os.environ.get("SOURCE_DATE_EPOCH")):
        if text:
            if not text.isascii() or not text.isdigit() or int(text) > 2**33:
                raise InvalidParams(f"SOURCE_DATE_EPOCH={text!r}: must be seconds since 1970")
            return int(text)
    return _newest_commit(context) if os.path.isdir(context) else NO_DATE


def _newest_commit(directory: str) -> int:
    """Of what is checked out; NO_DATE where there is no repository, or no git."""
    # The repository may be another user's: nothing in its configuration is run for this.
    argv = ["git", "-c", "safe.directory=*", "-C", directory, "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    except OSError:
        return NO_DATE
    said = done.stdout.strip()
    return int(said) if done.returncode == 0 and said.isdigit() else NO_DATE
