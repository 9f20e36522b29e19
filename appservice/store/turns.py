"""Questions to agents, as rows with states: whatever waits survives a restart.

              deliver              answer on its way
    QUEUED ------------> WORKING --------------------> DONE
      |  ^                 | |
      |  |   agent lost    | | error                     DONE, FAILED and STOPPED are final
      |  +-----(once)------+ +-----------> FAILED
      +------ stop ------->+-------------> STOPPED

`attempt` counts deliveries: a second one is marked as a retry, a third never happens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from appservice.store.database import Connection, Reader, Row

TurnState = Literal["queued", "working", "done", "failed", "stopped"]
OPEN = ("queued", "working")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """`thread` is the root event of the thread the answer goes to; with the room and agent it is the context. `answer`:
    its whole text, kept when it calls somebody and is too long for one message."""

    id: str
    event_id: str
    agent: str
    room_id: str
    thread: str
    sender: str
    question: str
    state: TurnState = "queued"
    attempt: int = 0
    answer_event: str = ""
    error: str = ""
    root: str = ""
    hop: int = 0
    asked_at: float = 0.0
    ended_at: float | None = None
    answer: str = ""

    @property
    def context(self) -> str:
        """The A2A contextId: one conversation."""
        return f"{self.room_id}|{self.thread}"


async def add(db: Connection, turn: Turn) -> bool:
    """Queue a turn; False when this event already made one for this agent."""
    cursor = await db.execute(
        "INSERT INTO turns (id, event_id, agent, room_id, thread, sender, question, state, root, hop, asked_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            turn.id,
            turn.event_id,
            turn.agent,
            turn.room_id,
            turn.thread,
            turn.sender,
            turn.question,
            turn.root,
            turn.hop,
            turn.asked_at,
        ),
    )
    return bool(cursor.rowcount)


async def get(store: Reader, turn_id: str) -> Turn | None:
    row = await store.read_one("SELECT * FROM turns WHERE id = ?", (turn_id,))
    return _turn(row) if row else None


async def open_turns(store: Reader) -> list[Turn]:
    """All that are queued or working, oldest first."""
    rows = await store.read("SELECT * FROM turns WHERE state IN ('queued', 'working') ORDER BY asked_at, id")
    return [_turn(row) for row in rows]


async def of_event(store: Reader, event_id: str) -> list[Turn]:
    """Turns that this event asked, or that it answers."""
    rows = await store.read("SELECT * FROM turns WHERE event_id = ?1 OR answer_event = ?1", (event_id,))
    return [_turn(row) for row in rows]


async def recent(store: Reader, agent: str, limit: int) -> list[Turn]:
    rows = await store.read("SELECT * FROM turns WHERE agent = ? ORDER BY asked_at DESC LIMIT ?", (agent, limit))
    return [_turn(row) for row in rows]


async def in_thread(store: Reader, room_id: str, thread: str) -> list[Turn]:
    """Oldest first."""
    rows = await store.read("SELECT * FROM turns WHERE room_id = ? AND thread = ? ORDER BY asked_at", (room_id, thread))
    return [_turn(row) for row in rows]


async def is_shared(store: Reader, thread: str) -> bool:
    """Whether more than one person has spoken in the thread."""
    return await store.read_one("SELECT 1 FROM shared_threads WHERE thread = ?", (thread,)) is not None


async def share(db: Connection, thread: str) -> None:
    await db.execute("INSERT INTO shared_threads (thread) VALUES (?) ON CONFLICT DO NOTHING", (thread,))


async def deliver(db: Connection, turn_id: str, attempt: int) -> Turn | None:
    """Take a queued turn up, as this attempt; as it reads now, None when it was stopped meanwhile."""
    rows = await db.execute(
        "UPDATE turns SET state = 'working', attempt = ? WHERE id = ? AND state IN ('queued', 'working') RETURNING *",
        (attempt, turn_id),
    )
    taken = rows.fetchall()
    return _turn(taken[0]) if taken else None


async def set_answer(db: Connection, turn_id: str, event_id: str) -> None:
    await db.execute("UPDATE turns SET answer_event = ? WHERE id = ?", (event_id, turn_id))


async def end(db: Connection, turn_id: str, state: TurnState, *, error: str = "", answer: str = "", now: float) -> bool:
    """Close an open turn; False when it is closed already."""
    change = "state = ?, error = ?, answer = ?, ended_at = ?"
    return await _move(db, turn_id, OPEN, change, (state, error, answer, now))


async def edit(db: Connection, event_id: str, question: str) -> bool:
    """Change the question of turns that were not delivered yet."""
    cursor = await db.execute(
        "UPDATE turns SET question = ? WHERE event_id = ? AND state = 'queued'", (question, event_id)
    )
    return bool(cursor.rowcount)


async def forget(db: Connection, *, before: float, keep: int = 5) -> None:
    """Drop turns of threads in which nothing was asked since that time. Open ones stay, and the newest ones of each
    agent."""
    await db.execute(
        "DELETE FROM turns WHERE ended_at < :before AND asked_at < :before"
        " AND NOT EXISTS (SELECT 1 FROM turns AS later WHERE later.room_id = turns.room_id"
        "  AND later.thread = turns.thread AND (later.asked_at >= :before OR later.ended_at IS NULL))"
        " AND id NOT IN (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY agent ORDER BY asked_at DESC)"
        "  AS place FROM turns) WHERE place <= :keep)",
        {"before": before, "keep": keep},
    )
    await db.execute("DELETE FROM shared_threads WHERE thread NOT IN (SELECT thread FROM turns)")


async def _move(db: Connection, turn_id: str, allowed: Sequence[str], change: str, values: Sequence[object]) -> bool:
    marks = ",".join("?" * len(allowed))
    cursor = await db.execute(
        f"UPDATE turns SET {change} WHERE id = ? AND state IN ({marks})",  # noqa: S608 - column names of ours
        (*values, turn_id, *allowed),
    )
    return bool(cursor.rowcount)


def _turn(row: Row) -> Turn:
    return Turn(**dict(row))
