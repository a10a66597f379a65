"""Recording and replaying commands: the same on another machine with other random names; the unknown is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jocker_engine.platform.commands import PlatformError
from jocker_engine.platform.transcripts import NotVerified, Placeholders, Recorder, Replayer

JAIL, OTHER = "jocker-0123456789ab-c0ffee", "jocker-ba9876543210-decade"


def test_placeholders() -> None:
    names = Placeholders({"/tmp/x": "root"})
    text = f"{JAIL} {OTHER} {JAIL} /tmp/x/y jkb01234567 02:00:ff:aa:01:02 {'ab' * 32} 0123456789ab jocker c0ffee n"
    hidden = names.hide(text)
    assert hidden == ("{jail1} {jail2} {jail1} {root}/y {interface1} {mac1} {id1} {short1} jocker {tag1} n")
    assert names.fill(hidden) == text
    assert names.hide("jocker/c0ffee-0123456789ab/x") == "jocker/{anchor1}/x"
    assert names.fill("{jail9} {} {x y}") == "{jail9} {} {x y}"
    assert names.hide("0x10.213.7.1 ether 58:9c:fc:10:ea:00 jkbdeadbeefx") == (
        "0x10.213.7.1 ether 58:9c:fc:10:ea:00 jkbdeadbeefx"
    )


async def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    recorder = Recorder(str(path), {str(tmp_path): "root"})
    await recorder.run(["printf", f"{JAIL}\\n{tmp_path}\\n"])
    await recorder.run(["cat"], input=f"rules of {JAIL}\n".encode())
    for text in ("one", "two"):
        (tmp_path / "f").write_text(text)
        await recorder.run(["cat", f"{tmp_path}/f"])
    with pytest.raises(PlatformError, match="exit status 3"):
        await recorder.run(["sh", "-c", "echo no >&2; exit 3"])
    assert JAIL not in path.read_text() and str(tmp_path) not in path.read_text()
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 5

    replayer = Replayer([path.read_text()], {"/elsewhere": "root"})
    assert (await replayer.run(["printf", f"{OTHER}\\n/elsewhere\\n"])).stdout == f"{OTHER}\n/elsewhere\n"
    assert (await replayer.run(["cat"], input=f"rules of {OTHER}\n".encode())).stdout == f"rules of {OTHER}\n"
    said = [(await replayer.run(["cat", "/elsewhere/f"])).stdout for _ in range(3)]
    assert said == ["one", "two", "two"]
    with pytest.raises(PlatformError, match=r"^sh failed with exit status 3: no$"):
        await replayer.run(["sh", "-c", "echo no >&2; exit 3"])
    assert (await replayer.run(["sh", "-c", "echo no >&2; exit 3"], check=False)).exit_code == 3
    assert replayer.unknown == []
    for argv in (["cat", "/other"], ["cat"]):
        with pytest.raises(NotVerified, match="not verified: cat"):
            await replayer.run(argv, check=False)
    assert replayer.unknown == [("cat", "/other"), ("cat",)]


async def test_several_transcripts() -> None:
    """The first that has a command counts."""

    def line(word: str, said: str) -> str:
        return json.dumps({"argv": [word], "exit_code": 0, "stdout": said}) + "\n"

    replayer = Replayer([line("a", "real"), line("a", "by hand") + line("b", "by hand")], {})
    assert [(await replayer.run([word])).stdout for word in ("a", "b")] == ["real", "by hand"]
