"""How soon a room is put right that an operator changed by hand: from the homeserver's answer to the change until the
operator's client has seen it undone. Names, topics and powers, kicks, bans and links to the space, in turns, in rooms
of a team; the others of its rooms are there as well, to be left alone.

    .venv/bin/python -m benchmarks.healing [--rounds 10] [--workers 20]
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from benchmarks import _figures as figures
from benchmarks._figures import Spread
from benchmarks.teams import applied, quiet, team_yaml
from tests.support.stack import Stack, opened

LIMIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Meddling:
    """Something done by hand: a call below `rooms/ROOM/`, and the state event that undoes it."""

    room: str
    method: str
    path: str
    body: Mapping[str, Any]
    kind: str
    key: str = ""
    good: Callable[[Mapping[str, Any]], bool]


async def meddlings(stack: Stack, size: int) -> dict[str, Meddling]:
    op, room, space = stack.op, await stack.id("team-crew"), await stack.id("space-crew")
    await op.until(lambda: {room, space} <= set(op.rooms), "the rooms of the team")
    agent = stack.agent(f"crew-{size - 2}")

    async def state(kind: str, change: Mapping[str, Any], *, where: str = room, key: str = "") -> Meddling:
        path = f"state/{kind}/{quote(key)}"
        before = await op.call("GET", f"rooms/{quote(where)}/{path}")
        changed = change.keys() or before.keys()
        return Meddling(
            room=where,
            method="PUT",
            path=path,
            body={**before, **change} if change else {},
            kind=kind,
            key=key,
            good=lambda now: all(now.get(name) == before.get(name) for name in changed),
        )

    def out(how: str) -> Meddling:
        return Meddling(
            room=room,
            method="POST",
            path=how,
            body={"user_id": agent},
            kind="m.room.member",
            key=agent,
            good=lambda now: now.get("membership") == "join",
        )

    return {
        "name": await state("m.room.name", {"name": "by hand"}),
        "topic": await state("m.room.topic", {"topic": "by hand"}),
        "powers": await state("m.room.power_levels", {"users_default": 10}),
        "space link": await state("m.space.child", {}, where=space, key=room),
        "kick": out("kick"),
        "ban": out("ban"),
    }


async def healed_in(stack: Stack, done: Meddling) -> float:
    """Seconds from the answer on."""
    op, before = stack.op, len(stack.op.events)

    def undone() -> bool:
        news = (event for event in op.events[before:] if event["room_id"] == done.room and event["type"] == done.kind)
        return any(event.get("state_key") == done.key and done.good(event["content"]) for event in news)

    await op.call(done.method, f"rooms/{quote(done.room)}/{done.path}", dict(done.body))
    begun = time.monotonic()
    await op.until(undone, f"{done.kind} put right", LIMIT_S)
    return time.monotonic() - begun


async def measure(rounds: int, size: int) -> None:
    async with opened("--no-web", "--backend", "process") as stack:
        await applied(stack, team_yaml("crew", size))
        await quiet(stack)
        rows: list[tuple[str, int, float, float]] = []
        for name, done in (await meddlings(stack, size)).items():
            took = [await healed_in(stack, done) for _ in range(rounds)]
            rows.append((name, rounds, Spread.of(took).p50, max(took)))
        print(figures.table(["put right", "times", "median s", "worst s"], rows))
        print(figures.verdict(max(row[3] for row in rows), 2.0, " s"))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=20)
    options = parser.parse_args()
    print(figures.load())
    await measure(options.rounds, options.workers)
    print(figures.load())


if __name__ == "__main__":
    asyncio.run(main())
