"""What the bot can do in a room that somebody else made, and that it never gives itself away."""

from math import inf
from typing import Any

import pytest

from appservice.rooms import desired, live, standing
from appservice.rooms.desired import DesiredRoom

BOT, OP, ADMIN, MANAGER = "@opsroom:hs", "@op:hs", "@admin:hs", "@manager:hs"
ROOM = DesiredRoom(
    alias="x-worker-ann", name="ann", topic="Ask.", purpose="worker", members=frozenset({OP}), powers={OP: 100}
)
HICLAW = {"users": {ADMIN: 100, MANAGER: 100, BOT: 100, "@ann:hs": 0}, "state_default": 50, "events": {}}


def room(version: str, levels: dict[str, Any], **creation: Any) -> list[dict[str, Any]]:
    made = {"type": "m.room.create", "state_key": "", "sender": ADMIN, "content": {"room_version": version} | creation}
    return [made, {"type": "m.room.power_levels", "state_key": "", "content": levels}]


def sent(state: list[dict[str, Any]]) -> dict[str, Any]:
    """The power levels that are sent into this room."""
    return dict(live.differences(ROOM, state, bot=BOT))["m.room.power_levels"]


def test_in_an_adopted_room_the_bot_keeps_its_power_and_gives_nobody_more() -> None:
    levels = sent(room("10", HICLAW))

    assert levels["users"] == {OP: 100, BOT: 100, ADMIN: 100, MANAGER: 100}
    assert max(levels["events"].values()) == 100
    assert levels["state_default"] == 100


@pytest.mark.parametrize("version", ["6", "10", "11", "12"])
def test_what_was_sent_once_is_not_sent_again(version: str) -> None:
    state = room(version, HICLAW)
    assert "m.room.power_levels" not in dict(live.differences(ROOM, room(version, sent(state)), bot=BOT))


def test_what_stands_above_the_bot_stays_as_it_is() -> None:
    high = HICLAW | {"users": {ADMIN: 150, BOT: 100}, "ban": 150, "events": {"m.room.tombstone": 150, "x.y": 101}}
    levels = sent(room("10", high))

    assert levels["users"] == {ADMIN: 150, OP: 100, BOT: 100}
    assert levels["ban"] == 150
    assert {kind: levels["events"][kind] for kind in ("m.room.tombstone", "x.y")} == {
        "m.room.tombstone": 150,
        "x.y": 101,
    }


def test_those_with_less_power_than_the_bot_lose_it() -> None:
    assert "@dora:hs" not in sent(room("10", HICLAW | {"users": {BOT: 100, "@dora:hs": 99}}))["users"]


def test_a_creator_of_version_12_is_above_every_number_and_never_listed() -> None:
    state = room("12", {"users": {BOT: 100}}, additional_creators=[OP])
    found = standing.read(state)

    assert [found.power(user) for user in (ADMIN, OP, BOT, MANAGER)] == [inf, inf, 100, 0]
    assert sent(state)["users"] == {BOT: 100}
    assert found.equals(BOT, ROOM.powers) == {ADMIN}  # the operator is meant to stand as high


def test_in_a_room_of_ours_the_levels_are_those_that_are_declared() -> None:
    made = room("12", {})
    made[0]["sender"] = BOT
    assert sent(made) == desired.power_levels(ROOM)


def test_those_who_stand_as_high_are_named() -> None:
    assert standing.read(room("10", HICLAW)).equals(BOT, ROOM.powers) == {ADMIN, MANAGER}


def test_without_levels_the_creator_of_an_older_room_has_100_and_nobody_else_any() -> None:
    found = standing.read(room("10", {})[:1])
    assert [found.power(user) for user in (ADMIN, BOT)] == [100, 0]


@pytest.mark.parametrize(("version", "rule"), [("7", "invite"), ("8", "restricted"), ("12", "restricted")])
def test_a_room_too_old_to_be_open_to_a_space_is_for_those_who_are_invited(version: str, rule: str) -> None:
    [rules] = [
        content
        for kind, content in live.differences(ROOM, room(version, HICLAW), open_to="!team", bot=BOT)
        if kind == "m.room.join_rules"
    ]
    assert rules["join_rule"] == rule
