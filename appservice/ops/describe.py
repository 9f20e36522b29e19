"""All about one object, for the person who must know at 3 a.m. what an agent did and who allowed it."""

from appservice.ops import render
from appservice.store import consumers, status, turns
from appservice.store.database import Database
from appservice.store.objects import Stored
from appservice.store.status import Condition, Status


async def describe(store: Database, stored: Stored, *, now: float) -> str:
    found = await status.get(store, stored.key)
    parts = [
        _head(stored, found, now),
        _conditions(found, now),
        await _turns(store, stored.name, now),
        await _usage(store, stored.name),
        await _happenings(store, stored, now),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(stored: Stored, found: Status, now: float) -> str:
    spec = stored.document["spec"]
    facts = {
        "State": render.state(stored, found),
        "Model": spec.get("model", ""),
        "Matrix user": found.facts.get("matrixUserID", ""),
        "Room": found.facts.get("roomID", ""),
        "Sandbox": found.facts.get("container", ""),
        "Declared": f"generation {stored.generation} by {stored.author}, {render.when(stored.changed_at, now)}",
    }
    lines = [f"**{stored.key}**", ""]
    return "\n".join([*lines, *(f"- {name}: {value}" for name, value in facts.items() if value)])


def _conditions(found: Status, now: float) -> str:
    if not found.conditions:
        return "Nothing was done for it yet."
    rows = [
        (c.type, "yes" if c.status == "True" else "**NO**", _why(c), render.when(c.since, now))
        for c in found.conditions
    ]
    return render.table(("CONDITION", "SO", "WHY", "SINCE"), rows)


def _why(condition: Condition) -> str:
    took = f" ({condition.took_s * 1000:.0f} ms)" if condition.took_s >= 0.001 else ""
    return f"{condition.reason}: {condition.message}{took}" if condition.message else condition.reason + took


async def _turns(store: Database, name: str, now: float) -> str:
    rows = []
    for turn in await turns.recent(store, name):
        took = f"{(turn.ended_at - turn.asked_at):.1f} s" if turn.ended_at else ""
        rows.append((turn.state, turn.sender, render.when(turn.asked_at, now), took, turn.error))
    return "**Last turns**\n\n" + render.table(("STATE", "ASKED BY", "WHEN", "TOOK", "ERROR"), rows) if rows else ""


async def _usage(store: Database, name: str) -> str:
    rows = [
        (
            used.model,
            str(used.calls),
            str(used.failed),
            str(used.tokens_in),
            str(used.tokens_out),
            f"{used.median_ms} ms",
        )
        for used in await consumers.summary(store, name)
    ]
    head = ("MODEL", "CALLS", "FAILED", "TOKENS IN", "TOKENS OUT", "MEDIAN")
    return "**Usage**\n\n" + render.table(head, rows) if rows else ""


async def _happenings(store: Database, stored: Stored, now: float) -> str:
    lines = []
    for item in await status.happenings(store, stored.key):
        times = f" ({item.times} times)" if item.times > 1 else ""
        lines.append(f"- {render.when(item.at, now)} {item.reason}{times} {item.message}".rstrip())
    return "**What happened, newest first**\n\n" + "\n".join(lines) if lines else ""
