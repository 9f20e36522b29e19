"""Who may wake whom: every role to every role, in every kind of room, said for real and looked at.

The expectation is Appendix D.2 written down once more, by hand, with nothing of Opsroom's own code.
"""

import asyncio
from collections.abc import Iterable, Mapping
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
  channelPolicy: {groupAllowExtra: [guest]}
---
apiVersion: hiclaw.io/v1beta1
kind: Team
metadata:
  name: red
spec:
  channelPolicy: {groupAllowExtra: ["@telegram_1:SERVER"], dmAllowExtra: ["@telegram_1:SERVER"]}
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
    "deputy": set(AGENTS),  # another operator
    "everywhere": set(AGENTS),  # level 1
    "middle": {*RED, "alone"},  # level 2: team red, worker alone
    "narrow": {"alone", "red-one"},  # level 3
    "boss": set(BLUE),  # team admin of blue
    "guest": {"alone"},  # by a policy, in groups
    "telegram_1": set(RED),  # by a policy: a bridge's user, whose name no Human can have
    "nobody": set[str](),
    "manager": {"red-lead", "blue-lead", "alone"},
    "alone": {"manager"},
    "red-lead": {"manager", "red-one", "red-two"},
    "red-one": {"red-lead", "red-two"},
    "red-two": {"red-lead", "red-one"},
    "blue-lead": {"manager", "blue-one", "blue-two"},
    "blue-one": {"blue-lead"},
    "blue-two": {"blue-lead"},
}
ALONE = MAY | {"boss": {"blue-lead"}, "guest": set[str]()}  # in a room of one's own, no mention needed
ONE_OF_EACH = ("manager", "alone", "red-lead", "red-one", "blue-lead", "blue-one")
ROOMS = {
    "manager-manager": {"op", "deputy", "manager"},
    "worker-alone": {"op", "deputy", "manager", "alone", "everywhere", "middle", "narrow", "guest"},
    "worker-red-lead": {"op", "deputy", "manager", "red-lead", "everywhere"},
    "worker-red-one": {"op", "deputy", "red-lead", "red-one", "everywhere", "middle", "narrow"},
    "worker-red-two": {"op", "deputy", "red-lead", "red-two", "everywhere", "middle"},
    "team-red": {"op", "deputy", *RED, "everywhere", "middle", "telegram_1"},
    "leader-dm-red-lead": {"op", "deputy", "red-lead"},
    "worker-blue-lead": {"op", "deputy", "manager", "blue-lead", "everywhere"},
    "worker-blue-one": {"boss", "blue-lead", "blue-one", "everywhere"},
    "worker-blue-two": {"boss", "blue-lead", "blue-two", "everywhere"},
    "team-blue": {"boss", *BLUE, "everywhere"},
    "leader-dm-blue-lead": {"boss", "blue-lead"},
}
INVITED = {"worker-alone": "guest", "team-red": "telegram_1"}  # by hand
NO_MENTION_NEEDED = ("manager-manager", "leader-dm-red-lead", "leader-dm-blue-lead")
OWN = "a room of their own"


@dataclass(frozen=True)
class Call:
    """Somebody mentions an agent in a room; an agent does so in its answer to somebody else. Without `mention` a person
    just says something."""

    speaker: str
    target: str
    room: str
    mention: bool = True


def calls_of(people: Iterable[str]) -> dict[Call, bool]:
    """Every call there can be, and whether it may wake its target."""
    found = {Call(who, target, OWN, mention=False): target in ALONE[who] for who in people for target in ONE_OF_EACH}
    for room, members in ROOMS.items():
        for who in sorted(members):
            absent = [target for target in AGENTS if target not in members]
            for target in members & set(AGENTS) - {who}:
                found[Call(who, target, room)] = target in MAY[who]
                if who in people:
                    found[Call(who, target, room, mention=False)] = room in NO_MENTION_NEEDED and target in MAY[who]
            for target in absent if who in people else absent[:1]:
                found[Call(who, target, room)] = False
    return found


