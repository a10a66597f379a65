"""`jocker logs`: log lines in CRI format, shown as the process wrote them."""

from __future__ import annotations

import re
import sys
import time

import click

from jocker_protocol import wire

from .terminal import write

_HEAD = 40
_TAG = 38
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_FORMS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


def when(text: str) -> str:
    """RFC 3339 from what people write: that, a date, seconds since the epoch, or an age such as 10m."""
    if not text:
        return ""
    match = _DURATION.fullmatch(text)
    if match and any(match.groups()):
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return _stamp(time.time() - (days * 86400 + hours * 3600 + minutes * 60 + seconds))
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return _stamp(float(text))
    for form in _FORMS:
        try:
            return _stamp(time.mktime(time.strptime(text, form)))
        except ValueError:
            continue
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text):
        return text
    raise click.UsageError(
        f"{text!r} is no time: give 10m, 2026-01-31, 2026-01-31T12:00:00Z, or seconds since 1970"
    )


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 10**9):09d}Z"


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-t", "--timestamps", is_flag=True, help="Show the times.")
@click.option("-n", "--tail", default="all", metavar="N", help="The last N lines only.")
@click.option("--since", default="", metavar="TIME")
@click.option("--until", default="", metavar="TIME")
@click.argument("container")
@click.pass_context
def logs(
    ctx: click.Context, follow: bool, timestamps: bool, tail: str, since: str, until: str, container: str
) -> None:
    """What a container has printed."""
    if tail != "all" and not tail.isdigit():
        raise click.UsageError(f"--tail {tail!r}: must be a number or all")
    engine = ctx.obj.engine
    ticket = engine.call(
        "container.logs",
        container=container,
        follow=follow,
        tail=-1 if tail == "all" else int(tail),
        since=when(since),
        until=when(until),
    )
    begins = {b"stdout": True, b"stderr": True}
    with engine.stream(ticket["token"]) as stream:
        for kind, payload in stream.frames(sys.stdout.fileno()):
            if kind == wire.LOG:
                _show(payload, timestamps, begins)


def _show(lines: bytes, timestamps: bool, begins: dict[bytes, bool]) -> None:
    """Runs of lines of one stream go out together, in order."""
    out, current = bytearray(), b"stdout"
    for line in lines.splitlines(keepends=True):
        stream, whole = line[31:37], line[_TAG : _TAG + 1] == b"F"
        if stream != current:
            write(1 if current == b"stdout" else 2, bytes(out))
            out.clear()
            current = stream
        if timestamps and begins[stream]:
            out += line[:31]
        out += line[_HEAD:] if whole else line[_HEAD:-1]
        begins[stream] = whole
    write(1 if current == b"stdout" else 2, bytes(out))
