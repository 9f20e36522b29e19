"""Whom a message in a room asks, with which question."""

import pytest

from appservice.conversations import answer
from appservice.conversations.calling import Calls
from appservice.conversations.ending import Ending
from appservice.conversations.running import Outcome
from appservice.homeserver import events
from appservice.store import audit, turns
from tests.support.rosters import NAMES, human, team
from tests.support.talk import ROOM, Content, Talk

LEAD, ONE, TWO = (NAMES.user(name) for name in ("lead", "one", "two"))
OP, ALICE, BOB = "@op:hs", "@alice:hs", "@bob:hs"
COMPANY = team("red", "lead", "one", "two") + human("alice", 1)


async def team_room(talk: Talk) -> None:
    await talk.declare(COMPANY)
    await talk.room("team", OP, ALICE, LEAD, ONE, TWO, owner="red")


async def asked(talk: Talk, user: str, text: str, *mention: str, thread: str) -> list[str]:
    """The agents that somebody's words in a thread ask."""
    return sorted((await talk.say(user, text, *mention, thread=thread))[1])


# -- threads that go on without a mention -----------------------------------------------------------------------------


async def test_who_began_a_thread_with_an_agent_goes_on_without_a_mention(talk: Talk) -> None:
    await team_room(talk)
    thread, begun = await talk.say(OP, "one, look", ONE)

    assert list(begun) == ["one"]
    assert await asked(talk, OP, "and this?", thread=thread) == ["one"]
    assert await asked(talk, OP, "and that?", ONE, thread=thread) == ["one"]
    assert await asked(talk, OP, "and all of it?", thread=thread) == ["one"]


async def test_a_thread_does_not_go_on_to_an_agent_that_has_left_the_room(talk: Talk) -> None:
    await team_room(talk)
    thread, _ = await talk.say(OP, "one, look", ONE)

    await talk.member(ONE, "leave", by=NAMES.bot)
    assert await asked(talk, OP, "the numbers are secret", thread=thread) == []

    await talk.member(ONE, "join", by=NAMES.bot)
    assert await asked(talk, OP, "look again", thread=thread) == ["one"]


async def test_a_second_person_who_mentions_the_agent_ends_that_for_both(talk: Talk) -> None:
    await team_room(talk)
    thread, _ = await talk.say(OP, "one, look", ONE)

    assert await asked(talk, ALICE, "one, which?", ONE, thread=thread) == ["one"]

    assert await asked(talk, OP, "no, I meant you, Alice", thread=thread) == []
    assert await asked(talk, ALICE, "I see", thread=thread) == []
    assert await asked(talk, OP, "one, go on", ONE, thread=thread) == ["one"]


async def test_a_second_person_who_may_not_ask_the_agent_ends_that_too(talk: Talk) -> None:
    await talk.declare(COMPANY)
    await talk.room("team", OP, "@guest:hs", ONE, owner="red")
    thread, _ = await talk.say(OP, "one, look", ONE)

    assert await asked(talk, "@guest:hs", "one, which?", ONE, thread=thread) == []

    assert await asked(talk, OP, "I meant you", thread=thread) == []


async def test_a_mention_of_the_agent_together_with_somebody_else_ends_that(talk: Talk) -> None:
    await team_room(talk)
    thread, _ = await talk.say(OP, "one, look", ONE)

    assert await asked(talk, OP, "one and Alice, what do you think?", ONE, ALICE, thread=thread) == ["one"]

    assert await asked(talk, OP, "yes, Alice, go on", thread=thread) == []


async def test_a_thread_that_begins_with_a_mention_of_somebody_else_too_does_not_go_on(talk: Talk) -> None:
    await team_room(talk)
    thread, heard = await talk.say(OP, "one and Alice, look", ONE, ALICE)
    assert list(heard) == ["one"]

    assert await asked(talk, OP, "Alice, what do you think?", thread=thread) == []


async def test_a_reply_that_mentions_nobody_but_its_author_goes_on(talk: Talk) -> None:
    await team_room(talk)
    thread, _ = await talk.say(OP, "one, look", ONE)

    assert await asked(talk, OP, "as I said", OP, thread=thread) == ["one"]


# -- @room ------------------------------------------------------------------------------------------------------------

FOR_ALL: Content = {"m.mentions": {"room": True}}