async def test_everybody_wakes_whom_they_may_and_nobody_else(stack: Stack) -> None:
    people = {
        "op": stack.op,
        "everywhere": await stack.human("everywhere", level=1),
        "middle": await stack.human("middle", level=2, accessibleTeams="[red]", accessibleWorkers="[alone]"),
        "narrow": await stack.human("narrow", level=3, accessibleWorkers="[alone, red-one]"),
        **{name: await stack.somebody(name) for name in ("boss", "guest", "telegram_1", "nobody", "deputy")},
    }
    await _operates(stack, people["deputy"])
    applied = (await stack.apply(WORLD.replace("SERVER", stack.info["server_name"]))).text
    assert applied.count("ready") == 4, applied
    for room, members in ROOMS.items():
        if room in INVITED:
            await stack.joined(stack.op, room)
            invited = people[INVITED[room]].user
            await stack.op.call("POST", f"rooms/{quote(await _id(stack, room))}/invite", {"user_id": invited})
        await _everybody_in(stack, people, room, members)
    calls = calls_of(people)

    asked = dict(zip(calls, await asyncio.gather(*(_say(stack, people, call) for call in calls)), strict=True))
    expected = {call for call, may in calls.items() if may}
    await asyncio.gather(*(_heard(stack, people, call, asked[call]) for call in expected))
    await faults.all_done(stack)
    await asyncio.gather(*(_all_told(person) for person in people.values()))

    woken = {call for call in calls if _answers(stack, people, call, asked[call])}
    assert woken == expected
    audit = (await stack.command("!audit --last 200")).text
    assert "@agent-blue-one → blue-two (mention, rule: peers)" in audit
    assert "@nobody → alone (invite, rule: worker-access)" in audit
    assert "@agent-red-one → manager (mention, rule: member to manager)" in audit
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


async def _all_told(person: Person) -> None:
    """Their own client has heard all that was said so far."""
    room = str((await person.call("POST", "createRoom", {}))["room_id"])
    mark = await person.say(room, "so far")
    await person.until(lambda: mark in person.arrived, "their own word")


async def _operates(stack: Stack, person: Person) -> None:
    """Make somebody an operator."""
    room = f"rooms/{quote(stack.ops_room)}"
    await stack.op.call("POST", f"{room}/invite", {"user_id": person.user})
    await person.call("POST", f"join/{quote(stack.ops_room)}", {})
    powers = await stack.op.call("GET", f"{room}/state/m.room.power_levels")
    powers["users"][person.user] = 100
    await stack.op.call("PUT", f"{room}/state/m.room.power_levels", powers)


def _reader(room: str) -> str:
    """A person in the room who may wake all agents there."""
    return "op" if "op" in ROOMS[room] else "boss"


def _user(stack: Stack, people: Mapping[str, Person], name: str) -> str:
    return people[name].user if name in people else stack.agent(name)


async def _id(stack: Stack, room: str) -> str:
    return await stack.op.resolve(f"#opsroom-{room}:{stack.info['server_name']}")


async def _say(stack: Stack, people: Mapping[str, Person], call: Call) -> str:
    target = stack.agent(call.target)
    if call.room == OWN:
        return await _say_alone(people[call.speaker], target)
    room = await _id(stack, call.room)
    if call.speaker in people:
        return await people[call.speaker].say(room, "are you there?", mention=target if call.mention else "")
    words = f"pass this on to {target}"  # what an agent answers repeats the question: that is its mention
    return await people[_reader(call.room)].say(room, words, mention=stack.agent(call.speaker))


async def _say_alone(person: Person, agent: str) -> str:
    """In a room that they ask the agent into, once it has come or declined."""
    room = await person.create_direct(agent)

    def settled() -> bool:
        return any(
            event["room_id"] == room
            and event.get("state_key") == agent
            and event["content"].get("membership") in ("join", "leave")
            for event in person.events
        )

    await person.until(settled, f"{agent} or its no", faults.PATIENCE_S)
    return await person.say(room, "are you there?")


def _answers(stack: Stack, people: Mapping[str, Person], call: Call, event: str) -> list[Message]:
    reader = people[call.speaker if call.room == OWN else _reader(call.room)]
    target = stack.agent(call.target)
    return [m for m in reader.messages.values() if m.thread == event and m.sender == target and "You said" in m.text]


async def _heard(stack: Stack, people: Mapping[str, Person], call: Call, event: str) -> None:
    reader = people[call.speaker if call.room == OWN else _reader(call.room)]
    await reader.until(lambda: _answers(stack, people, call, event), f"an answer to {call}", faults.PATIENCE_S)
