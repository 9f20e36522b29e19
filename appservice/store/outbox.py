"""Events to send: written before they are sent, sent under a transaction id made from their cause."""

import json
from dataclasses import dataclass
from typing import Any

from appservice.store.database import Connection, Reader, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One event to send. `txn_id` is unique for the sender, type and cause; `kept_at`: since when it is in the outbox,
    if it is."""

    txn_id: str
    room_id: str
    sender: str
    type: str
    content: dict[str, Any]
    cause: str
    state: str = "pending"
    event_id: str = ""
    error: str = ""
    kept_at: float = 0.0


async def add(db: Connection, item: Outgoing, *, now: float) -> None:
    """Keep an event to send; one with this transaction id that is already there wins."""
    await db.execute(
        "INSERT INTO outbox (txn_id, room_id, sender, type, content, cause, state, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, 'pending', ?) ON CONFLICT DO NOTHING",
        (item.txn_id, item.room_id, item.sender, item.type, json.dumps(item.content), item.cause, now),
    )


async def sent(db: Connection, txn_id: str, event_id: str) -> None:
    await db.execute(
        "UPDATE outbox SET state = 'sent', event_id = ?, content = '' WHERE txn_id = ?", (event_id, txn_id)
    )


async def bury(db: Connection, txn_id: str, error: str) -> None:
    """This cannot be sent. It is kept, content and all."""
    await db.execute("UPDATE outbox SET state = 'dead', error = ? WHERE txn_id = ?", (error, txn_id))


async def get(store: Reader, txn_id: str) -> Outgoing | None:
    row = await store.read_one("SELECT * FROM outbox WHERE txn_id = ?", (txn_id,))
    return _outgoing(row) if row else None


async def pending(store: Reader) -> list[Outgoing]:
    rows = await store.read("SELECT * FROM outbox WHERE state = 'pending' ORDER BY position")
    return [_outgoing(row) for row in rows]


async def dead(store: Reader, *, since: float = 0.0) -> list[Outgoing]:
    """Dead letters written since that time, newest first."""
    rows = await store.read(
        "SELECT * FROM outbox WHERE state = 'dead' AND created_at >= ? ORDER BY position DESC LIMIT 20", (since,)
    )
    return [_outgoing(row) for row in rows]


async def forget(db: Connection, *, before: float) -> None:
    await db.execute("DELETE FROM outbox WHERE state = 'sent' AND created_at < ?", (before,))


def _outgoing(row: Row) -> Outgoing:
    return Outgoing(
        txn_id=row["txn_id"],
        room_id=row["room_id"],
        sender=row["sender"],
        type=row["type"],
        content=json.loads(row["content"] or "{}"),
        cause=row["cause"],
        state=row["state"],
        event_id=row["event_id"],
        error=row["error"],
        kept_at=row["created_at"],
    )
