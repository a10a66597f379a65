"""Work that serves all who have asked before it begins: asked for a hundred times at once, it is done twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from ..otp import Reply


class Rounds:
    """`run` is a task of the actor that owns the work. `answers`: errors that are told to those who asked."""

    def __init__(
        self, work: Callable[[], Awaitable[object]], answers: tuple[type[BaseException], ...]
    ) -> None:
        self._work = work
        self._answers = answers
        self._waiting: list[Reply] = []
        self._asked = trio.Event()

    def ask(self, reply: Reply) -> None:
        """It is answered after a round that has begun after this."""
        self._waiting.append(reply)
        self._asked.set()

    async def run(self) -> None:
        """Round after round, for ever."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            waiting, self._waiting = self._waiting, []
            try:
                await self._work()
            except self._answers as error:
                for reply in waiting:
                    reply.fail(error)
            else:
                for reply in waiting:
                    reply.send()
