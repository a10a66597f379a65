"""The client's side of a build's stream: answers what the engine wants, and shows what it tells.

jocker_protocol/contexts.py has what is asked for.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from typing import Any

import click

from jocker_protocol import wire
from jocker_protocol.errors import from_wire

from ..connection import Stream, Unreachable
from ..context import ContextError
from .progress import Quiet

_TICK = 0.1
"""Seconds between looks at a quiet stream, for the clock of a live picture."""


class Conversation:
    """Answers what the engine wants, and shows what it tells, until there is a result."""

    def __init__(self, stream: Stream, show: Quiet, contexts: dict[str, Any], agents: dict[str, str]) -> None:
        self._stream = stream
        self._show = show
        self._contexts = contexts
        self._paths = agents
        self._waiting = select.poll()
        self._waiting.register(stream, select.POLLIN)
        self._agents: dict[int, socket.socket] = {}
        """Number of a connection -> the agent's end."""
        self._sent = dict.fromkeys(contexts, (0, 0))
        """Bytes and files of contexts that are on their way; the bytes of a manifest count too."""

    def run(self) -> dict[str, Any]:
        """The result. Raises JockerError, Unreachable, ClickException."""
        for name in self._sent:
            self._show.sending(name)
        while True:
            ready = {descriptor for descriptor, _ in self._waiting.poll(_TICK * 1000)}
            for number, agent in list(self._agents.items()):
                if agent.fileno() in ready:
                    self._from_agent(number, agent)
            if self._stream.fileno() in ready:
                frames = self._stream.receive()
                if frames is None:
                    raise Unreachable("the engine ended the build before its result; is it being stopped?")
                for kind, payload in frames:
                    if kind == wire.RESULT:
                        self._settle()
                        result: dict[str, Any] = json.loads(payload)
                        return result
                    self._frame(kind, payload)
            self._show.tick()

    def _frame(self, kind: int, payload: bytes) -> None:
        if kind == wire.PROGRESS:
            self._settle()
            self._show.event(json.loads(payload))
        elif kind == wire.WANT:
            self._want(json.loads(payload))
        elif kind == wire.TO_AGENT:
            self._to_agent(int.from_bytes(payload[:4], "big"), payload[4:])
        elif kind == wire.ERROR:
            raise from_wire(json.loads(payload))

    def _want(self, wish: dict[str, Any]) -> None:
        if wish["what"] == "agent":
            self._connect(wish["connection"], wish["id"])
            return
        name, what = wish["context"], wish["what"]
        context = self._contexts.get(name)
        if context is None:
            self._send(name, iter(()), 0)
        elif what == "tar":
            self._send(name, context.pieces(), 1)
        elif what == "manifest":
            self._send(name, iter((context.manifest,)), 0)
        else:
            files = sum(last - first + 1 for first, last in wish["files"])
            self._send(name, context.tar(wish["files"]), files)

    def _send(self, name: str, pieces: Iterator[bytes], files: int) -> None:
        size, before = self._sent.get(name, (0, 0))
        try:
            for piece in pieces:
                for start in range(0, len(piece), wire.MAX_FRAME):
                    self._stream.send(wire.STDIN, piece[start : start + wire.MAX_FRAME])
                size += len(piece)
                self._show.tick()
        except ContextError as error:
            raise click.ClickException(str(error)) from None
        self._stream.send(wire.EOF)
        self._sent[name] = size, before + files

    def _settle(self) -> None:
        """All contexts are there: the build begins."""
        for name, (size, files) in self._sent.items():
            self._show.sent(name, size, files)
        self._sent.clear()

    # --- ssh agents ---

    def _connect(self, number: int, name: str) -> None:
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            agent.connect(self._paths[name])
        except OSError:
            agent.close()
            self._stream.send(wire.AGENT, number.to_bytes(4, "big"))
            return
        self._agents[number] = agent
        self._waiting.register(agent, select.POLLIN)

    def _from_agent(self, number: int, agent: socket.socket) -> None:
        try:
            data = agent.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self._stream.send(wire.AGENT, number.to_bytes(4, "big") + data)
        if not data:
            self._hang_up(number)

    def _to_agent(self, number: int, data: bytes) -> None:
        agent = self._agents.get(number)
        if agent is None:
            return
        try:
            if data:
                agent.sendall(data)
            else:
                agent.shutdown(socket.SHUT_WR)
        except OSError:
            self._hang_up(number)

    def _hang_up(self, number: int) -> None:
        agent = self._agents.pop(number)
        self._waiting.unregister(agent)
        agent.close()
