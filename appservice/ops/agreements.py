"""What destroys something waits for an operator's mark on the message that says so.

A mark may come before the question is known here, when Opsroom was started again in between: the last ones are kept.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import time

from appservice.errors import Invalid
from appservice.homeserver.events import Event
from appservice.homeserver.members import short
from appservice.ops.answer import Thread

WITHIN_S = 600.0
_KEPT_MARKS = 100
_LOOK_EVERY_S = 1.0


class Agreements:
    def __init__(self) -> None:
        self._threads: dict[str, Thread] = {}
        self._marks: dict[str, tuple[bool, str]] = {}
        self._news = asyncio.Event()

    @contextmanager
    def of(self, command: Event, thread: Thread) -> Iterator[None]:
        """While a command runs, it can ask in its thread."""
        self._threads[command.id] = thread
        try:
            yield
        finally:
            del self._threads[command.id]

    def mark(self, target: str, *, agreed: bool, by: str) -> None:
        """An operator has marked a message."""
        self._marks[target] = (agreed, by)
        while len(self._marks) > _KEPT_MARKS:
            del self._marks[next(iter(self._marks))]
        self._news.set()

    async def reach(self, command: Event, question: str) -> None:
        """Raises Invalid when an operator says no, when nobody says anything in time, and where nobody can be asked."""
        thread = self._threads.get(command.id)
        if thread is None:
            raise Invalid("this destroys something. Nothing was done.", fix="Say `--yes` to do it.")
        thread.progress(question)
        until = command.ts / 1000 + WITHIN_S
        offered = False
        while (said := self._said(command, thread)) is None:
            if thread.live.event_id and not offered:
                offered = True
                await thread.offer()
            left = until - time()
            if left <= 0:
                raise Invalid(f"nobody agreed within {WITHIN_S / 60:.0f} minutes. Nothing was done.", fix="Ask again.")
            await self._look_again(min(left, _LOOK_EVERY_S))
        if not said[0]:
            raise Invalid(f"{short(said[1])} said no. Nothing was done.")

    def _said(self, command: Event, thread: Thread) -> tuple[bool, str] | None:
        for target in (thread.live.event_id, command.id):
            if target and target in self._marks:
                return self._marks.pop(target)
        return None

    async def _look_again(self, within_s: float) -> None:
        """After news; the message may also only now have got its id."""
        self._news.clear()
        try:
            async with asyncio.timeout(within_s):
                await self._news.wait()
        except TimeoutError:
            return
