"""What a mention costs and how soon it is felt.

First: from the moment a person's client begins to send a mention until it arrives at the agent's door, against a bare
aiohttp application service on the same Synapse, whose handler does nothing, in a room of the same kind; alternating.
Between two mentions it is quiet, so that one does not slow the next.

Then: from the same moment to the first visible sign (typing or message) and to the whole answer, as a syncing client
sees them, from a model that takes 0.14 s (first token after 20 ms, one each 10 ms, 12 tokens), with 2, 50 and 100
agents in the room; one of them runs, the others are declared as `Stopped`.

    .venv/bin/python -m benchmarks.mentions [--mentions 300] [--answers 100] [--agents 2 50 100]
"""

import argparse
import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote

import yaml

from benchmarks import _figures as figures
from benchmarks._beside import AGENT, BARE_AGENT, Beside, beside
from benchmarks._figures import Spread
from tests.support.person import Person
from tests.support.provider import Say
from tests.support.stack import Stack, opened, worker_yaml

WORDS = 12
ANSWER = " ".join(f"word{n}" for n in range(1, WORDS + 1))
WARM_UP = 10
QUIET_S = 0.05


async def delivered(setup: Beside, count: int) -> dict[str, list[float]]:
    """Milliseconds from the client's send to the arrival, by way."""
    took: dict[str, list[float]] = {"bare application service": [], "Opsroom, to the agent's door": []}
    bare, ours = took.values()

    async def one(room: str, agent: str, values: list[float]) -> str:
        mark = f"mark-{uuid.uuid4()}"
        begun = time.monotonic()
        event = await setup.op.say(room, mark, mention=agent)
        values.append((await setup.arrivals.of(mark) - begun) * 1000)
        return event

    for _ in range(count + WARM_UP):
        event = await one(setup.bare_room, BARE_AGENT, bare)
        await setup.op.until(lambda event=event: event in setup.op.arrived, "one's own message")  # type: ignore[misc]
        await asyncio.sleep(QUIET_S)
        event = await one(setup.room, AGENT, ours)
        await setup.op.answer_to(event)
        await asyncio.sleep(QUIET_S)
    return {name: values[WARM_UP:] for name, values in took.items()}


def tell_delivered(took: dict[str, list[float]]) -> str:
    bare, ours = (Spread.of(values) for values in took.values())
    rows = [
        [name, spread.n, spread.p50, spread.p99, *spread.over(bare)]
        for name, spread in zip(took, (bare, ours), strict=True)
    ]
    p50, p99 = ours.over(bare)
    head = ["mention sent -> arrived", "n", "p50 ms", "p99 ms", "x p50", "x p99"]
    return "\n".join(
        [
            figures.table(head, rows),
            f"ratio of p50 {figures.verdict(p50, 1.15)}, of p99 {figures.verdict(p99, 1.3)}",
        ]
    )


@dataclass(slots=True)
class Felt:
    """What people and the machine felt of the answers in one room."""

    agents: int
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)
    load: float = 0.0  # of the machine, one minute, at the end


async def felt(stack: Stack, room: str, agents: int, count: int) -> Felt:
    found = Felt(agents)
    for _ in range(WARM_UP):
        await ask(stack, room, Felt(0))
    pids = {"control plane": stack.info["pids"]["control_plane"], "homeserver": stack.info["pids"]["homeserver"]}
    before = {name: figures.cpu_s(pid) for name, pid in pids.items()}
    for _ in range(count):
        await ask(stack, room, found)
    found.cpu = {name: (figures.cpu_s(pid) - before[name]) / count for name, pid in pids.items()}
    found.load = os.getloadavg()[0]
    return found


