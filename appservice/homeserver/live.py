"""A message that grows: first text at once, then edits, at most one a second for the message and for its room.

Only the first event and the edits in between go through here; they may be lost. The last state of a message is the
caller's to send through the outbox, after `settle` has ended the edits.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import structlog

from appservice.homeserver import content
from appservice.homeserver.client import ERRORS, Homeserver

EDIT_EVERY_S = 1.0

log = structlog.get_logger()


class Pace:
    """When each room may see its next edit: one a second on average, whoever writes."""

    def __init__(self) -> None:
        self._free: dict[str, float] = {}

    def book(self, room_id: str, earliest: float) -> float:
        """Take the room's next free moment (loop time) that is not before `earliest`."""
        at = max(self._free.get(room_id, 0.0), earliest)
        self._free[room_id] = at + EDIT_EVERY_S
        return at

    def note(self, room_id: str, now: float) -> None:
        """Something was sent without asking: edits wait a second from now on."""
        self._free[room_id] = max(self._free.get(room_id, 0.0), now + EDIT_EVERY_S)


class Live:
    """Use as an async context manager. `compose` makes the content of the message from its text; `lane` is the
    first part of its transaction ids. `begun`: an earlier run may have sent the first message, with another text."""

    def __init__(
        self,
        homeserver: Homeserver,
        pace: Pace,
        *,
        room_id: str,
        sender: str,
        lane: str,
        compose: Callable[[str], dict[str, Any]],
        event_id: str = "",
        begun: bool = False,
    ) -> None:
        self._homeserver = homeserver
        self._pace = pace
        self._room_id = room_id
        self._sender = sender
        self._lane = lane
        self._compose = compose
        self._run = uuid.uuid4().hex[:12]  # edits of two runs must not be taken for repeats of each other
        self._edits = 0
        self._text = ""
        self._shown = ""
        self._news = asyncio.Event()
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.event_id = event_id
        self.tried = begun

    async def __aenter__(self) -> "Live":
        self._task = asyncio.create_task(self._write(), name=f"live {self._lane}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.settle()

    def show(self, text: str) -> None:
        """The newest text; what was not sent yet is skipped."""
        self._text = text
        self._news.set()

    @property
    def shown(self) -> str:
        """The text that the room shows now; '' when that is not certain."""
        return self._shown

    async def settle(self) -> str:
        """End the edits; wait for one that is under way. The message's event id, '' when none was sent."""
        self._ending.set()
        self._news.set()
        if self._task is not None:
            await self._task
            self._task = None
        return self.event_id

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        earliest = 0.0
        while not self._ending.is_set():
            await self._news.wait()
            self._news.clear()
            if self._text == self._shown or self._ending.is_set():
                continue
            if self.event_id:
                await self._wait_until(self._pace.book(self._room_id, earliest))
                if self._ending.is_set():
                    return
            await self._send_now()
            self._pace.note(self._room_id, loop.time())
            earliest = loop.time() + EDIT_EVERY_S

    async def _wait_until(self, moment: float) -> None:
        delay = moment - asyncio.get_running_loop().time()
        if delay > 0:
            try:
                async with asyncio.timeout(delay):
                    await self._ending.wait()
            except TimeoutError:
                return

    async def _send_now(self) -> None:
        text = self._text
        full = self._compose(text)
        try:
            if not self.event_id:
                repeated, self.tried = self.tried, True  # the homeserver may answer with what it has, whatever its text
                self.event_id = await self._send(full, f"{self._lane}.0")
                self._shown = "" if repeated else text
            else:
                self._edits += 1
                await self._send(content.edit(full, self.event_id), f"{self._lane}.{self._run}e{self._edits}")
                self._shown = text
        except ERRORS as error:
            log.warning("edit lost", lane=self._lane, error=type(error).__name__)

    async def _send(self, full: Mapping[str, Any], txn_id: str) -> str:
        return await self._homeserver.send(self._room_id, "m.room.message", full, txn_id, user=self._sender, tries=2)
