"""Events of the homeserver: stored before they are acknowledged, handled at least once, recognised by their id."""

import json
from collections.abc import Sequence
from typing import Any

from appservice.store.database import Connection, Reader

RawEvent = dict[str, Any]


async def add(db: Connection, events: Sequence[RawEvent], *, now: float) -> list[RawEvent]:
    """Store events that are not known yet; those, in their order."""
    fresh = []
    for event in events:
        cursor = await db.execute(
            "INSERT INTO inbox (event_id, room_id, event, received_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (event["event_id"], event["room_id"], json.dumps(event, ensure_ascii=False), now),
        )
        if cursor.rowcount:
            fresh.append(event)
    return fresh


async def finish(db: Connection, event_id: str) -> None:
    await db.execute("UPDATE inbox SET done = 1, event = '' WHERE event_id = ?", (event_id,))


async def is_done(store: Reader, event_id: str) -> bool:
    """Whether an event was handled, or had its effect at least."""
    return await store.read_one("SELECT 1 FROM inbox WHERE event_id = ? AND done = 1", (event_id,)) is not None


async def unfinished(store: Reader) -> list[RawEvent]:
    """What was acknowledged and not handled, oldest first."""
    rows = await store.read("SELECT event FROM inbox WHERE done = 0 ORDER BY position")
    return [json.loads(row["event"]) for row in rows]


async def forget(db: Connection, *, before: float) -> None:
    """Drop handled events received before that time: no repeat of them can come any more."""
    await db.execute("DELETE FROM inbox WHERE done = 1 AND received_at < ?", (before,))


async def count_open(store: Reader) -> int:
    row = await store.read_one("SELECT count(*) AS n FROM inbox WHERE done = 0")
    return int(row["n"]) if row else 0