async def ask(stack: Stack, room: str, found: Felt) -> None:
    """One mention and its whole answer; afterwards wait until the agent is seen to type no more."""
    op, agent = stack.op, stack.agent("asked")
    mark = str(uuid.uuid4())
    seen = len(op.events)
    begun = time.monotonic()
    asked = asyncio.create_task(stack.ask(room, "asked", mark))
    await op.until(lambda: agent in op.typing.get(room, []) or spoke(op, room, agent, seen), "a first sign")
    found.first.append(time.monotonic() - begun)
    event = await asked
    await op.until(lambda: any(m.text.strip() == ANSWER for m in op.answers(event)), "the whole answer")
    found.whole.append(time.monotonic() - begun)
    await op.until(lambda: agent not in op.typing.get(room, []), "the end of typing")
    await asyncio.sleep(QUIET_S)
    found.events.append(sum(e["room_id"] == room and e["sender"] == agent for e in op.events[seen:]))


def spoke(op: Person, room: str, agent: str, since: int) -> bool:
    return any(event["room_id"] == room and event["sender"] == agent for event in op.events[since:])


async def crowd(stack: Stack, room: str, there: int, wanted: int) -> None:
    """Declare further Workers that do not run, and join their users to the room by the application service."""
    names = [f"idle{number}" for number in range(there, wanted)]
    if not names:
        return
    text = "---\n".join(worker_yaml(name, state="Stopped") for name in names)
    answer = await stack.apply(text, timeout_s=600)
    assert "not ready" not in answer.text, answer.text
    token = yaml.safe_load((stack.data_dir / "homeserver" / "registration.yaml").read_text())["as_token"]
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{stack.info['homeserver']}/_matrix/client/v3"
    bot = f"@opsroom:{stack.info['server_name']}"

    async def call(path: str, body: dict[str, str], user: str) -> None:
        async with stack.op.http.post(f"{url}/{path}", json=body, params={"user_id": user}, headers=headers) as said:
            assert said.status == 200, await said.text()

    for name in names:
        await call(f"rooms/{quote(room)}/invite", {"user_id": stack.agent(name)}, bot)
        await call(f"join/{quote(room)}", {}, stack.agent(name))


def tell_felt(rooms: list[Felt]) -> str:
    rows, lines = [], []
    for room in rooms:
        first, whole = Spread.of(room.first), Spread.of(room.whole)
        events = sum(room.events) / len(room.events)
        rows.append(
            [room.agents, first.n, first.p50, first.p99, whole.p50, whole.p99, events, *room.cpu.values(), room.load]
        )
        lines.append(
            f"{room.agents} agents: first sign p50 {figures.verdict(first.p50, 0.15, ' s')}, "
            f"p99 {figures.verdict(first.p99, 0.4, ' s')}; events {figures.verdict(events, 5)}"
        )
    smallest = Spread.of(rooms[0].first)
    for room in rooms[1:]:
        p50, p99 = Spread.of(room.first).over(smallest)
        lines.append(
            f"first sign with {room.agents} against {rooms[0].agents} agents: x {p50:.2f} p50, x {p99:.2f} p99"
        )
    head = [
        "agents",
        "n",
        "sign p50 s",
        "p99",
        "whole p50 s",
        "p99",
        "events",
        "control plane CPU s",
        "homeserver CPU s",
        "load",
    ]
    return "\n".join([figures.table(head, rows), *lines])


async def measure_delivered(count: int) -> None:
    async with beside() as setup:
        print(figures.load())
        print(tell_delivered(await delivered(setup, count)))
        print(figures.load(), flush=True)


async def measure_felt(sizes: list[int], count: int) -> None:
    rooms = []
    async with opened() as stack:
        stack.provider.default = Say(ANSWER, first=0.02, delay=0.01)
        room = await stack.worker("asked")
        there = 1
        for size in sizes:
            await crowd(stack, room, there, size)
            there = size
            rooms.append(await felt(stack, room, size, count))
    print(tell_felt(rooms))
    print(figures.load(), flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mentions", type=int, default=300)
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--agents", type=int, nargs="*", default=[2, 50, 100])
    options = parser.parse_args()
    parts: list[Callable[[], Awaitable[None]]] = []
    if options.mentions:
        parts.append(lambda: measure_delivered(options.mentions))
    if options.answers and options.agents:
        parts.append(lambda: measure_felt(sorted(options.agents), options.answers))
    for part in parts:
        await part()


if __name__ == "__main__":
    asyncio.run(main())
