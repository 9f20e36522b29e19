"""What destroys something waits for an operator's mark on the message that says so.

When the question was put, and the mark on it, are kept with the command: both outlive a crash. A mark may come before
the question is known here, when Opsroom was started again in between: the last ones are remembered.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import time

from appservice.errors import Invalid
from appservice.homeserver.dispatch import Effect
from appservice.homeserver.events import Event
from appservice.homeserver.members import short
from appservice.ops.answer import Thread
from appservice.store import commands
from appservice.store.commands import Mark
from appservice.store.database import Database

WITHIN_S = 600.0
QUESTION = f"This cannot be taken back. React with ✅ within {WITHIN_S / 60:.0f} minutes to do it, with ❌ to leave it."
LATE_S = 30.0  # after a start it takes a moment until a mark that was given in time is read
_KEPT_MARKS = 100


class Agreements:
    def __init__(self, store: Database) -> None:
        self._store = store
        self._threads: dict[str, Thread] = {}
        self._marks: dict[str, Mark] = {}
        self._news = asyncio.Event()

    @contextmanager
    def of(self, command: Event, thread: Thread) -> Iterator[None]:
        """While a command runs, it can ask in its thread."""
        self._threads[command.id] = thread
        try:
            yield
        finally:
            del self._threads[command.id]

    def marked(self, target: str, mark: Mark) -> Effect:
        """An operator has marked a message."""
        return Effect(
            write=lambda db: commands.keep_mark(db, target, mark),
            after=partial(self._remember, target, mark),
        )

    def _remember(self, target: str, mark: Mark) -> None:
        self._marks[target] = mark
        while len(self._marks) > _KEPT_MARKS:
            del self._marks[next(iter(self._marks))]
        self._news.set()

    async def reach(self, command: Event, told: str) -> None:
        """Raises Invalid when an operator says no, when nobody says anything in time, and where nobody can be asked."""
        thread = self._threads.get(command.id)
        if thread is None:
            raise Invalid("this destroys something. Nothing was done.", fix="Say `--yes` to do it.")
        question = await thread.ask(told, QUESTION)
        if not question:
            raise Invalid("the question whether to do it could not be put here. Nothing was done.")
        put_at, mark = await self._store.write(lambda db: commands.put(db, command.id, question, time()))
        until = put_at + WITHIN_S
        if mark is None or mark.at > until:
            mark = await self._said(question, until)
        if not mark.agreed:
            raise Invalid(f"{short(mark.by)} said no. Nothing was done.")

    async def _said(self, question: str, until: float) -> Mark:
        """The answer; one that was given too late is none, whenever it is read."""
        try:
            async with asyncio.timeout(max(until - time(), LATE_S)):
                while (mark := self._marks.pop(question, None)) is None or mark.at > until:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            what = f"nobody agreed within {WITHIN_S / 60:.0f} minutes. Nothing was done."
            raise Invalid(what, fix="Ask again.") from None
        return mark
