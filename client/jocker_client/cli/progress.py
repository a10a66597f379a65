"""What people see of a build: plain lines, a live picture on a terminal, JSON lines, or nothing but the result.

Each is a class with the same five methods. Events are those of the engine (BuildProgress), as dicts.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import unicodedata
from collections import deque
from typing import Any, TextIO

_TAIL = 5
"""Lines of output shown below a step that runs."""
_KEPT = 200
"""Lines kept of each step, to be shown when it fails."""
_REDRAW = 0.1
"""Seconds between two pictures."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")


class Step:
    """One step as far as it has come."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.state = "running"
        self.seconds = 0.0
        self.began = time.monotonic()
        self.lines: deque[str] = deque(maxlen=_KEPT)
        self._rests: dict[str, str] = {}
        """Stream -> the beginning of a line: the two come as they are read, not as they were written."""

    def output(self, text: str, stream: str) -> list[str]:
        """The lines that are whole with this text."""
        *whole, self._rests[stream] = (self._rests.get(stream, "") + text).split("\n")
        lines = [clean(line) for line in whole]
        self.lines.extend(lines)
        return lines

    def flush(self) -> list[str]:
        """Lines that have no end."""
        return [line for stream, rest in self._rests.items() if rest for line in self.output("\n", stream)]


class Steps:
    """All steps, from the events."""

    def __init__(self) -> None:
        self.all: list[Step] = []
        self._by_number: dict[int, Step] = {}

    def add(self, name: str, engines: int | None = None) -> Step:
        """One more; `engines` is the engine's number for it."""
        step = Step(len(self.all) + 1, name)
        self.all.append(step)
        if engines is not None:
            self._by_number[engines] = step
        return step

    def of(self, event: dict[str, Any]) -> Step:
        """The step that an event belongs to."""
        return self._by_number.get(event["step"]) or self.add(title(event), event["step"])


def title(event: dict[str, Any]) -> str:
    """[STAGE INDEX/TOTAL] INSTRUCTION."""
    place = f"{event['index']}/{event['total']}"
    stage = f"{event['stage']} {place}" if event["stage"] else place
    return f"[{stage}] {' '.join(event['text'].split())}"


class Quiet:
    """Only the id, and what a step that fails has printed."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.steps = Steps()

    def sending(self, name: str) -> None:
        """A context begins to go."""

    def sent(self, name: str, size: int, files: int) -> None:
        """It has gone."""

    def event(self, event: dict[str, Any]) -> None:
        """What the engine tells."""
        kind = event["event"]
        if kind == "warning":
            self._say(f"jocker: warning: {event['text']}")
        elif kind == "step":
            self._begun(self.steps.add(title(event), event["step"]))
        elif kind == "output":
            step = self.steps.of(event)
            self._printed(step, step.output(event["text"], event["stream"]), event["seconds"])
        elif kind in ("done", "cached", "failed"):
            step = self.steps.of(event)
            self._printed(step, step.flush(), event["seconds"])
            step.state, step.seconds = kind, event["seconds"]
            self._ended(step)

    def tick(self) -> None:
        """Time has passed."""

    def close(self) -> None:
        """Nothing more comes, whatever the reason."""
        for step in self.steps.all:
            if step.state == "failed" and step.lines:
                self._say("------", f" > {step.name}:", *step.lines, "------")

    def result(self, result: dict[str, Any]) -> None:
        """It went well."""
        print(result["image_id"], flush=True)

    def _say(self, *lines: str) -> None:
        print(*lines, sep="\n", file=self._out, flush=True)

    def _begun(self, step: Step) -> None: ...

    def _printed(self, step: Step, lines: list[str], seconds: float) -> None: ...

    def _ended(self, step: Step) -> None: ...


class Raw(Quiet):
    """A JSON object a line, as the engine has them, on standard output."""

    def sent(self, name: str, size: int, files: int) -> None:
        self._print({"event": "context", "name": name, "bytes": size, "files": files})

    def event(self, event: dict[str, Any]) -> None:
        self._print(event)

    def close(self) -> None:
        return

    def result(self, result: dict[str, Any]) -> None:
        self._print({"event": "result", **result})

    def _print(self, value: dict[str, Any]) -> None:
        print(json.dumps(value), flush=True)


class Plain(Quiet):
    """BuildKit's plain lines: `#5 [stage 2/4] RUN ...`, `#5 0.213 output`, `#5 DONE 0.3s`, `#5 CACHED`."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._loading: dict[str, Step] = {}

    def sending(self, name: str) -> None:
        self._loading[name] = self.steps.add(_loading(name))
        self._begun(self._loading[name])

    def sent(self, name: str, size: int, files: int) -> None:
        step = self._loading[name]
        step.state, step.seconds = "done", time.monotonic() - step.began
        self._say(f"#{step.number} transferring context: {_amount(size, files)}")
        self._ended(step)

    def result(self, result: dict[str, Any]) -> None:
        self._say(_summary(result))

    def close(self) -> None:
        return  # all has been said

    def _begun(self, step: Step) -> None:
        self._say(f"#{step.number} {step.name}")

    def _printed(self, step: Step, lines: list[str], seconds: float) -> None:
        for line in lines:
            self._say(f"#{step.number} {seconds:.3f} {line}")

    def _ended(self, step: Step) -> None:
        said = {"done": f"DONE {step.seconds:.1f}s", "cached": "CACHED", "failed": "ERROR"}[step.state]
        self._say(f"#{step.number} {said}", "")


