"""Who may wake an agent: every rule, and which of two wins."""

import pytest

from appservice.policy.triggers import Asker, Place, may_trigger
from appservice.resources.worker import ChannelPolicy

OPERATOR = Asker(user="@op:hs", localpart="op", is_operator=True)
GUEST = Asker(user="@guest:hs", localpart="guest", in_agents_room=True)
STRANGER = Asker(user="@dora:hs", localpart="dora")
FAR = Asker(user="@dora:elsewhere.org")


def policy(**lists: list[str]) -> ChannelPolicy:
    return ChannelPolicy.model_validate(lists)


@pytest.mark.parametrize("place", ["group", "direct"])
def test_without_lists_operators_and_people_of_the_agents_room_may_ask_and_nobody_else(place: Place) -> None:
    assert may_trigger(OPERATOR, "alice", place, policy()).rule == "operator"
    assert may_trigger(GUEST, "alice", place, policy()).allowed
    denied = may_trigger(STRANGER, "alice", place, policy())
    assert not denied.allowed
    assert "operator" in denied.reason


@pytest.mark.parametrize(
    ("lists", "asker", "place", "allowed", "at"),
    [
        ({"groupAllowExtra": ["dora"]}, STRANGER, "group", True, ("groupAllowExtra", 0)),
        ({"groupAllowExtra": ["x", "@dora:hs"]}, STRANGER, "group", True, ("groupAllowExtra", 1)),
        ({"groupAllowExtra": ["dora"]}, STRANGER, "direct", False, ()),
        ({"dmAllowExtra": ["dora"]}, STRANGER, "direct", True, ("dmAllowExtra", 0)),
        ({"dmAllowExtra": ["dora"]}, STRANGER, "group", False, ()),
        ({"groupAllowExtra": ["dora"]}, FAR, "group", False, ()),  # a short name is one of our homeserver
        ({"groupAllowExtra": ["@dora:elsewhere.org"]}, FAR, "group", True, ("groupAllowExtra", 0)),
        ({"groupAllowExtra": ["dora"], "groupDenyExtra": ["dora"]}, STRANGER, "group", False, ("groupDenyExtra", 0)),
        ({"groupDenyExtra": ["op"]}, OPERATOR, "group", False, ("groupDenyExtra", 0)),
        ({"groupDenyExtra": ["op"]}, OPERATOR, "direct", True, ()),
        ({"dmDenyExtra": ["guest"]}, GUEST, "direct", False, ("dmDenyExtra", 0)),
        ({"dmDenyExtra": ["guest"]}, GUEST, "group", True, ()),
    ],
)
def test_a_list_decides_where_it_is_for_and_deny_wins(
    lists: dict[str, list[str]], asker: Asker, place: Place, allowed: bool, at: tuple[str | int, ...]
) -> None:
    found = may_trigger(asker, "alice", place, policy(**lists))
    assert found.allowed is allowed
    assert found.field[2:] == at
    assert found.allowed or "alice" in found.reason


def test_what_an_agent_says_is_no_question() -> None:
    agent = Asker(user="@agent-bob:hs", localpart="agent-bob", is_agent=True, in_agents_room=True)
    assert not may_trigger(agent, "alice", "group", policy(groupAllowExtra=["agent-bob"])).allowed
