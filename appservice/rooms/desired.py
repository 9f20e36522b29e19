"""Rooms as they should be: a pure function of what is declared. The only place that says who is in which room.

Names, aliases and levels follow architecture section 5; room version 12, whose creator (the bot) cannot be locked
out. `events` replaces the homeserver's default map, so it is written in full.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ROOM_VERSION = "12"
OPERATOR_POWER = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredRoom:
    """`members`: who is invited and kept (without the bot, who creates it); `powers`: user -> power level;
    `parent`: room id of the space it hangs under, '' for the space itself; `avatar`: address of the picture it is
    made with, which operators may change."""

    alias: str
    name: str
    topic: str
    kind: Literal["space", "ops", "worker"]
    members: frozenset[str] = frozenset()
    powers: Mapping[str, int] = field(default_factory=dict)
    parent: str = ""
    avatar: str = ""


def space(*, alias_prefix: str, operators: frozenset[str], avatar: str = "") -> DesiredRoom:
    return DesiredRoom(
        alias=f"{alias_prefix}space",
        name="Opsroom",
        topic="All rooms of Opsroom: the ops room and one room for each agent.",
        kind="space",
        members=operators,
        powers=dict.fromkeys(operators, OPERATOR_POWER),
        avatar=avatar,
    )


def ops_room(*, alias_prefix: str, operators: frozenset[str], parent: str, avatar: str = "") -> DesiredRoom:
    return DesiredRoom(
        alias=f"{alias_prefix}ops",
        name="Ops room",
        topic="What you type or upload here becomes what runs. Begin with !help",
        kind="ops",
        members=operators,
        powers=dict.fromkeys(operators, OPERATOR_POWER),
        parent=parent,
        avatar=avatar,
    )


def worker_room(
    name: str, *, alias_prefix: str, agent: str, operators: frozenset[str], parent: str, avatar: str = ""
) -> DesiredRoom:
    """The room of one Worker: its agent and the operators."""
    return DesiredRoom(
        alias=f"{alias_prefix}worker-{name}",
        name=name,
        topic=f"Ask {name} by mentioning @{name}. The answer comes in a thread; react with 🛑 to stop it.",
        kind="worker",
        members=operators | {agent},
        powers=dict.fromkeys(operators, OPERATOR_POWER),
        parent=parent,
        avatar=avatar,
    )


def power_levels(room: DesiredRoom) -> dict[str, Any]:
    """Content of `m.room.power_levels`. 150 is out of everybody's reach but the creator's."""
    return {
        "users": dict(room.powers),
        "users_default": 0,
        "events_default": 50 if room.kind == "space" else 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "invite": 50,
        "redact": 50,
        "events": {
            "m.room.tombstone": 150,
            "m.room.encryption": 150,
            "m.room.power_levels": 100,
            "m.room.server_acl": 100,
            "m.room.history_visibility": 100,
            "m.room.join_rules": 100,
            "m.room.name": 50,
            "m.room.topic": 50,
            "m.room.avatar": 50,
            "m.room.canonical_alias": 50,
            "m.room.pinned_events": 50,
            "m.space.child": 100,
            "m.space.parent": 100,
        },
    }


def creation(room: DesiredRoom, *, server_name: str) -> dict[str, Any]:
    """Body of `createRoom`, without the members: they are invited or join."""
    body: dict[str, Any] = {
        "room_alias_name": room.alias,
        "preset": "private_chat",  # join by invitation
        "visibility": "private",
        "room_version": ROOM_VERSION,
        "name": room.name,
        "topic": room.topic,
        "creation_content": {"m.federate": False} | ({"type": "m.space"} if room.kind == "space" else {}),
        "power_level_content_override": power_levels(room),
        "initial_state": [
            {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "shared"}},
            {"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "forbidden"}},
        ],
    }
    if room.avatar:
        body["initial_state"].append({"type": "m.room.avatar", "state_key": "", "content": {"url": room.avatar}})
    if room.parent:
        link = space_link(server_name) | {"canonical": True}
        body["initial_state"].append({"type": "m.space.parent", "state_key": room.parent, "content": link})
    return body


def space_link(server_name: str) -> dict[str, Any]:
    return {"via": [server_name]}
