"""What people see of a build: lines that fit, steps that fold, and a terminal that is left as it was."""

from __future__ import annotations

import io
from typing import Any

import pytest

from jocker_client.cli import progress
from jocker_client.cli.progress import Live, Plain, clean, fit, width_of


def event(kind: str, step: int, text: str = "", **more: Any) -> dict[str, Any]:
    return {
        "event": kind,
        "step": step,
        "text": text,
        "stage": "s",
        "index": step,
        "total": 9,
        "seconds": 0.5,
        "stream": "",
        **more,
    }


def test_widths() -> None:
    assert width_of("aé漢e\u0301") == 5
    assert fit("漢字漢字", 5) == "漢字"
    assert fit("漢字", 5, pad=True) == "漢字 "
    assert fit("abc", 2) == "ab"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("10%\r20%\r100%", "100%"),
        ("dos\r", "dos"),
        ("\x1b]0;title\x07text", "text"),
        ("a\tb", "a       b"),
        ("bell\x07 \x1b[2K\x1b[1Gx", "bell x"),
    ],
)
def test_lines_as_a_terminal_would_end_up_showing_them(line: str, shown: str) -> None:
    assert clean(line) == shown


def test_plain_lines() -> None:
    out = io.StringIO()
    plain = Plain(out)
    plain.sending("")
    plain.sent("", 1234, 2)
    plain.event(event("step", 1, "RUN a"))
    plain.event(event("step", 2, "RUN b"))
    plain.event(event("output", 1, "one\npart"))
    plain.event(event("output", 2, "two\n"))
    plain.event(event("output", 1, "other\n", stream="stderr"))
    plain.event(event("output", 1, "ly\nno end"))
    plain.event(event("done", 1))
    plain.event(event("cached", 2))
    assert [line for line in out.getvalue().splitlines() if line and "DONE 0.0" not in line] == [
        "#1 [internal] load build context",
        "#1 transferring context: 1.23kB in 2 files",
        "#2 [s 1/9] RUN a",
        "#3 [s 2/9] RUN b",
        "#2 0.500 one",
        "#3 0.500 two",
        "#2 0.500 other",
        "#2 0.500 partly",
        "#2 0.500 no end",
        "#2 DONE 0.5s",
        "#3 CACHED",
    ]


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Live:
    monkeypatch.setattr(progress, "_terminal", lambda out: (30, 8))
    monkeypatch.setattr(progress, "_REDRAW", 0.0)
    return Live(io.StringIO())


def last(live: Live) -> list[str]:
    """The last picture."""
    text: str = live._out.getvalue()  # type: ignore[attr-defined]
    return text.rpartition("\x1b[J")[2].splitlines()


def test_a_live_picture_fits_and_folds(live: Live) -> None:
    for number in range(1, 6):
        live.event(event("step", number, "RUN something long enough to be cut"))
        live.event(
            event("done" if number < 5 else "output", number, "".join(f"line {n}\n" for n in range(9)))
        )
    shown = last(live)
    assert len(shown) == 7 and all(width_of(line) < 30 for line in shown)
    assert shown[0].startswith("[+] Building") and shown[-1] == " => => # line 8"
    live.event(event("done", 5))
    assert not any("line 8" in line for line in last(live))
    live.close()
    whole: str = live._out.getvalue()  # type: ignore[attr-defined]
    assert whole.startswith("\x1b[?25l") and whole.endswith("\x1b[?25h")
    final = last(live)
    assert sum("RUN" in line for line in final) == 5 and "FINISHED" in final[0]


def test_a_failed_step_shows_what_it_printed(live: Live) -> None:
    live.event(event("step", 1, "RUN x"))
    live.event(event("output", 1, "why\n"))
    live.event(event("failed", 1))
    live.close()
    live.close()
    assert "FAILED" in "".join(last(live)) and last(live)[-3:] == [" > [s 1/9] RUN x:", "why", "------"]


def test_what_runs_when_it_is_interrupted(live: Live) -> None:
    live.event(event("step", 1, "RUN x"))
    live.close()
    assert any(line.startswith(" => CANCELED [s 1/9]") for line in last(live))


def test_a_narrower_terminal_has_broken_lines(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    live.event(event("step", 1, "RUN something long enough to be cut"))
    monkeypatch.setattr(progress, "_terminal", lambda out: (20, 8))
    live.tick()
    assert "\x1b[4A\r" in live._out.getvalue()  # type: ignore[attr-defined]
