"""Worker operation: two commands, the output of the first the input of the second. Blocking; standard library only."""

from __future__ import annotations

import subprocess
import tempfile

_SAID = 4096
"""Bytes of each standard error that are kept, the last ones."""


def pipe(first: list[str], second: list[str]) -> dict[str, list[int] | list[str]]:
    """{"codes": exit statuses, "said": standard errors} of both, when both have ended. Raises OSError."""
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as two:
        left = subprocess.Popen(first, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=one)
        right = subprocess.Popen(second, stdin=left.stdout, stdout=subprocess.DEVNULL, stderr=two)
        assert left.stdout is not None
        left.stdout.close()  # or the first would not notice that the second has ended
        codes = [left.wait(), right.wait()]
        said = []
        for file in (one, two):
            file.seek(max(0, file.seek(0, 2) - _SAID))
            said.append(file.read().decode(errors="replace"))
    return {"codes": codes, "said": said}
