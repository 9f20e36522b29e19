"""Rooms Opsroom made or its agents were asked into (direct)."""

from dataclasses import dataclass
from typing import Literal

from appservice.store.database import Connection, Database, Reader

Purpose = Literal["space", "ops", "worker", "team-space", "team", "leader-dm", "manager", "journal", "direct"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """`owner`: name of the agent or team a room of ours is for, Matrix id of the agent in a direct room. `seen`: event
    up to which a direct room was read, '' when reading begins with what is there now. `alias`: localpart, '' for a
    direct room."""

    room_id: str
    purpose: Purpose
    owner: str = ""
    seen: str = ""
    alias: str = ""


async def put(db: Connection, room: Room) -> None:
    db.changes("rooms")
    await db.execute(
        "INSERT INTO rooms (room_id, purpose, owner, seen, alias) VALUES (?, ?, ?, ?, ?) ON CONFLICT (room_id)"
        " DO UPDATE SET purpose = excluded.purpose, owner = excluded.owner, alias = excluded.alias",
        (room.room_id, room.purpose, room.owner, room.seen, room.alias),
    )


async def seen(db: Connection, room_id: str, event_id: str) -> None:
    db.changes("rooms")
    await db.execute("UPDATE rooms SET seen = ? WHERE room_id = ?", (event_id, room_id))


async def remove(db: Connection, room_id: str) -> None:
    db.changes("rooms")
    await db.execute("DELETE FROM rooms WHERE room_id = ?", (room_id,))


async def every(store: Reader) -> list[Room]:
    rows = await store.read("SELECT * FROM rooms")
    return [Room(**dict(row)) for row in rows]


async def of_alias(store: Reader, alias: str) -> list[Room]:
    """Every room that is, or was, behind an alias of ours."""
    rows = await store.read("SELECT * FROM rooms WHERE alias = ?", (alias,))
    return [Room(**dict(row)) for row in rows]


async def get(store: Database, room_id: str) -> Room | None:
    row = await store.recall("rooms", "SELECT * FROM rooms WHERE room_id = ?", (room_id,))
    return Room(**dict(row)) if row else None
