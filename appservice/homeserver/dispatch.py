"""From the inbox to the handler: in order within a room, rooms side by side.

An event leaves the inbox in the same unit as the effect its handler returns. A homeserver that is away is waited for,
as is a disk that takes nothing; a handler that fails otherwise is tried again a few times, then the event is set aside
with its error in the log, so that one bad event never blocks a room.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import time
from typing import Any

import structlog

from appservice.homeserver import events
from appservice.homeserver.events import Event
from appservice.homeserver.patience import outlast
from appservice.store import inbox
from appservice.store.database import Connection, Database

TRIES = 4

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What an event leads to: `write` runs in the unit that takes it out of the inbox, `after` once it is committed."""

    write: Callable[[Connection], Awaitable[Any]] | None = None
    after: Callable[[], None] | None = None


Handler = Callable[[Event], Awaitable[Effect | None]]


class Dispatcher:
    """Owns one task a room that has something to do. `is_ours` tells users of this installation.

    Until `resume` events are only stored: what handles them is not there yet."""

    def __init__(self, store: Database, handler: Handler, *, is_ours: Callable[[str], bool]) -> None:
        self._store = store
        self._handler = handler
        self._is_ours = is_ours
        self._queues: dict[str, deque[Event]] = {}
        self._held: list[dict[str, Any]] | None = []  # None once handling has begun
        self._tasks: set[asyncio.Task[None]] = set()
        self._resumed: frozenset[str] = frozenset()

    async def receive(self, raw: Sequence[dict[str, Any]]) -> None:
        """Commit events and hand those that are new to their rooms, from `resume` on. What Opsroom's users say is
        not news to it."""
        news = [event for event in raw if not self._is_ours(event["sender"]) or _is_news(event)]
        if not news:
            return
        fresh = await self._store.write(lambda db: inbox.add(db, news, now=time()), durable=False)
        if self._held is not None:
            self._held += fresh
        else:
            for event in fresh:
                if event["event_id"] not in self._resumed:  # `resume` may have read it before we came to this line
                    self._enqueue(event)
        await self._store.flush()
        for event in fresh:
            _log(event)

    async def resume(self) -> int:
        """Begin to handle: first what an earlier run left, then what came since the start; how many events."""
        left = await inbox.unfinished(self._store)
        self._resumed = frozenset(event["event_id"] for event in left)
        left += [event for event in self._held or () if event["event_id"] not in self._resumed]
        self._held = None
        for event in left:
            self._enqueue(event)
        return len(left)

    async def idle(self) -> None:
        """Return when nothing is being handled."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _enqueue(self, raw: dict[str, Any]) -> None:
        event = events.parse(raw)
        if event is None:
            return
        queue = self._queues.get(event.room_id)
        if queue is not None:
            queue.append(event)
            return
        self._queues[event.room_id] = deque([event])
        task = asyncio.create_task(self._drain(event.room_id), name=f"room {event.room_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self, room_id: str) -> None:
        queue = self._queues[room_id]
        try:
            while queue:
                await self._handle(queue[0])
                queue.popleft()
        finally:
            del self._queues[room_id]  # no await between "the queue is empty" and this line

    async def _handle(self, event: Event) -> None:
        with structlog.contextvars.bound_contextvars(event_id=event.id, room_id=event.room_id):
            for attempt in range(1, TRIES + 1):
                try:
                    effect = await outlast(partial(self._handler, event), event.type) or Effect()
                    await self._write(event, effect)
                except Exception:
                    log.exception("event failed", type=event.type, attempt=attempt)
                    if attempt == TRIES:
                        await self._write(event, Effect())
                        return
                    await asyncio.sleep(0.2 * 4**attempt)
                else:
                    if effect.after:
                        effect.after()
                    return

    async def _write(self, event: Event, effect: Effect) -> None:
        """Not durable: what a power cut takes back is handled again."""
        finish = partial(self._store.write, partial(self._finish, event, effect), durable=False)
        await outlast(finish, "write what an event leads to")

    @staticmethod
    async def _finish(event: Event, effect: Effect, db: Connection) -> None:
        if effect.write:
            await effect.write(db)
        await inbox.finish(db, event.id)


def _log(raw: Mapping[str, Any]) -> None:
    log.info("event received", **{name: raw[name] for name in ("type", "sender", "event_id", "room_id")})


logging.getLogger("mau").setLevel(logging.WARNING)


def _is_news(raw: Mapping[str, Any]) -> bool:
    """Of what ours say: who comes and goes, and answers that call somebody."""
    return raw["type"] == "m.room.member" or events.is_call(events.map_of(raw.get("content")))