class Live(Plain):
    """A picture that is drawn again and again: finished steps in one line, below those that run the end of their
    output. When it is over all steps stay on the screen.
    """

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._began = time.monotonic()
        self._drawn: list[int] = []
        """Widths of the lines of the last picture."""
        self._next = 0.0
        self._warnings: list[str] = []
        self._closed = False
        out.write("\x1b[?25l")

    def sent(self, name: str, size: int, files: int) -> None:
        step = self._loading[name]
        step.state, step.seconds = "done", time.monotonic() - step.began
        step.name += f": {_amount(size, files)}"

    def event(self, event: dict[str, Any]) -> None:
        if event["event"] == "warning":
            self._warnings.append(f"jocker: warning: {event['text']}")
        else:
            super().event(event)
        self.tick()

    def tick(self) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _REDRAW
            columns, rows = _terminal(self._out)
            self._draw(self._picture(columns, rows), columns)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        columns, _ = _terminal(self._out)
        for step in self.steps.all:
            if step.state == "running":
                step.state = "canceled"
                step.seconds = time.monotonic() - step.began
        lines = [self._head(), *(self._line(step, columns) for step in self.steps.all), *self._warnings]
        self._draw(lines, columns)
        self._out.write("\x1b[?25h")
        self._out.flush()
        Quiet.close(self)

    def result(self, result: dict[str, Any]) -> None:
        self.close()
        self._say(_summary(result))

    def _begun(self, step: Step) -> None: ...

    def _printed(self, step: Step, lines: list[str], seconds: float) -> None: ...

    def _ended(self, step: Step) -> None: ...

    def _head(self) -> str:
        finished = sum(step.state != "running" for step in self.steps.all)
        state = f"({finished}/{len(self.steps.all)})"
        if self._closed:
            ended = {step.state for step in self.steps.all}
            state = "FAILED" if "failed" in ended else "CANCELED" if "canceled" in ended else "FINISHED"
        return f"[+] Building {time.monotonic() - self._began:.1f}s {state}"

    def _picture(self, columns: int, rows: int) -> list[str]:
        """What has room: of steps that have ended the first go first."""
        room = max(1, rows - 2)
        running = [step for step in self.steps.all if step.state == "running"]
        tail = min(_TAIL, max(0, (room - len(running)) // max(1, len(running))))
        blocks: list[tuple[Step, list[str]]] = []
        for step in self.steps.all:
            block = [self._line(step, columns)]
            if step.state == "running" and tail:
                block += [fit(f" => => # {line}", columns - 1) for line in list(step.lines)[-tail:]]
            blocks.append((step, block))
        spare = sum(len(block) for _, block in blocks) - room
        shown: list[str] = []
        for step, block in blocks:
            if spare > 0 and step.state != "running":
                spare -= len(block)
            else:
                shown += block
        return [fit(self._head(), columns - 1), *shown[-room:]]

    def _line(self, step: Step, columns: int) -> str:
        seconds = time.monotonic() - step.began if step.state == "running" else step.seconds
        mark = {"cached": "CACHED ", "failed": "ERROR ", "canceled": "CANCELED "}.get(step.state, "")
        clock = f"{seconds:.1f}s"
        room = max(0, columns - 2 - len(clock))
        return f"{fit(f' => {mark}{step.name}', room, pad=True)} {clock}"

    def _draw(self, lines: list[str], columns: int) -> None:
        """Over the last picture. A terminal that became narrower has broken its lines."""
        height = sum(max(1, -(-width // columns)) for width in self._drawn)
        up = f"\x1b[{height}A\r" if height else ""
        self._out.write(up + "\x1b[J" + "".join(f"{line}\n" for line in lines))
        self._out.flush()
        self._drawn = [width_of(line) for line in lines]


def choose(mode: str, out: TextIO = sys.stderr) -> Quiet:
    """`auto` is a live picture on a terminal that can, plain lines elsewhere."""
    if mode == "auto":
        mode = "tty" if out.isatty() and os.environ.get("TERM", "dumb") != "dumb" else "plain"
    return {"quiet": Quiet, "rawjson": Raw, "plain": Plain, "tty": Live}[mode](out)


def clean(line: str) -> str:
    """A line as a terminal would show it in the end: without escape sequences, after its last return."""
    line = _ESCAPES.sub("", line).rstrip("\r").rpartition("\r")[2].expandtabs()
    return "".join(each for each in line if each.isprintable())


def width_of(text: str) -> int:
    """Columns that it takes (Unicode annex 11)."""
    return sum(_width(each) for each in text)


def fit(text: str, columns: int, *, pad: bool = False) -> str:
    """As much of it as has room, filled up with spaces if asked for."""
    width = width_of(text)
    if width > columns:
        kept, width = "", 0
        for each in text:
            if width + _width(each) > columns:
                break
            kept, width = kept + each, width + _width(each)
        text = kept
    return text + " " * (columns - width) if pad else text


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _terminal(out: TextIO) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(out.fileno())
    except OSError:
        return 80, 24
    return max(size.columns or 80, 20), max(size.lines or 24, 3)


def _loading(name: str) -> str:
    return f"[context {name}] load" if name else "[internal] load build context"


def _amount(size: int, files: int) -> str:
    from .render import size as human

    return f"{human(size)} in {files} file{'' if files == 1 else 's'}" if size else "0B, nothing has changed"


def _summary(result: dict[str, Any]) -> str:
    from .render import short

    names = " ".join(result["tags"]) or "(no name)"
    return f"{short(result['image_id'])} {names}: {result['cached']} of {result['steps']} steps cached"
