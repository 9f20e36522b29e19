"""Commands of operators: taken up once, their effect and outcome written together, answered to the end."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from appservice.store.database import Connection, Reader, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`request` is what has to be done again after a crash: the raw event, and what was asked. `outcome` is
    None until the effect is in the store."""

    event_id: str
    room_id: str
    sender: str
    request: dict[str, Any]
    outcome: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An operator's answer to a question: yes or no, whose, when."""

    agreed: bool
    by: str
    at: float


async def accept(db: Connection, event_id: str, room_id: str, sender: str, request: dict[str, Any], now: float) -> None:
    await db.execute(
        "INSERT INTO commands (event_id, room_id, sender, request, created_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (event_id, room_id, sender, json.dumps(request, ensure_ascii=False), now),
    )


async def settle(db: Connection, event_id: str, outcome: dict[str, Any]) -> None:
    """Write the outcome; in the same unit as the effect."""
    await db.execute(
        "UPDATE commands SET outcome = ? WHERE event_id = ?", (json.dumps(outcome, ensure_ascii=False), event_id)
    )


async def ask(db: Connection, event_id: str, digest: str) -> str:
    """Keep which plan agreement is asked to. The one that was asked about first, if ever one was."""
    await db.execute(
        "UPDATE commands SET request = json_insert(request, '$.asked', ?) WHERE event_id = ?", (digest, event_id)
    )
    row = await db.read_one("SELECT request ->> '$.asked' AS asked FROM commands WHERE event_id = ?", (event_id,))
    return str(row["asked"]) if row else digest


async def put(db: Connection, event_id: str, question: str, now: float) -> tuple[float, Mark | None]:
    """Keep under which event the question stands, and since when; when that was first, and its mark if it has one."""
    await db.execute(
        "UPDATE commands SET request = json_insert(request, '$.question', ?, '$.put_at', ?) WHERE event_id = ?",
        (question, now, event_id),
    )
    row = await db.read_one(
        "SELECT request ->> '$.put_at' AS put_at, request -> '$.mark' AS mark FROM commands WHERE event_id = ?",
        (event_id,),
    )
    if row is None:
        return now, None
    return float(row["put_at"]), Mark(**json.loads(row["mark"])) if row["mark"] else None


async def keep_mark(db: Connection, question: str, mark: Mark) -> None:
    """With the command that waits for it, if one does; the first one stays."""
    await db.execute(
        "UPDATE commands SET request = json_insert(request, '$.mark', json(?))"
        " WHERE done = 0 AND request ->> '$.question' = ?",
        (json.dumps(asdict(mark)), question),
    )


async def done(db: Connection, event_id: str) -> None:
    await db.execute("UPDATE commands SET done = 1, request = '{}' WHERE event_id = ?", (event_id,))


async def get(store: Reader, event_id: str) -> Command | None:
    row = await store.read_one("SELECT * FROM commands WHERE event_id = ?", (event_id,))
    return _command(row) if row else None


async def unfinished(store: Reader) -> list[Command]:
    rows = await store.read("SELECT * FROM commands WHERE done = 0 ORDER BY created_at")
    return [_command(row) for row in rows]


async def forget(db: Connection, *, before: float) -> None:
    """Drop answered commands given before that time: no repeat of their event can come any more."""
    await db.execute("DELETE FROM commands WHERE done = 1 AND created_at < ?", (before,))


def _command(row: Row) -> Command:
    return Command(
        event_id=row["event_id"],
        room_id=row["room_id"],
        sender=row["sender"],
        request=json.loads(row["request"]),
        outcome=json.loads(row["outcome"]) if row["outcome"] else None,
    )
