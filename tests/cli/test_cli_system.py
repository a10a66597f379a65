"""`jocker system tree --watch` on a terminal, and what `ps` and `inspect` show of health."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

from engines import Engine


def test_watching_the_tree_draws_over_itself_and_fits(shared: Engine) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 30, 0, 0))
    watching = shared.popen(
        "system", "tree", "--watch", "-n", "0.05", stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    )
    seen = b""
    while seen.count(b"\x1b[J") < 3:
        seen += os.read(ours, 4096)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(10) == 130
    pictures = seen.decode().split("\x1b[J")[:3]
    for picture in pictures:
        assert picture.startswith("\x1b[HNAME")
        lines = picture.removeprefix("\x1b[H").split("\x1b[K\r\n")[:-1]
        assert len(lines) == 5 and all(len(line) <= 30 for line in lines)
    os.close(ours)
    os.close(theirs)


def test_ps_and_inspect_show_health(shared: Engine) -> None:
    shared.jocker(
        *("run", "-d", "--name", "well", "--health-cmd", "echo fine", "--health-interval", "100ms", "base"),
        *("sleep", "100"),
    )
    shared.jocker("run", "-d", "--name", "plain", "base", "sleep", "100")
    wanted = ("ps", "--format", "{{.Names}} {{.Health}} {{.Status}}", "-f")
    for _ in range(200):
        shown = shared.jocker(*wanted, "health=healthy").stdout
        if shown:
            break
        time.sleep(0.05)
    assert re.fullmatch(r"well healthy Up .* \(healthy\)\n", shown)
    assert shared.jocker(*wanted, "health=none").stdout.startswith("plain  Up ")
    template = "{{.State.Health.Status}} {{.State.Health.FailingStreak}} {{range .State.Health.Log}}{{.ExitCode}}{{.Output}};{{end}}"
    shown = shared.jocker("inspect", "-f", template, "well").stdout
    assert re.fullmatch(r"healthy 0 (0fine\n?;){1,5}\n", shown)
    shared.jocker("rm", "-f", "well", "plain")


def test_what_takes_room(shared: Engine) -> None:
    shared.jocker("run", "--name", "wrote", "-v", "df-data:/data", "base", "sh", "-c",
                  "dd if=/dev/zero of=/big bs=1024 count=2048 && cat /big > /data/big")  # fmt: skip
    table = shared.jocker("system", "df").stdout.splitlines()
    assert table[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert [line.split("  ")[0] for line in table[1:]] == [
        "Images",
        "Containers",
        "Local Volumes",
        "Build Cache",
    ]
    used = shared.rpc("system.df")
    mine = next(item for item in used["containers"] if item["name"] == "wrote")
    assert mine["size"] >= 2 << 20 and mine["size_root_fs"] > mine["size"]
    assert next(item for item in used["volumes"] if item["name"] == "df-data")["size"] >= 2 << 20
    assert used["summary"]["images"]["size"] > used["summary"]["images"]["reclaimable"]
    assert "(virtual" in next(
        line for line in shared.jocker("ps", "-as").stdout.splitlines() if "wrote" in line
    )
    assert "Local Volumes space usage:" in shared.jocker("system", "df", "-v").stdout
    formatted = shared.jocker("system", "df", "--format", "{{.Type}} {{.Active}}").stdout
    assert formatted.splitlines()[2].startswith("Local Volumes ")
    shared.jocker("rm", "wrote")
    shared.jocker("volume", "rm", "df-data")
