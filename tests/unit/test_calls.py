"""Whom an agent's answer calls, what of it stays text, and what the audit is told of that."""

import pytest

from appservice.conversations import answer
from appservice.conversations.calling import called
from appservice.store.turns import Turn
from tests.support.rosters import NAMES, manager, roster_of, team, worker

COMPANY = manager() + team("red", "lead", "one", "two") + team("blue", "chief", "other") + worker("alone")
AGENTS = {NAMES.user(name): f"{name} (agent)" for name in ("lead", "one", "two")}
TEAM_ROOM = {NAMES.bot: "", "@op:hs": "", **AGENTS}


def turn(agent: str) -> Turn:
    return Turn(id="t", event_id="$q", agent=agent, room_id="!red", thread="$q", sender="@op:hs", question="?")


def said(agent: str, text: str, **more: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Whom it calls, and what the audit has: the agent and the rule."""
    members = TEAM_ROOM | {NAMES.person(user): name for user, name in more.items()}
    found = called(roster_of(COMPANY), turn(agent), text, members, now=1.0)
    assert all(
        (entry.actor, entry.action, entry.verdict) == (NAMES.user(agent), "mention", "deny") for entry in found.denied
    )
    return list(found.users), [(entry.target, entry.rule) for entry in found.denied]


def test_a_member_of_its_team_and_a_person_are_called() -> None:
    assert said("one", "@two and @op, look") == (["@agent-two:hs", "@op:hs"], [])


@pytest.mark.parametrize(
    ("agent", "text", "target", "rule"),
    [
        ("one", "ask @manager", "manager", "member to manager"),
        ("one", "ask @agent-manager:hs", "manager", "member to manager"),
        ("one", "ask [the boss](https://matrix.to/#/@agent-manager:hs)", "manager", "member to manager"),
        ("one", "ask @other", "other", "member to member"),
        ("lead", "ask @manager", "manager", "not a member"),
    ],
)
def test_an_agent_that_is_not_in_the_room_is_not_called_and_the_audit_says_why(
    agent: str, text: str, target: str, rule: str
) -> None:
    assert said(agent, text) == ([], [(target, rule)])


def test_a_person_in_the_room_who_is_called_like_an_agent_elsewhere_is_who_is_meant() -> None:
    assert said("one", "@alone, look", alone="Al") == (["@alone:hs"], [])
    assert said("one", "@alone, look", al="alone") == (["@al:hs"], [])


def test_code_and_what_is_not_there_call_nobody() -> None:
    assert said("one", "`@manager` and ```\n@two\n``` and @nobody and mail@manager") == ([], [])


def test_a_link_to_whom_an_answer_does_not_call_is_text() -> None:
    text = "[Two](https://matrix.to/#/@agent-two:hs), [boss](https://matrix.to/#/%40agent-manager%3Ahs), [x](https://x.org)"

    html = answer.compose(turn("one"), text, calls=["@agent-two:hs"])["formatted_body"]

    assert html == '<a href="https://matrix.to/#/@agent-two:hs">Two</a>, boss, <a href="https://x.org">x</a>'
