"""All about one object, for the person who must know at 3 a.m. what an agent did and who allowed it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appservice.homeserver.members import short
from appservice.ops import render
from appservice.store import consumers, status, turns
from appservice.store.database import Database
from appservice.store.objects import Stored
from appservice.store.status import Condition, Status

LAST = 5  # turns that are told


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """Failed passes in a row, and seconds until the next one (None: none is planned)."""

    failed: int
    next_s: float | None


async def describe(store: Database, stored: Stored, agents: Sequence[str], tries: Tries, *, now: float) -> str:
    """`agents`: whose turns and usage these are."""
    found = await status.get(store, stored.key)
    parts = [
        head(stored, found, now),
        _tries(tries),
        _conditions(found, now),
        await _turns(store, agents, now),
        await _usage(store, agents),
        await _happenings(store, stored, found, now),
    ]
    return "\n\n".join(part for part in parts if part)


def head(stored: Stored, found: Status, now: float) -> str:
    spec, seen = stored.document["spec"], found.facts
    facts = {
        "State": render.state(stored, found),
        "Part of": f"`{stored.owner}`" if stored.owner else "",
        "Name": spec.get("displayName", ""),
        "Level": spec.get("permissionLevel", ""),
        "Note": spec.get("note", ""),
        "Model": seen.get("model") or spec.get("model", ""),
        "Matrix user": seen.get("matrixUserID", ""),
        "Room": render.room_link(stored.name, found),
        "Rooms": len(seen.get("rooms", ())) or "",
        "Agents": ", ".join(map(_member, seen.get("members", ()))),
        "Sandbox": seen.get("container", ""),
        "Declared": f"generation {stored.generation} by {short(stored.author)}, {render.when(stored.changed_at, now)}",
    }
    lines = [f"**{stored.key}**", ""]
    return "\n".join([*lines, *(f"- {name}: {value}" for name, value in facts.items() if value)])


def _tries(tries: Tries) -> str:
    if not tries.failed:
        return ""
    again = f"; the next try is in {tries.next_s:.0f} s" if tries.next_s is not None else ""
    return f"Tried {tries.failed} time{'s' * (tries.failed > 1)} in a row without success{again}."


def _member(member: Mapping[str, Any]) -> str:
    leads = " (leader)" if member["role"] == "team_leader" else ""
    return f"{member['name']}{leads} {'ready' if member['ready'] else 'NOT READY'}"


def _conditions(found: Status, now: float) -> str:
    """What is not so in full; what is so in a line each. A table of this would be too wide for a phone."""
    if not found.conditions:
        return "Nothing was done for it yet."
    ranked = sorted(found.conditions, key=lambda condition: condition.status == "True")
    return "\n".join(["**Conditions**", "", *(_condition(condition, found, now) for condition in ranked)])


def _condition(condition: Condition, found: Status, now: float) -> str:
    took = f", took {condition.took_s * 1000:.0f} ms" if condition.took_s >= 0.001 else ""
    since = f"since {render.when(condition.since, now)}{took}"
    said = _said(condition.message, found)
    if condition.status == "True":
        return f"- **ok** {condition.type}: {_words(condition.reason)}{f' ({said})' if said else ''}, {since}"
    return f"- **NO** {condition.type}: {said or _words(condition.reason)}, {since}"


def _said(message: str, found: Status) -> str:
    """A message that is more than an id which the head shows already."""
    return "" if message in found.facts.values() else message.rstrip(".")


def _words(name: str) -> str:
    """`AllEffective` as `all effective`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


async def _turns(store: Database, agents: Sequence[str], now: float) -> str:
    found = [turn for agent in agents for turn in await turns.recent(store, agent, LAST)]
    lines = []
    for turn in sorted(found, key=lambda turn: turn.asked_at, reverse=True)[:LAST]:
        took = f" after {(turn.ended_at - turn.asked_at):.1f} s" if turn.ended_at else ""
        error = f": {turn.error}" if turn.error else ""
        asked = f"asked by {short(turn.sender)} at {render.when(turn.asked_at, now)}"
        lines.append(f"- {_whose(turn.agent, agents)}{turn.state}{took}, {asked}{error}")
    return "**Last turns**\n\n" + "\n".join(lines) if lines else ""


async def _usage(store: Database, agents: Sequence[str]) -> str:
    lines = [
        f"- {_whose(agent, agents)}{used.model}: {used.calls} call{'s' * (used.calls != 1)}, {used.failed} failed, "
        f"{used.tokens_in} tokens in, {used.tokens_out} out"
        + (f", median {used.median_ms} ms" if used.median_ms is not None else "")
        for agent in agents
        for used in await consumers.summary(store, agent)
    ]
    return "**Usage**\n\n" + "\n".join(lines) if lines else ""


def _whose(agent: str, agents: Sequence[str]) -> str:
    return f"{agent}: " if len(agents) > 1 else ""


async def _happenings(store: Database, stored: Stored, found: Status, now: float) -> str:
    lines = []
    for item in await status.happenings(store, stored.key):
        times = f" ({item.times} times)" if item.times > 1 else ""
        said = _said(item.message, found)
        lines.append(f"- {render.when(item.at, now)}: {_words(item.reason)}{times}{f', {said}' if said else ''}")
    return "**What happened, newest first**\n\n" + "\n".join(lines) if lines else ""
