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
QUESTION = f"This cannot be taken back. React with ✅ within {WITHIN_S / 60:.0f} minutes to do it, with ❌ to leave it."
_KEPT_MARKS = 100


class Agreements:
    def __init__(self) -> None:
        self._threads: dict[str, Thread] = {}
        self._marks: dict[str, tuple[bool, str, float]] = {}
        self._news = asyncio.Event()

    @contextmanager
    def of(self, command: Event, thread: Thread) -> Iterator[None]:
        """While a command runs, it can ask in its thread."""
        self._threads[command.id] = thread
        try:
            yield
        finally:
            del self._threads[command.id]

    def mark(self, target: str, *, agreed: bool, by: str, at: float) -> None:
        """An operator has marked a message."""
        self._marks[target] = (agreed, by, at)
        while len(self._marks) > _KEPT_MARKS:
            del self._marks[next(iter(self._marks))]
        self._news.set()

    async def reach(self, command: Event, told: str) -> None:
        """Raises Invalid when an operator says no, when nobody says anything in time, and where nobody can be asked."""
        thread = self._threads.get(command.id)
        if thread is None:
            raise Invalid("this destroys something. Nothing was done.", fix="Say `--yes` to do it.")
        until = command.ts / 1000 + WITHIN_S
        try:
            async with asyncio.timeout(until - time()):
                question = await thread.ask(told, QUESTION)
                if not question:
                    raise Invalid("the question whether to do it could not be put here. Nothing was done.")
                agreed, by = await self._said(question, until)
        except TimeoutError:
            what = f"nobody agreed within {WITHIN_S / 60:.0f} minutes. Nothing was done."
            raise Invalid(what, fix="Ask again.") from None
        if not agreed:
            raise Invalid(f"{short(by)} said no. Nothing was done.")

    async def _said(self, question: str, until: float) -> tuple[bool, str]:
        """The answer; one that was given too late is none, whenever it is read."""
        while (said := self._marks.pop(question, None)) is None or said[2] > until:
            self._news.clear()
            await self._news.wait()
        return said[:2]
