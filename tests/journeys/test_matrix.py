"""Who may wake whom: every role to every role, in every room in which they meet, said for real and looked at.

The expectation is Appendix D.2 written down once more, by hand, with nothing of Opsroom's own code.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from tests.support import faults
from tests.support.person import Message, Person
from tests.support.stack import Stack

WORLD = """\
apiVersion: hiclaw.io/v1beta1
kind: Manager
metadata:
  name: default
spec:
  model: gpt-test
---
apiVersion: hiclaw.io/v1beta1
kind: Worker
metadata:
  name: alone
spec:
  model: gpt-test
---
apiVersion: hiclaw.io/v1beta1
kind: Team
metadata:
  name: red
spec:
  leader: {name: red-lead, model: gpt-test}
  workers: [{name: red-one, model: gpt-test}, {name: red-two, model: gpt-test}]
---
apiVersion: hiclaw.io/v1beta1
kind: Team
metadata:
  name: blue
spec:
  admin: {name: boss}
  peerMentions: false
  leader: {name: blue-lead, model: gpt-test}
  workers: [{name: blue-one, model: gpt-test}, {name: blue-two, model: gpt-test}]
"""
RED, BLUE = ("red-lead", "red-one", "red-two"), ("blue-lead", "blue-one", "blue-two")
AGENTS = ("manager", "alone", *RED, *BLUE)

# speaker -> whom it may wake
MAY = {
    "op": set(AGENTS),
    "everywhere": set(AGENTS),  # level 1
    "middle": {*RED, "alone"},  # level 2: team red, worker alone
    "narrow": {"alone", "red-one"},  # level 3
    "boss": set(BLUE),  # team admin of blue
    "manager": {"red-lead", "blue-lead", "alone"},
    "alone": {"manager"},
    "red-lead": {"manager", "red-one", "red-two"},
    "red-one": {"red-lead", "red-two"},
    "red-two": {"red-lead", "red-one"},
    "blue-lead": {"manager", "blue-one", "blue-two"},
    "blue-one": {"blue-lead"},
    "blue-two": {"blue-lead"},
}
ROOMS = {
    "manager-manager": {"op", "manager"},
    "worker-alone": {"op", "manager", "alone", "everywhere", "middle", "narrow"},
    "worker-red-lead": {"op", "manager", "red-lead", "everywhere"},
    "worker-red-one": {"op", "red-lead", "red-one", "everywhere", "middle", "narrow"},
    "worker-red-two": {"op", "red-lead", "red-two", "everywhere", "middle"},
    "team-red": {"op", *RED, "everywhere", "middle"},
    "leader-dm-red-lead": {"op", "red-lead"},
    "worker-blue-lead": {"op", "manager", "blue-lead", "everywhere"},
    "worker-blue-one": {"boss", "blue-lead", "blue-one", "everywhere"},
    "worker-blue-two": {"boss", "blue-lead", "blue-two", "everywhere"},
    "team-blue": {"boss", *BLUE, "everywhere"},
    "leader-dm-blue-lead": {"boss", "blue-lead"},
}


@dataclass(frozen=True)
class Call:
    """Somebody mentions an agent in a room; an agent does so in its answer to somebody else."""

    speaker: str
    target: str
    room: str


async def test_everybody_wakes_whom_they_may_and_nobody_else(stack: Stack) -> None:
    people = {
        "op": stack.op,
        "everywhere": await stack.human("everywhere", level=1),
        "middle": await stack.human("middle", level=2, accessibleTeams="[red]", accessibleWorkers="[alone]"),
        "narrow": await stack.human("narrow", level=3, accessibleWorkers="[alone, red-one]"),
        "boss": await stack.somebody("boss"),
    }
    applied = (await stack.apply(WORLD)).text
    assert applied.count("ready") == 4, applied
    for room, members in ROOMS.items():
        await _everybody_in(stack, people, room, members)
    calls = [
        Call(speaker, target, room)
        for room, members in ROOMS.items()
        for speaker in sorted(members)
        for target in AGENTS
        if target != speaker and target in members
    ]

    asked = dict(zip(calls, await asyncio.gather(*(_say(stack, people, call) for call in calls)), strict=True))
    expected = {call for call in calls if call.target in MAY[call.speaker]}
    await asyncio.gather(*(_heard(stack, people, call, asked[call]) for call in expected))
    await faults.all_done(stack)
    await stack.command("!version")

    woken = {call for call in calls if _answers(stack, people, call, asked[call])}
    assert woken == expected
    audit = (await stack.command("!audit --last 200")).text
    assert "@agent-blue-one → blue-two (mention, rule: peers)" in audit
    assert "@narrow → red-lead (trigger, rule: worker-access)" in audit
    for name in ("human/everywhere", "team/red", "team/blue", "manager/default", "worker/alone"):
        assert "Deleted" in (await stack.command(f"!delete {name} --yes", faults.PATIENCE_S)).text


async def _everybody_in(stack: Stack, people: Mapping[str, Person], room: str, members: set[str]) -> None:
    """All members, and nobody else, are joined; people are asked in and accept."""
    for name in members & people.keys():
        await stack.joined(people[name], room)
    reader = people[_reader(room)]
    found = await reader.call("GET", f"rooms/{quote(await _id(stack, room))}/joined_members")
    bot = f"@opsroom:{stack.info['server_name']}"
    assert set(found["joined"]) == {bot, *(_user(stack, people, name) for name in members)}


def _reader(room: str) -> str:
    """A person in the room who may wake all agents there."""
    return "op" if "op" in ROOMS[room] else "boss"


def _user(stack: Stack, people: Mapping[str, Person], name: str) -> str:
    return people[name].user if name in people else stack.agent(name)


async def _id(stack: Stack, room: str) -> str:
    return await stack.op.resolve(f"#opsroom-{room}:{stack.info['server_name']}")


async def _say(stack: Stack, people: Mapping[str, Person], call: Call) -> str:
    room, target = await _id(stack, call.room), stack.agent(call.target)
    if call.speaker in people:
        return await people[call.speaker].say(room, "are you there?", mention=target)
    words = f"pass this on to {target}"  # what an agent answers repeats the question: that is its mention
    return await people[_reader(call.room)].say(room, words, mention=stack.agent(call.speaker))


def _answers(stack: Stack, people: Mapping[str, Person], call: Call, event: str) -> list[Message]:
    reader = people[_reader(call.room)]
    target = stack.agent(call.target)
    return [m for m in reader.messages.values() if m.thread == event and m.sender == target and "You said" in m.text]


async def _heard(stack: Stack, people: Mapping[str, Person], call: Call, event: str) -> None:
    reader = people[_reader(call.room)]
    await reader.until(lambda: _answers(stack, people, call, event), f"an answer to {call}", faults.PATIENCE_S)
