"""How a room is made, and what a live one has to have sent to be as it should."""

from collections.abc import Mapping
from typing import Any

import pytest

from appservice.rooms import desired, live
from appservice.rooms.desired import DesiredRoom
from tests.support.rosters import NAMES, worker
from tests.unit.test_rooms import EVERY_ROOM, rooms_of


def made(room: DesiredRoom, *, parent: str = "", open_to: str = "", avatar: str = "") -> dict[str, Any]:
    return desired.creation(room, server_name="hs", parent=parent, open_to=open_to, avatar=avatar)


def initial(body: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    return {(event["type"], event["state_key"]): event["content"] for event in body["initial_state"]}


def test_a_room_that_is_open_to_a_space_can_be_joined_by_its_members() -> None:
    assert desired.join_rules("!team") == {
        "join_rule": "restricted",
        "allow": [{"type": "m.room_membership", "room_id": "!team"}],
    }


def test_any_other_room_is_for_those_who_are_invited() -> None:
    assert desired.join_rules("") == {"join_rule": "invite"}


@pytest.mark.parametrize("room", EVERY_ROOM.values(), ids=EVERY_ROOM)
def test_a_room_is_made_private_of_this_server_only_and_readable_for_who_comes_later(room: DesiredRoom) -> None:
    body = made(room, open_to="!team")

    assert (body["room_alias_name"], body["preset"], body["visibility"]) == (room.alias, "private_chat", "private")
    assert (body["room_version"], body["creation_content"]["m.federate"]) == ("12", False)
    assert body["power_level_content_override"] == desired.power_levels(room)
    assert initial(body)["m.room.join_rules", ""] == desired.join_rules("!team")
    assert initial(body)["m.room.history_visibility", ""] == {"history_visibility": "shared"}
    assert initial(body)["m.room.guest_access", ""] == {"guest_access": "forbidden"}


@pytest.mark.parametrize("alias", EVERY_ROOM)
def test_only_spaces_are_made_as_spaces(alias: str) -> None:
    kind = made(EVERY_ROOM[alias])["creation_content"].get("type", "")

    assert kind == ("m.space" if alias in ("space", "space-dev", "space-web") else "")


def test_a_room_is_made_with_its_place_and_its_picture() -> None:
    found = initial(made(EVERY_ROOM["worker-alice"], parent="!space", avatar="mxc://hs/a"))

    assert found["m.space.parent", "!space"] == {"via": ["hs"], "canonical": True}
    assert found["m.room.avatar", ""] == {"url": "mxc://hs/a"}


def test_a_room_without_place_and_picture_is_made_without() -> None:
    kinds = {kind for kind, _ in initial(made(EVERY_ROOM["space"]))}

    assert kinds == {"m.room.history_visibility", "m.room.guest_access", "m.room.join_rules"}


# -- how it differs ---------------------------------------------------------------------------------------------


def state_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a homeserver has after it made this room, with what it adds by itself."""
    levels = {"notifications": {"room": 50}} | body["power_level_content_override"]
    whole = [
        ("m.room.create", {"room_version": "12"} | body["creation_content"]),
        ("m.room.name", {"name": body["name"]}),
        ("m.room.topic", {"topic": body["topic"], "m.topic": {"m.text": [{"body": body["topic"]}]}}),
        ("m.room.power_levels", levels),
        ("m.room.canonical_alias", {"alias": f"#{body['room_alias_name']}:hs"}),
    ]
    return [*({"type": kind, "state_key": "", "content": content} for kind, content in whole), *body["initial_state"]]


def member(user: str, membership: str) -> dict[str, Any]:
    return {"type": "m.room.member", "state_key": user, "content": {"membership": membership}}


BEN = EVERY_ROOM["worker-ben"]
LEVELS = desired.power_levels(BEN)


@pytest.mark.parametrize(
    ("kind", "drifted"),
    [
        ("m.room.name", {"name": "mine now"}),
        ("m.room.topic", {}),
        ("m.room.join_rules", {"join_rule": "public"}),
        ("m.room.join_rules", desired.join_rules("!other")),
        ("m.room.history_visibility", {"history_visibility": "joined"}),
        ("m.room.power_levels", LEVELS | {"users": LEVELS["users"] | {"@agent-ben:hs": 100}}),
        ("m.room.power_levels", LEVELS | {"users": {}}),
        ("m.room.power_levels", LEVELS | {"state_default": 0}),
        ("m.room.power_levels", LEVELS | {"events": LEVELS["events"] | {"m.room.name": 0}}),
        ("m.room.power_levels", LEVELS | {"events": {}}),
    ],
)
def test_what_has_drifted_is_sent_again_and_nothing_else(kind: str, drifted: dict[str, Any]) -> None:
    state = [event for event in state_of(made(BEN, open_to="!team")) if event["type"] != kind]
    state.append({"type": kind, "state_key": "", "content": drifted})
    whole = {
        "m.room.name": {"name": "ben"},
        "m.room.topic": {"topic": BEN.topic},
        "m.room.join_rules": desired.join_rules("!team"),
        "m.room.history_visibility": {"history_visibility": "shared"},
        "m.room.power_levels": LEVELS,
    }

    assert live.differences(BEN, state, open_to="!team") == [(kind, whole[kind])]


@pytest.mark.parametrize(
    ("user", "membership", "stranger"),
    [
        ("@dora:hs", "join", True),
        ("@dora:hs", "invite", True),
        ("@dora:hs", "knock", True),
        ("@dora:hs", "leave", False),
        ("@dora:hs", "ban", False),
        ("@agent-carla:hs", "join", True),
        ("@agent-ben:hs", "join", False),
        ("@pm:hs", "join", False),
        ("@op:hs", "join", True),  # the team is run by its admin
        ("@opsroom:hs", "join", False),
    ],
)
def test_who_is_in_a_room_without_a_place_there_is_a_stranger(user: str, membership: str, stranger: bool) -> None:
    assert live.strangers(BEN, [member(user, membership)], bot=NAMES.bot) == [user] * stranger


def test_a_guest_is_no_stranger() -> None:
    room = rooms_of(worker("alice", "channelPolicy: {groupAllowExtra: [dora]}"))["worker-alice"]

    assert live.strangers(room, [member("@dora:hs", "join"), member("@eve:hs", "join")], bot=NAMES.bot) == ["@eve:hs"]


@pytest.mark.parametrize(("membership", "complete"), [("join", True), ("invite", True), ("leave", True), ("", False)])
def test_a_room_is_complete_once_all_were_asked_in_whatever_they_did_then(membership: str, complete: bool) -> None:
    last, *others = sorted(BEN.members)
    state = [member(user, "join") for user in others] + ([member(last, membership)] if membership else [])

    assert live.is_complete(BEN, state) is complete
