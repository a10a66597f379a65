"""Volumes: mounts of all kinds, quotas, snapshots, tars that come and go; what is in use is refused by name."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
from typing import Any

from conftest import need
from engines import BIN, Engine


def sh(engine: Engine, *options: str, script: str) -> str:
    done = engine.jocker("run", "--rm", *options, "base", "busybox", "sh", "-c", script, check=False)
    assert done.returncode == 0, done
    return done.stdout


def volumes(engine: Engine) -> list[str]:
    return engine.jocker("volume", "ls", "-q").stdout.split()


def test_mounts_as_docker_writes_them(shared: Engine, tmp_path: Any) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("host\n")
    said = sh(
        shared,
        *(
            "--mount",
            f"type=bind,src={tmp_path}/d,dst=/a,readonly",
            "--mount",
            "type=volume,source=m,target=/b",
        ),
        *("--mount", "type=tmpfs,target=/c,tmpfs-size=1m,tmpfs-mode=700", "-v", f"{tmp_path}/d/f:/one:ro"),
        *("--tmpfs", "/x:exec,size=1m", "-v", f"{tmp_path}/new:/new"),
        script="cat /a/f /one; (echo x > /a/g) 2>/dev/null || echo refused; echo kept > /b/f; stat -c %a /c;"
        " df -k /c | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2; grep -c ' /x .*noexec' /proc/mounts; echo n > /new/n",
    )
    assert said.split() == ["host", "host", "refused", "700", "1024", "0"]
    assert (tmp_path / "new" / "n").read_text() == "n\n"
    assert sh(shared, "-v", "m:/b", script="cat /b/f") == "kept\n"
    for wrong, part in (
        (["--mount", "type=bind,src=/nowhere/at/all,dst=/a"], "is not there"),
        (["--mount", "type=bind,dst=/a"], "source= is missing"),
        (["--mount", "type=volume,src=m"], "target= is missing"),
        (["--mount", "type=tmpfs,dst=/a,src=x"], "no source"),
        (["--mount", "type=nfs,dst=/a"], "must be one of"),
        (["--mount", "type=bind,src=/tmp,dst=/a,tmpfs-size=1m"], "does not go with"),
        (["-v", "m:/b:sometimes"], "no option"),
        (["-v", "m:relative"], "must be"),
        (["--tmpfs", "/a:wide"], "no option of a tmpfs"),
        (["-v", "m:/b", "--mount", "source=m,dst=/b"], "same target"),
        (["--volumes-from", "nobody"], "no such container"),
    ):
        done = shared.jocker("create", *wrong, "base", check=False)
        assert done.returncode == 125 and part in done.stderr and done.stderr.count("\n") == 1, done
    shared.jocker("volume", "rm", "m")
    assert volumes(shared) == []


def test_first_use_keeps_what_the_image_has(shared: Engine) -> None:
    dockerfile = (
        "FROM base\nRUN busybox mkdir -p /data/sub && echo of-the-image > /data/sub/f && busybox chown 5:6 /data/sub/f "
        "/data && chmod 750 /data && busybox ln -s sub /data/link\nVOLUME /data\n"
    )
    shared.jocker("build", "-t", "withdata", "-", input=dockerfile)
    look = "stat -c '%u %g %a' /data /data/sub/f; cat /data/link/f"
    run = ("run", "--rm", "-v", "first:/data", "withdata", "busybox", "sh", "-c")
    assert shared.jocker(*run, look).stdout.split("\n")[:3] == ["5 6 750", "5 6 644", "of-the-image"]
    shared.jocker(*run, "echo changed > /data/sub/f")
    assert "changed" in shared.jocker(*run, look).stdout  # only an empty one is filled
    none = shared.jocker("run", "--rm", "-v", "second:/data:nocopy", "withdata", "ls", "/data")
    assert none.stdout == ""
    # an anonymous one for VOLUME: gone with --rm and with rm -v, not with rm
    shared.jocker("run", "--rm", "withdata", "true")
    assert volumes(shared) == ["first", "second"]
    shared.jocker("create", "--name", "a", "withdata")
    shared.jocker("create", "--name", "b", "--volumes-from", "a:ro", "base", "sh", "-c", "echo x > /data/x")
    assert shared.jocker("start", "-a", "b", check=False).returncode != 0  # read-only there
    shared.jocker("rm", "-v", "a")
    assert len(volumes(shared)) == 3  # b has it too
    shared.jocker("rm", "-v", "b")
    assert len(volumes(shared)) == 3
    assert shared.jocker("volume", "prune", "-f").stdout.startswith("Deleted Volumes:\n")
    assert volumes(shared) == ["first", "second"]
    shared.jocker("volume", "rm", "first", "second")
    shared.jocker("rmi", "withdata")


def test_who_uses_it_is_named(shared: Engine) -> None:
    shared.jocker("volume", "create", "--label", "colour=red", "used")
    shared.jocker("run", "-d", "--name", "holder", "-v", "used:/data", "base", "sleep", "1000")
    shared.jocker("volume", "snapshot", "used", "s")
    for command in (("rm", "used"), ("restore", "used", "s"), ("import", "used", "/dev/null")):
        done = shared.jocker("volume", *command, check=False)
        assert done.returncode == 1 and "container holder" in done.stderr and done.stderr.count("\n") == 1, (
            done
        )
    assert shared.jocker("volume", "prune", "-a", "-f").stdout == "Total reclaimed space: 0B\n"
    shared.jocker("rm", "-f", "holder")
    kept = shared.jocker("volume", "prune", "-a", "-f", "--filter", "label!=colour=red").stdout
    assert "used" not in kept
    gone = shared.jocker("volume", "prune", "-a", "-f", "--filter", "label=colour").stdout
    assert gone.startswith("Deleted Volumes:\nused\n")


def test_a_quota_is_enforced(shared: Engine) -> None:
    need(os.geteuid() == 0, "images are mounted by root")
    shared.jocker("volume", "create", "--quota", "16m", "small")
    detail = json.loads(shared.jocker("volume", "inspect", "small").stdout)[0]
    assert detail["Quota"] == 16 << 20
    write = "dd if=/dev/zero of=/data/f bs=1M count=%d 2>&1 | tail -n 3; true"
    assert "No space left" not in sh(shared, "-v", "small:/data", script=write % 8)
    assert "No space left" in sh(shared, "-v", "small:/data", script=write % 32)
    again = shared.jocker("volume", "create", "--quota", "1g", "small", check=False)
    assert again.returncode == 1 and "another quota" in again.stderr
    tiny = shared.jocker("volume", "create", "--quota", "1k", "tiny", check=False)
    assert tiny.returncode == 1 and "at least 2m" in tiny.stderr
    shared.jocker("volume", "rm", "small")
    assert volumes(shared) == []
    if shared.platform == "linux":
        said = sh(shared, "--storage-size", "16m", script=(write % 32).replace("/data", ""))
        assert "No space left" in said
    else:
        refused = shared.jocker("create", "--storage-opt", "size=16m", "base", check=False)
        assert refused.returncode == 125 and "overlay and zfs can" in refused.stderr
    assert shared.rpc("system.check")["differences"] == []


def test_snapshots(shared: Engine) -> None:
    shared.jocker("volume", "create", "v")
    put = ("-v", "v:/data")
    sh(shared, *put, script="echo one > /data/f; chown 7:8 /data/f; mkfifo /data/p; ln /data/f /data/g")
    assert shared.jocker("volume", "snapshot", "v", "one").stdout == "one\n"
    sh(shared, *put, script="echo two > /data/f; rm /data/p; echo > /data/new")
    named = shared.jocker("volume", "snapshot", "v").stdout.strip()
    assert shared.jocker("volume", "snapshots", "-q", "v").stdout.split() == ["one", named]
    shared.jocker("volume", "restore", "v", "one")
    said = sh(
        shared, *put, script="cat /data/g; stat -c '%u %g' /data/f; ls /data; [ -p /data/p ] && echo fifo"
    )
    assert said.split() == ["one", "7", "8", "f", "g", "p", "fifo"]
    shared.jocker("volume", "restore", "v", named)
    assert sh(shared, *put, script="cat /data/f; ls /data").split() == ["two", "f", "g", "new"]
    taken = shared.jocker("volume", "snapshot", "v", "one", check=False)
    assert taken.returncode == 1 and "already" in taken.stderr
    shared.jocker("volume", "snapshot-rm", "v", "one")
    missing = shared.jocker("volume", "restore", "v", "one", check=False)
    assert missing.returncode == 1 and "no snapshot one" in missing.stderr
    said = shared.jocker("events", "--since", "1m", "--until", "0s", "-f", "volume=v").stdout
    assert " snapshot " in said and " restore " in said
    shared.jocker("volume", "rm", "v")
    assert shared.rpc("system.check")["differences"] == []


def test_volumes_go_and_come_as_tars(shared: Engine, tmp_path: Any) -> None:
    sh(
        shared,
        "-v",
        "v:/data",
        script="echo one > /data/f; mkdir /data/d; ln -s ../f /data/d/l; chown 7:8 /data/f",
    )
    file = tmp_path / "v.tar"
    shared.jocker("volume", "export", "-o", str(file), "v")
    with tarfile.open(file) as archive:
        assert {member.name for member in archive} == {".", "./f", "./d", "./d/l"}
        assert archive.getmember("./f").uid == 7
    assert [path.name for path in tmp_path.iterdir()] == ["v.tar"]
    pipe = f"{BIN}/jocker volume export v | gzip | {BIN}/jocker volume import w"
    subprocess.run(["sh", "-ec", pipe], env=shared.env, check=True, capture_output=True)
    assert sh(shared, "-v", "w:/data", script="cat /data/d/l; stat -c %u:%g /data/f") == "one\n7:8\n"
    sh(shared, "-v", "w:/data", script="echo more > /data/more")
    shared.jocker("volume", "import", "-i", str(file), "w")
    assert sh(shared, "-v", "w:/data", script="ls /data").split() == ["d", "f"]
    (tmp_path / "bad.tar").write_bytes(file.read_bytes()[:1100])
    (tmp_path / "no.tar").write_text("this is no tar, and long enough to be none" * 50)
    for name, said in (("bad.tar", "cut short|unexpected end|truncated"), ("no.tar", "not a tar")):
        for volume in ("w", "fresh"):
            done = shared.jocker("volume", "import", "-i", str(tmp_path / name), volume, check=False)
            assert done.returncode == 1 and any(part in done.stderr for part in said.split("|")), done
    assert sh(shared, "-v", "w:/data", script="ls /data").split() == ["d", "f"]
    assert volumes(shared) == ["v", "w"]
    # one whose client goes away in the middle leaves all as it was
    with shared.popen("volume", "import", "w", stdin=subprocess.PIPE) as client:
        assert client.stdin is not None
        client.stdin.write(endless_tar()[: 1 << 20])
        client.stdin.flush()
        time.sleep(0.5)
        client.kill()
    deadline = time.monotonic() + 10
    while shared.rpc("system.check")["differences"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sh(shared, "-v", "w:/data", script="ls /data").split() == ["d", "f"]
    shared.jocker("volume", "rm", "v", "w")


def endless_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("big")
        info.size = 4 << 20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()


def test_a_new_engine_puts_right_what_was_cut_off(own: Engine) -> None:
    own.jocker("volume", "create", "v")
    sh(own, "-v", "v:/data", script="echo kept > /data/f")
    path = own.rpc("volume.inspect", volume="v")["mountpoint"]
    top = os.path.dirname(path)
    sized = os.geteuid() == 0
    if sized:
        own.jocker("volume", "create", "--quota", "8m", "small")
        sh(own, "-v", "small:/data", script="echo small > /data/f")
    own.kill()
    os.makedirs(os.path.join(top, ".partial-v", "half"))
    os.rename(path, os.path.join(top, ".old-v"))  # between the two renames of a restore
    snapshots = os.path.join(os.path.dirname(top), "snapshots", "v")
    os.makedirs(snapshots)
    with open(os.path.join(snapshots, ".partial-s.tar"), "w", encoding="utf-8") as file:
        file.write("half")
    if sized:
        subprocess.run(["umount", os.path.join(top, "small")], check=True)  # as after a reboot
    own.start()
    assert own.rpc("system.check")["differences"] == []
    assert sh(own, "-v", "v:/data", script="cat /data/f") == "kept\n"
    assert not os.path.exists(os.path.join(snapshots, ".partial-s.tar"))
    if sized:
        assert sh(own, "-v", "small:/data", script="cat /data/f") == "small\n"
        subprocess.run(["umount", os.path.join(top, "small")], check=True)
        (found,) = own.rpc("system.check", repair=True)["differences"]
        assert found["subject"] == "small" and "not mounted" in found["problem"]
        assert sh(own, "-v", "small:/data", script="cat /data/f") == "small\n"
        own.jocker("volume", "rm", "small")
    own.jocker("volume", "rm", "v")
