"""Alone with an agent or in a group: what room it is and who is in it decides."""

import pytest

from appservice.conversations.places import place_of, unheard
from appservice.policy.triggers import Place
from appservice.rooms.desired import topology
from appservice.store.rooms import Purpose, Room
from tests.support.rosters import NAMES, human, manager, roster_of, team

OPERATORS = ("@op:hs", "@second:hs")
COMPANY = manager() + team("red", "lead", "one") + team("blue", "boss-lead", fields="admin: {name: boss}")
ROOMS = topology(roster_of(COMPANY + human("alice", 1), OPERATORS), prefix="")


def placed(alias: str, user: str, *more: str) -> Place:
    """In a room of ours with all whom it is declared for, and with more."""
    wanted = ROOMS[alias]
    room = Room(room_id="!r", purpose=wanted.purpose, owner=wanted.owner, alias=alias)
    return place_of(NAMES, user, room, {NAMES.bot, user, *wanted.members, *more}, wanted.members)


@pytest.mark.parametrize(
    ("alias", "user"),
    [
        ("leader-dm-lead", "@op:hs"),
        ("leader-dm-lead", "@second:hs"),
        ("manager-manager", "@op:hs"),
        ("manager-manager", "@second:hs"),
        ("leader-dm-boss-lead", "@boss:hs"),
    ],
)
def test_a_room_for_one_agent_is_direct_however_many_it_is_declared_for(alias: str, user: str) -> None:
    assert placed(alias, user) == "direct"


@pytest.mark.parametrize("alias", ["leader-dm-lead", "manager-manager"])
@pytest.mark.parametrize("more", ["@stranger:hs", "@agent-one:hs"])
def test_somebody_more_makes_it_a_group(alias: str, more: str) -> None:
    assert placed(alias, "@op:hs", more) == "group"


@pytest.mark.parametrize("alias", ["worker-one", "worker-lead", "team-red", "space-red"])
def test_other_rooms_are_groups_even_for_one_person(alias: str) -> None:
    assert placed(alias, "@op:hs") == "group"


@pytest.mark.parametrize(
    ("purpose", "members", "place"),
    [
        ("direct", ("@op:hs", "@agent-one:hs"), "direct"),
        ("direct", ("@op:hs", "@agent-one:hs", "@second:hs"), "group"),
        ("direct", ("@op:hs", "@agent-one:hs", "@agent-lead:hs"), "group"),
        ("worker", ("@op:hs", "@agent-one:hs"), "group"),
    ],
)
def test_a_persons_own_room_is_direct_while_they_are_alone(
    purpose: Purpose, members: tuple[str, ...], place: Place
) -> None:
    assert place_of(NAMES, "@op:hs", Room(room_id="!r", purpose=purpose), members) == place


def test_a_room_that_is_not_known_is_a_group() -> None:
    assert place_of(NAMES, "@op:hs", None, ("@op:hs", "@agent-one:hs")) == "group"


def test_who_is_not_in_a_room_neither_asks_nor_hears_there() -> None:
    here = ("@op:hs", "@agent-one:hs")
    absent, deaf = unheard(NAMES, "@alice:hs", "one", here), unheard(NAMES, "@op:hs", "lead", here)

    assert unheard(NAMES, "@op:hs", "one", here) is None
    assert absent is not None
    assert (absent.verdict, absent.rule) == ("deny", "not a member")
    assert absent.reason == "@alice is not in that room, and can say nothing there."
    assert deaf is not None
    assert deaf.reason == "lead is not in that room: nothing said there reaches it."
