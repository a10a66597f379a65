"""chmod's modes: against chmod(1) itself."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from jocker_engine.platform.worker.modes import BadMode, parse_mode

MODES = "755 0644 7 4755 u=rwX,go=rX a+x u+s,g-w o= u=g g=u+w a=rx,u+w +t ug=rw,o-rwx u-x+w,g+X a+X go-rwx o=u-w u+rwx,o=g"


@pytest.mark.parametrize("text", MODES.split())
def test_modes_are_those_of_chmod(tmp_path: Path, text: str) -> None:
    change = parse_mode(text)
    for mode in (0o644, 0o755, 0o4711, 0o600, 0o000, 0o2775, 0o1777):
        for directory in (True, False):
            path = tmp_path / f"{mode:o}{directory}"
            path.mkdir() if directory else path.touch()
            path.chmod(mode)
            subprocess.run(["chmod", text, str(path)], check=True, timeout=60)
            if directory and text.isdigit():  # GNU's chmod keeps set-id bits of directories then
                os.chmod(path, int(text, 8))
            assert change(mode, directory) == stat.S_IMODE(path.stat().st_mode), (text, oct(mode), directory)


@pytest.mark.parametrize(
    "text", ["", "8", "rwx", "77777", "u", "u=q", "=rw,", "1x", "u=rw;g=r", "0o755", "-1"]
)
def test_what_is_no_mode(text: str) -> None:
    with pytest.raises(BadMode, match="octal up to 7777"):
        parse_mode(text)
