"""Send events so that nothing is lost and nothing is doubled.

An item is in the outbox before it is sent; its transaction id comes from its cause, so a repeat after a crash is the
same event. Items of one lane (the part of the transaction id before the last dot: one turn, one command) go in
order, lanes side by side. What the homeserver refuses for good, or does not take for a day, becomes a dead letter. The
day begins when an item is put into the outbox, whichever process put it there: later on, a repeat would be a second
event.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import time

import structlog

from appservice.homeserver.client import ERRORS, Homeserver, is_gone
from appservice.homeserver.patience import outlast
from appservice.store import outbox
from appservice.store.database import Connection, Database
from appservice.store.outbox import Outgoing

LONGEST_PAUSE_S = 30.0
GIVE_UP_S = 23 * 3600.0  # a homeserver remembers transaction ids for 24 hours

log = structlog.get_logger()


class Sender:
    """`on_dead` is told of each dead letter."""

    def __init__(
        self, store: Database, homeserver: Homeserver, *, on_dead: Callable[[Outgoing, str], Awaitable[None]]
    ) -> None:
        self._store = store
        self._homeserver = homeserver
        self._on_dead = on_dead
        self._lanes: dict[str, asyncio.Task[str]] = {}  # the last send of each lane
        self._tasks: set[asyncio.Task[str]] = set()

    async def send(self, item: Outgoing) -> str:
        """Keep it, send it, wait for it; the event's id, '' when it became a dead letter."""
        await self._write(lambda db: outbox.add(db, item, now=time()))
        return await self.soon(item)

    async def keep(self, db: Connection, item: Outgoing) -> None:
        """Put an item into the outbox as part of a unit; call `soon` once that is committed."""
        await outbox.add(db, item, now=time())

    def soon(self, item: Outgoing) -> "asyncio.Task[str]":
        """Begin to send what is in the outbox, after what was begun in its lane before."""
        lane = item.txn_id.rpartition(".")[0]
        task = asyncio.create_task(self._deliver(item, self._lanes.get(lane)), name=f"send {item.txn_id}")
        self._lanes[lane] = task
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, lane))
        return task

    def _ended(self, lane: str, task: "asyncio.Task[str]") -> None:
        self._tasks.discard(task)
        if self._lanes.get(lane) is task:
            del self._lanes[lane]

    async def resume(self) -> int:
        """Send what an earlier run left; how many events."""
        left = await outbox.pending(self._store)
        for item in left:
            self.soon(item)
        return len(left)

    async def flush(self, timeout_s: float) -> None:
        """Wait for what is on its way."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, item: Outgoing, before: "asyncio.Task[str] | None") -> str:
        if before is not None:
            await asyncio.wait([before])
        kept = await outlast(partial(outbox.get, self._store, item.txn_id), "read the outbox")
        if kept is not None and kept.state != "pending":
            return kept.event_id
        begun = kept.kept_at if kept is not None else time()
        attempt = 0
        while True:
            if time() - begun > GIVE_UP_S:
                return await self._bury(item, f"it could not be sent within {GIVE_UP_S / 3600:.0f} hours")
            try:
                event_id = await self._homeserver.send(
                    item.room_id, item.type, item.content, item.txn_id, user=item.sender
                )
            except ERRORS as error:
                if is_gone(error):
                    return await self._bury(item, str(getattr(error, "message", None) or type(error).__name__))
                attempt += 1
                log.warning("send delayed", txn_id=item.txn_id, error=type(error).__name__, attempt=attempt)
                await asyncio.sleep(min(0.5 * 2**attempt, LONGEST_PAUSE_S))
            else:
                await self._write(partial(_mark_sent, item.txn_id, event_id))
                return event_id

    async def _bury(self, item: Outgoing, reason: str) -> str:
        log.error("dead letter", txn_id=item.txn_id, room_id=item.room_id, error=reason)
        await self._write(lambda db: outbox.bury(db, item.txn_id, reason))
        await self._on_dead(item, reason)
        return ""

    async def _write(self, unit: Callable[[Connection], Awaitable[None]]) -> None:
        await outlast(partial(self._store.write, unit), "write to the outbox")


async def _mark_sent(txn_id: str, event_id: str, db: Connection) -> None:
    await outbox.sent(db, txn_id, event_id)
