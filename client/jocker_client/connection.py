"""The blocking connection that the command uses. Standard library only, and little of it: it must import at once."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from jocker_protocol import wire
from jocker_protocol.errors import JockerError, from_wire

DEFAULT_SOCKET = "/var/run/jocker.sock"


class Unreachable(JockerError):
    """No engine answers at this address; the message says what to do."""

    kind = "unreachable"


class Connection:
    """Requests to one engine, one after the other. Close it, or use it in a `with`."""

    def __init__(self, address: str | None = None) -> None:
        """`address`: unix:///path or a path; None: JOCKER_HOST, else DEFAULT_SOCKET. Raises Unreachable."""
        self.address = address or os.environ.get("JOCKER_HOST") or DEFAULT_SOCKET
        self._socket = _connect(self.address)
        self._file = self._socket.makefile("rb")
        self._id = 0

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._file.close()
        self._socket.close()

    def call(self, method: str, /, **params: Any) -> dict[str, Any]:
        """The result. Raises the JockerError that the engine answered, Unreachable."""
        return self.calls([(method, params)])[0]

    def calls(self, requests: Sequence[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
        """Several at once, answered in any order; results in the order of the requests."""
        first = self._id + 1
        for method, params in requests:
            self._id += 1
            request = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
            self._send(json.dumps(request).encode() + b"\n")
        answers: dict[int, dict[str, Any]] = {}
        while len(answers) < len(requests):
            try:
                line = self._file.readline()
            except ConnectionResetError:
                line = b""
            if not line:
                raise Unreachable(f"the engine at {self.address} closed the connection; is it being stopped?")
            answer = json.loads(line)
            answers[answer["id"]] = answer
        results = []
        for number in range(first, self._id + 1):
            if "error" in answers[number]:
                raise from_wire(answers[number]["error"])
            results.append(answers[number]["result"])
        return results

    def stream(self, token: str, framing: str = "frames") -> Stream:
        """Redeem a ticket on a connection of its own."""
        other = Connection(self.address)
        request = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "stream.open",
            "params": {"token": token, "framing": framing},
        }
        other._send(json.dumps(request).encode() + b"\n")
        # Byte by byte as long as it is not clear where the answer ends would be slow; frames begin right behind it.
        line = bytearray()
        while not line.endswith(b"\n"):
            try:
                byte = other._socket.recv(1)
            except ConnectionResetError:
                byte = b""
            if not byte:
                raise Unreachable(f"the engine at {self.address} closed the stream")
            line += byte
        answer = json.loads(line)
        if "error" in answer:
            raise from_wire(answer["error"])
        return Stream(other._socket, framing)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Unreachable(f"the engine at {self.address} closed the connection") from None


class Stream:
    """Frames both ways, after `ready`."""

    def __init__(self, sock: socket.socket, framing: str) -> None:
        self.socket = sock
        self._encode = wire.ENCODERS[framing]
        self._decoder = wire.FrameDecoder(framing)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """For select and poll."""
        return self.socket.fileno()

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Send one frame; nothing happens when the engine has ended the stream: its last frame says why."""
        try:
            self.socket.sendall(self._encode(kind, payload))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self) -> list[tuple[int, bytes]] | None:
        """The frames that one read brings, [] when a frame is not whole yet, None at the end."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            return None
        return list(self._decoder.feed(data)) if data else None

    def frames(self, output: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Frames up to the last one (RESULT is given, ERROR raised). Raises JockerError, Unreachable.

        `output`: where they will be written; BrokenPipeError as soon as nobody reads there any more, also while
        there is nothing to write.
        """
        waiting = select.poll()
        waiting.register(self.socket, select.POLLIN)
        if output is not None:
            waiting.register(output, 0)  # what poll(2) reports unasked: POLLERR, POLLHUP
        while True:
            if any(fd == output for fd, _ in waiting.poll()):
                raise BrokenPipeError
            batch = self.receive()
            if batch is None:
                break
            for kind, payload in batch:
                if kind == wire.ERROR:
                    raise from_wire(json.loads(payload))
                yield kind, payload
                if kind == wire.RESULT:
                    return
        raise Unreachable("the engine ended the stream before its result")

    def result(self) -> dict[str, Any]:
        """The result, whatever comes before it."""
        *_, (_, last) = self.frames()
        value: dict[str, Any] = json.loads(last)
        return value

    def close(self) -> None:
        """End it."""
        self.socket.close()


def _connect(address: str) -> socket.socket:
    if "://" in address and not address.startswith("unix://"):
        raise Unreachable(f"cannot use address {address}: only unix:///path is supported")
    path = address.removeprefix("unix://")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        if isinstance(error, PermissionError):
            mend = "be root, or join the group jocker"
        elif isinstance(error, FileNotFoundError | ConnectionRefusedError):
            mend = "is jocker-engine running? name its socket with -H or JOCKER_HOST"
        else:
            mend = "name the engine's socket with -H or JOCKER_HOST"
        why = error.strerror or str(error)
        raise Unreachable(f"cannot reach the engine at {path}: {why}; {mend}") from None
    return sock
