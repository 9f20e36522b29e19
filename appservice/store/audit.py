"""Decisions kept for whoever asks later who was allowed what."""

from dataclasses import astuple, dataclass
from typing import Final

from appservice.store.database import Connection, Reader

KEPT = 10_000
OPERATOR: Final = "operator"  # the rule that allows every change of what is declared
NO_OPERATOR: Final = f"not an {OPERATOR}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`actor`: Matrix id; `target`: an agent's name or an object's key; `rule`: what decided; `cause`: event id."""

    at: float
    actor: str
    action: str
    target: str
    room_id: str
    verdict: str
    rule: str
    cause: str


async def record(db: Connection, entry: Entry) -> None:
    await db.execute(
        "INSERT INTO audit (at, actor, action, target, room_id, verdict, rule, cause) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        astuple(entry),
    )


async def newest(store: Reader, *, target: str = "", limit: int = 20) -> list[Entry]:
    """Newest first; of one target, or of all. An agent is found by its name as by its key."""
    rows = await store.read(
        "SELECT at, actor, action, target, room_id, verdict, rule, cause FROM audit"
        " WHERE ?1 = '' OR target IN (?1, 'worker/' || ?1) ORDER BY id DESC LIMIT ?2",
        (target, limit),
    )
    return [Entry(**dict(row)) for row in rows]


async def sweep(db: Connection) -> None:
    """Forget the oldest."""
    await db.execute("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", (KEPT,))
