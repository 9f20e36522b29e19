"""How an answer ends: said once, whole, whatever the homeserver does meanwhile; and whom it calls then."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from appservice.conversations.calling import Calling, Calls
from appservice.conversations.ending import Ending
from appservice.conversations.runner import Runner
from appservice.conversations.running import Agents, Outcome
from appservice.errors import Unavailable
from appservice.homeserver import client, events, patience
from appservice.homeserver.live import Pace
from appservice.runtimes.a2a import Question
from appservice.runtimes.wire import Update
from appservice.store import outbox, turns
from appservice.store.turns import Turn
from tests.support.rosters import NAMES, team
from tests.support.talk import ROOM, Content, Talk

LEAD, ONE = NAMES.user("lead"), NAMES.user("one")
DONE = Outcome(state="done", text="@one, look")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_pause", lambda _attempt, _error: 0.0)
    monkeypatch.setattr(patience, "FIRST_S", 0.0)


async def asked(talk: Talk, agent: str = "lead") -> Turn:
    turn = Turn(id="t", event_id="$q", agent=agent, room_id=ROOM, thread="$q", sender="@op:hs", question="?", root="$q")
    await talk.store.write(lambda db: turns.add(db, turn))
    return turn


async def said(talk: Talk) -> list[Content]:
    """Everything that was sent, once it has been."""
    await talk.sender.flush(10)
    return talk.house.sent


@pytest.mark.parametrize("sent", [False, True])
async def test_an_answer_calls_an_agent_once_though_it_may_have_begun_in_the_room(talk: Talk, sent: bool) -> None:
    turn = await asked(talk)

    ending = Ending(talk.store, talk.homeserver, talk.sender)
    await ending.say(turn, LEAD, DONE, event_id="", sent=sent, calls=Calls(users=(ONE,)))

    found = await said(talk)
    assert [content["body"] for content in found] == ["@one, look", "* @one, look"][: 1 + sent]
    assert [events.is_call(content) for content in found] == [False, True] if sent else [True]


async def test_an_answer_is_sent_though_the_disk_has_refused_what_it_has_kept(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, flush = await asked(talk), talk.store.flush
    refused: list[bool] = []

    async def refuse_once() -> None:
        if not refused:
            refused.append(True)
            raise Unavailable("the database cannot be used (Input/output error).")
        await flush()

    monkeypatch.setattr(talk.store, "flush", refuse_once)
    await Ending(talk.store, talk.homeserver, talk.sender).say(turn, LEAD, DONE, event_id="", sent=False, calls=Calls())

    assert refused
    assert [content["body"] for content in await said(talk)] == ["@one, look"]


class Answers:
    """An agent that gives one answer to everything."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def ask(self, _question: Question) -> AsyncGenerator[Update]:
        yield Update(task_id="task", text=self._text, state="done")


def runner(talk: Talk, answer: str) -> Runner:
    async def nothing(*_: Any) -> dict[str, object]:
        return {}

    agents = Agents(
        door=lambda _name: Answers(answer),  # type: ignore[arg-type,return-value]
        user=NAMES.user,
        awake=lambda _name: True,
        wake=nothing,  # type: ignore[arg-type]
        brief=nothing,
        calls=Calling(talk.members, talk.declared.roster).calls,
    )
    return Runner(
        store=talk.store, homeserver=talk.homeserver, sender=talk.sender, pace=Pace(), agents=agents, limit_s=60.0
    )


async def answered(talk: Talk, answer: str) -> Turn:
    """A turn after its end, when all that it says is said."""
    turn = await asked(talk)
    running = runner(talk, answer)
    running.enqueue(turn)
    async with asyncio.timeout(20):
        while (found := await turns.get(talk.store, turn.id)) is None or found.state in turns.OPEN:
            await asyncio.sleep(0.01)
        while await outbox.pending(talk.store):
            await asyncio.sleep(0.01)
    await running.close()
    return found


async def test_a_homeserver_that_is_away_while_an_answer_ends_costs_neither_answer_nor_call(talk: Talk) -> None:
    await talk.declare(team("red", "lead", "one"))
    await talk.room("team", "@op:hs", LEAD, ONE)
    talk.house.away["joined_members"] = client.TRIES + 1

    turn = await answered(talk, "@one, look")

    assert turn.state == "done"
    assert talk.house.away["joined_members"] == 0
    last = (await said(talk))[-1]
    assert last["body"].endswith("@one, look")
    assert last["m.mentions"] == {"user_ids": [ONE]}


async def test_an_answer_in_a_room_that_shows_its_members_to_us_no_more_calls_nobody(talk: Talk) -> None:
    await talk.declare(team("red", "lead", "one"))
    await talk.room("team", "@op:hs", ONE)

    turn = await answered(talk, "@one, look")

    assert turn.state == "done"
    last = (await said(talk))[-1]
    assert last["body"].endswith("@one, look")
    assert last["m.mentions"] == {}
