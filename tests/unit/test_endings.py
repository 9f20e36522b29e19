"""How an answer ends: said once, whole, whatever the homeserver does meanwhile; and whom it calls then."""

import pytest

from appservice.conversations.calling import Calls
from appservice.conversations.ending import Ending
from appservice.conversations.running import Outcome
from appservice.homeserver import client, events, patience
from appservice.store import turns
from appservice.store.turns import Turn
from tests.support.rosters import NAMES
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
