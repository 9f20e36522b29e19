"""Observed state: phase, conditions and facts of each object, and what happened to it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from appservice.store.changes import Key
from appservice.store.database import Connection, Reader
from appservice.store.objects import Stored

KEPT_HAPPENINGS = 40
SETTLED = ("Running", "Active", "Sleeping", "Stopped")  # phases of what is as it was declared
NOTES = ("FieldsEffective", "References", "Admin")  # conditions that keep nothing from being ready

Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that is so or not (Kubernetes API conventions). `reason` is CamelCase for machines, `message` a
    sentence for people. `since`: when `status` last flipped, seconds since the epoch. `took_s`: the last step's
    duration."""

    type: str
    status: Truth
    reason: str
    message: str = ""
    since: float = 0.0
    took_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is so. `facts`: matrixUserID, roomID, container, awakeUntil and the like."""

    phase: str = "Pending"
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def condition(self, type_: str) -> Condition | None:
        return next((condition for condition in self.conditions if condition.type == type_), None)

    def with_conditions(self, fresh: tuple[Condition, ...], *, now: float) -> "Status":
        """Conditions replaced; `since` is kept where the status did not flip."""
        kept = []
        for condition in fresh:
            old = self.condition(condition.type)
            same = old is not None and old.status == condition.status
            kept.append(replace(condition, since=old.since if old and same else now))
        return replace(self, conditions=tuple(kept))


def is_current(stored: Stored, found: Status) -> bool:
    """Whether a status speaks of what is declared and asked for now."""
    return (found.observed_generation, found.facts.get("restart", "")) == (stored.generation, stored.restart)


def first_trouble(found: Status) -> Condition | None:
    """The condition that tells why an object is not as declared: a failure before a wait."""
    bad = [one for one in found.conditions if one.status != "True" and one.type not in NOTES]
    return next((one for one in bad if one.reason != "Waiting"), bad[0] if bad else None)


def equal(one: Status, other: Status) -> bool:
    """The same but for durations."""
    return _without_durations(one) == _without_durations(other)


def _without_durations(status: Status) -> Status:
    return replace(status, conditions=tuple(replace(c, took_s=0.0) for c in status.conditions))


async def get(store: Reader, key: Key) -> Status:
    row = await store.read_one("SELECT status FROM status WHERE kind = ? AND name = ?", key)
    return load(row["status"]) if row else Status()


async def every(store: Reader) -> dict[Key, Status]:
    rows = await store.read("SELECT kind, name, status FROM status")
    return {Key(row["kind"], row["name"]): load(row["status"]) for row in rows}


async def put(db: Connection, key: Key, status: Status) -> None:
    await db.execute(
        "INSERT INTO status (kind, name, status) VALUES (?, ?, ?)"
        " ON CONFLICT (kind, name) DO UPDATE SET status = excluded.status",
        (*key, json.dumps(asdict(status), ensure_ascii=False)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    reason: str
    message: str
    times: int
    at: float


async def record(db: Connection, key: Key, reason: str, message: str, *, now: float) -> None:
    """Remember what happened; a repeat is counted and is the newest again, and only the newest are kept."""
    cursor = await db.execute(
        "UPDATE happenings SET times = times + 1, at = ? WHERE kind = ? AND name = ? AND reason = ? AND message = ?",
        (now, *key, reason, message),
    )
    if cursor.rowcount:
        return
    await db.execute(
        "INSERT INTO happenings (kind, name, reason, message, at) VALUES (?, ?, ?, ?, ?)", (*key, reason, message, now)
    )
    await db.execute(
        "DELETE FROM happenings WHERE kind = ?1 AND name = ?2 AND id NOT IN (SELECT id FROM happenings"
        " WHERE kind = ?1 AND name = ?2 ORDER BY at DESC, id DESC LIMIT ?3)",
        (*key, KEPT_HAPPENINGS),
    )


async def happenings(store: Reader, key: Key, limit: int = 10) -> list[Happening]:
    """Newest first."""
    rows = await store.read(
        "SELECT reason, message, times, at FROM happenings WHERE kind = ? AND name = ?"
        " ORDER BY at DESC, id DESC LIMIT ?",
        (*key, limit),
    )
    return [Happening(reason=r["reason"], message=r["message"], times=r["times"], at=r["at"]) for r in rows]


def load(text: str) -> Status:
    """A row's text, or what was kept of one."""
    data = json.loads(text)
    return Status(
        phase=data["phase"],
        observed_generation=data["observed_generation"],
        conditions=tuple(Condition(**condition) for condition in data["conditions"]),
        facts=data["facts"],
    )