async def two_teams(talk: Talk, **levels: object) -> None:
    await talk.declare(COMPANY + team("blue", "chief", "other") + human("bob", 2, "accessibleTeams: [red]"))
    await talk.room("team", OP, ALICE, BOB, LEAD, ONE, NAMES.user("chief"), owner="red")
    powers = {"users": {OP: 100, ALICE: 0, BOB: 50}} | levels
    talk.house.state[ROOM] = [
        {"type": "m.room.create", "state_key": "", "sender": NAMES.bot, "content": {"room_version": "12"}},
        {"type": "m.room.power_levels", "state_key": "", "content": powers},
    ]


async def test_room_asks_the_leaders_that_somebody_may_ask_and_no_other_agent(talk: Talk) -> None:
    await two_teams(talk)

    assert (await talk.say(OP, "@room: look", **FOR_ALL))[1] == {"chief": "@room: look", "lead": "@room: look"}
    assert (await talk.say(BOB, "@room: look", **FOR_ALL))[1] == {"lead": "@room: look"}
    assert talk.house.sent == [], "nobody is told that a leader is not for them"


async def test_room_of_somebody_without_the_power_to_notify_the_room_asks_nobody(talk: Talk) -> None:
    await two_teams(talk)
    assert (await talk.say(ALICE, "@room: look", **FOR_ALL))[1] == {}
    mentions: Content = {"m.mentions": {"room": True, "user_ids": [ONE]}}
    assert list((await talk.say(ALICE, "@room and one: look", **mentions))[1]) == ["one"]


async def test_how_much_power_that_takes_is_what_the_room_says(talk: Talk) -> None:
    await two_teams(talk, notifications={"room": 0})
    assert sorted((await talk.say(ALICE, "@room: look", **FOR_ALL))[1]) == ["chief", "lead"]


async def test_room_in_a_thread_with_one_agent_ends_that_it_goes_on(talk: Talk) -> None:
    await two_teams(talk)
    thread, _ = await talk.say(BOB, "one, look", ONE)

    assert sorted((await talk.say(BOB, "@room: look", thread=thread, **FOR_ALL))[1]) == ["lead"]
    assert await asked(talk, BOB, "what do you think?", thread=thread) == []


# -- agents that call each other --------------------------------------------------------------------------------------


async def calls(talk: Talk, caller: str, asked_by: str, called: str) -> tuple[str, dict[str, str]]:
    """An agent that was asked by an event answers it with a call; its event, and the question of whom that asks."""
    [turn] = [turn for turn in await turns.of_event(talk.store, asked_by) if turn.agent == caller]
    said = answer.compose(turn, f"@{called}, look", calls=[NAMES.user(called)])
    return await talk.reads(NAMES.user(caller), said)


@pytest.mark.parametrize("lines", [3, 1500, 15_000])  # one message, several, a file
async def test_a_called_agent_is_asked_the_whole_answer_however_long(talk: Talk, lines: int) -> None:
    await team_room(talk)
    event, _ = await talk.say(OP, "lead, look", LEAD)
    [turn] = await turns.of_event(talk.store, event)
    text = "a line of it\n" * lines + "@one, look"

    ending = Ending(talk.store, talk.homeserver, talk.sender)
    await ending.say(turn, LEAD, Outcome(state="done", text=text), event_id="$begun", sent=True, calls=Calls((ONE,)))
    await talk.sender.flush(10)

    [call] = [content for content in talk.house.sent if events.is_call(content)]
    assert (await talk.reads(LEAD, call))[1] == {"one": text}


@pytest.mark.parametrize(("limit", "told"), [(1, "once"), (2, "2 times")])
async def test_after_as_many_calls_as_the_limit_says_the_chain_ends_and_a_line_says_so(
    talk: Talk, limit: int, told: str
) -> None:
    talk.hop_limit = limit
    await team_room(talk)
    event, _ = await talk.say(OP, "lead, look", LEAD)
    pair = ["lead", "one"]

    for made in range(limit):
        event, asks = await calls(talk, pair[made % 2], event, pair[1 - made % 2])
        assert list(asks) == [pair[1 - made % 2]]
    _, asks = await calls(talk, pair[limit % 2], event, pair[1 - limit % 2])

    assert asks == {}
    [line] = talk.house.sent
    assert f"Agents have called each other {told} over one question, which is the limit." in line["body"]
    refused, *_ = await audit.newest(talk.store)
    assert (refused.target, refused.rule) == (pair[1 - limit % 2], "hop limit")
