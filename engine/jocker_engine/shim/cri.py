"""The log format of the Kubernetes Container Runtime Interface, and its file: written, rotated, read back.

A line is `2026-11-23T12:00:00.000000000Z stdout F text`; the tag P in place of F says that the text goes on
in the next line of the same stream. With our stamps (UTC, nanoseconds) all before the text is HEAD bytes.
Source: kubernetes/design-proposals-archive, node/kubelet-cri-logging.md.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import datetime

STDOUT, STDERR = b"stdout", b"stderr"

HEAD = 40
"""Bytes of a line before its text."""
STAMP = 30
"""Bytes of the time stamp."""
TAG = 38
"""Where the tag is in a line."""
LIMIT = 16384
"""Longest text of a line, bytes, as in Docker and containerd; what is longer goes in parts."""
BLOCK = 1 << 16
"""Bytes read from a log at once."""

_RUN = re.compile(rb"([^\n]{31}(stdout|stderr) ([FP]) )[^\n]*\n(?:\1[^\n]*\n)*+")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)")


def stamp(nanoseconds: int) -> str:
    """Time since the epoch in RFC 3339, of a fixed width: such stamps sort as the times do."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def nanoseconds(text: str) -> int:
    """The time of any RFC 3339 string. Raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    date, clock, fraction, zone = match.groups()
    whole = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    return int(whole.timestamp()) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


def texts(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(stream, what the process wrote) of whole log lines; those of the same head at once."""
    for match in _RUN.finditer(block):
        head, stream, tag = match.groups()
        body = match[0][HEAD:]
        if tag == b"F":
            yield stream, body.replace(b"\n" + head, b"\n")
        else:
            yield stream, body[:-1].replace(b"\n" + head, b"")


class Lines:
    """Output in chunks as it comes, log lines out. The last line, while it has no end, is held back."""

    def __init__(self) -> None:
        self.held = {STDOUT: b"", STDERR: b""}

    def add(self, stream: bytes, chunk: bytes) -> bytes:
        """The lines complete with this chunk, under one time stamp."""
        data = self.held[stream] + chunk
        full = self._head(stream, "F")
        lines: list[bytes] = []
        start = position = 0
        while True:
            # No line between here and the last newline within LIMIT bytes can be too long: no need to look.
            newline = data.rfind(b"\n", position, position + LIMIT + 1)
            if newline >= 0:
                position = newline + 1
                continue
            if len(data) - position <= LIMIT:
                break
            lines.append(_whole(full, data[start:position]))
            lines.append(self._head(stream, "P") + data[position : position + LIMIT] + b"\n")
            start = position = position + LIMIT
        lines.append(_whole(full, data[start:position]))
        self.held[stream] = data[position:]
        return b"".join(lines)

    def end(self) -> bytes:
        """The rest, now that no more comes: parts, since no newline was written."""
        rest = b"".join(self._head(stream, "P") + held + b"\n" for stream, held in self.held.items() if held)
        self.held = dict.fromkeys(self.held, b"")
        return rest

    def _head(self, stream: bytes, tag: str) -> bytes:
        return f"{stamp(time.time_ns())} {stream.decode()} {tag} ".encode()


def _whole(head: bytes, data: bytes) -> bytes:
    """Data that ends with a newline as full lines."""
    return head + data[:-1].replace(b"\n", b"\n" + head) + b"\n" if data else b""


class Files:
    """A log and its rotated predecessors, open, read as one. Positions count through all of them."""

    def __init__(self, files: list[tuple[int, int]]) -> None:
        self.files = files
        """Oldest first: the position of the beginning, and the descriptor."""

    def read(self, position: int, size: int = BLOCK) -> tuple[bytes, int]:
        """Whole lines from a position on, and the position after them; b"" at the end.

        What has been rotated away is skipped. `size`: bytes, at least those of the longest line.
        """
        for index, (base, fd) in enumerate(self.files):
            position = max(position, base)
            last = index + 1 == len(self.files)
            if last or position < self.files[index + 1][0]:
                block = os.pread(fd, size, position - base)
                block = block[: block.rfind(b"\n") + 1]
                if block or last:
                    return block, position + len(block)
        return b"", position


class LogFile(Files):
    """The log that a shim writes; position 0 is the beginning of the file it finds.

    All files of this run that are kept stay open: what a slow client still wants can be read even when the
    container is removed meanwhile.
    """

    def __init__(self, path: str, max_size: int, max_files: int) -> None:
        self._path = path
        self._max_size = max_size
        self._max_files = max_files
        fd = self._open()
        self._size = _cut_torn_line(fd)
        self.start = self._size
        """Where this run begins."""
        super().__init__([(0, fd)])

    @property
    def end(self) -> int:
        """The position after the last line."""
        return self.files[-1][0] + self._size

    def write(self, lines: bytes) -> None:
        """Append whole lines. What a full disk does not take is lost, by whole writes: the process goes on."""
        while self._max_size and self._size + len(lines) > self._max_size:
            fits = lines.rfind(b"\n", 0, max(0, self._max_size - self._size)) + 1
            if not fits and not self._size:
                fits = lines.find(b"\n") + 1  # a line longer than a file may be
            if fits:
                self._append(lines[:fits])
                lines = lines[fits:]
            if not lines:
                return
            if not self._rotate():
                break
        self._append(lines)

    def _append(self, lines: bytes) -> None:
        fd = self.files[-1][1]
        view = memoryview(lines)
        try:
            while view:
                view = view[os.write(fd, view) :]
        except OSError:
            os.ftruncate(fd, self._size)
        else:
            self._size += len(lines)

    def _rotate(self) -> bool:
        end = self.end
        try:
            for number in range(self._max_files - 1, 0, -1):
                if os.path.exists(f"{self._path}.{number}"):
                    os.rename(f"{self._path}.{number}", f"{self._path}.{number + 1}")
            if self._max_files > 0:
                os.rename(self._path, f"{self._path}.1")
            else:
                os.unlink(self._path)
            fd = self._open()
        except OSError:
            return False  # removed under us, or the disk is full: the file at hand must do
        self.files.append((end, fd))
        self._size = 0
        while len(self.files) > self._max_files + 1:
            os.close(self.files.pop(0)[1])
        return True

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _cut_torn_line(fd: int) -> int:
    """Remove what a killed shim left of a line. Returns the size of the file."""
    size = os.fstat(fd).st_size
    from_ = max(0, size - BLOCK)
    tail = os.pread(fd, BLOCK, from_)
    end = from_ + tail.rfind(b"\n") + 1
    if end < size:
        os.ftruncate(fd, end)
    return end
