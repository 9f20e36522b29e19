"""Rooms of people's own: which agents come, and who is heard there when some of them go."""

from typing import Any

from appservice.homeserver.events import Event
from appservice.homeserver.members import Operators
from appservice.ops.order import Order
from appservice.ops.room import OpsRoom
from appservice.store import audit, rooms
from appservice.store.rooms import Room
from tests.support.rosters import NAMES, human, worker
from tests.support.talk import ROOM, Content, Talk

ONE, TWO, OP, BOB = NAMES.user("one"), NAMES.user("two"), "@op:hs", "@bob:hs"
COMPANY = worker("one") + worker("two") + human("bob", 3, "accessibleWorkers: [one]")


async def room_with_one(talk: Talk, *people: str) -> None:
    await talk.declare(COMPANY)
    await talk.room("direct", *people, ONE, owner=ONE, bot=False)


async def known(talk: Talk) -> Room:
    found = await rooms.get(talk.store, ROOM)
    assert found is not None
    return found


async def test_a_second_agent_comes_into_a_persons_own_room_and_both_are_heard(talk: Talk) -> None:
    await room_with_one(talk, OP)
    assert (await talk.say(OP, "hello"))[1] == {"one": "hello"}

    await talk.member(TWO, "invite", by=OP)

    assert talk.house.members[ROOM][TWO] == "join"
    assert (await known(talk)).owner == ONE
    assert (await talk.say(OP, "two, look", TWO))[1] == {"two": "two, look"}
    assert (await talk.say(OP, "one, look", ONE))[1] == {"one": "one, look"}


async def test_a_second_agent_that_somebody_may_not_ask_says_no_and_the_audit_has_it(talk: Talk) -> None:
    await room_with_one(talk, BOB)

    await talk.member(TWO, "invite", by=BOB)

    assert talk.house.members[ROOM][TWO] == "leave"
    refused, *_ = await audit.newest(talk.store)
    assert (refused.actor, refused.action, refused.target, refused.verdict) == (BOB, "invite", "two", "deny")
    assert (await talk.say(BOB, "hello"))[1] == {"one": "hello"}


async def test_an_invitation_that_is_withdrawn_leaves_the_other_agent_its_room(talk: Talk) -> None:
    await room_with_one(talk, OP)
    await talk.member(TWO, "leave", by=OP)

    assert (await talk.say(OP, "hello"))[1] == {"one": "hello"}


async def test_when_the_first_agent_leaves_the_second_one_has_the_room(talk: Talk) -> None:
    await room_with_one(talk, OP)
    await talk.member(TWO, "invite", by=OP)

    await talk.member(ONE, "leave", by=OP)
    assert (await talk.say(OP, "hello"))[1] == {"two": "hello"}

    await talk.member(TWO, "leave", by=OP)
    assert await rooms.get(talk.store, ROOM) is None


async def test_a_leave_that_is_read_after_the_agent_came_back_changes_nothing(talk: Talk) -> None:
    await room_with_one(talk, OP)
    await talk.member(TWO, "invite", by=OP)
    await talk.event(OP, "m.room.member", {"membership": "leave"}, state_key=ONE)

    assert (await known(talk)).owner == ONE


async def test_nothing_runs_is_said_by_the_agent_where_the_bot_is_not(talk: Talk) -> None:
    await room_with_one(talk, OP)
    await talk.say(OP, "!stop")

    assert [(content["body"], user) for content, user in zip(talk.house.sent, talk.house.senders, strict=True)] == [
        ("Nothing is running here.", ONE)
    ]


async def test_an_agent_can_be_asked_into_a_room_with_the_bot_and_is_mentioned_there(talk: Talk) -> None:
    await talk.declare(COMPANY)
    await talk.room("direct", OP, owner=NAMES.bot)
    await talk.member(ONE, "invite", by=OP)
    assert talk.house.members[ROOM][ONE] == "join"

    assert not await for_bot(talk, "one, look", ONE)
    assert await for_bot(talk, "status")
    assert await for_bot(talk, "!describe @one")
    assert (await talk.say(OP, "one, look", ONE))[1] == {"one": "one, look"}

    await talk.member(ONE, "leave", by=OP)
    assert (await known(talk)).owner == NAMES.bot


async def for_bot(talk: Talk, text: str, *mention: str) -> bool:
    """Whether a message in the room is a command for the bot."""
    missing: Any = None
    ops = OpsRoom(
        store=talk.store,
        homeserver=talk.homeserver,
        members=talk.members,
        operators=Operators(talk.homeserver, talk.members),
        sender=talk.sender,
        pace=missing,
        verbs=missing,
        order=Order(),
        is_ours=NAMES.is_ours,
        operators_changed=missing,
    )
    body: Content = {"msgtype": "m.text", "body": text, "m.mentions": {"user_ids": list(mention)}}
    event = Event(id="$e", room_id=ROOM, type="m.room.message", sender=OP, content=body)
    return await ops.addressed(event, await known(talk))
