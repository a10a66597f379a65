"""What commands printed on a real FreeBSD 15 (transcripts/*.txt): two notations, `$ command` and `+ command`."""

from __future__ import annotations

from pathlib import Path

_WHERE = Path(__file__).parent / "transcripts"


def said(file: str, command: str) -> str:
    """The output of the first command that begins so, up to the next one; the marks of exit statuses left out."""
    lines = (_WHERE / f"{file}.txt").read_text().splitlines()
    places = [number for number, line in enumerate(lines) if line[:2] in ("$ ", "+ ")]
    exact = [number for number in places if lines[number][2:] == command]
    begun = [number for number in places if lines[number][2:].startswith(command)]
    start = next(iter([*exact, *begun]), None)
    assert start is not None, f"no command {command!r} in {file}"
    mark, found = lines[start][:2], []
    for line in lines[start + 1 :]:
        if line.startswith(mark):
            break
        if not line.startswith(("[exit ", "rc=")):
            found.append(line)
    return "\n".join(found).strip("\n") + "\n"
