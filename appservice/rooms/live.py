"""Make a room be as desired: read its state once, send only the difference. A second pass sends nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from appservice.rooms import desired
from appservice.rooms.desired import DesiredRoom


class RoomCalls(Protocol):
    """What is needed of the homeserver."""

    bot: str
    server_name: str

    async def create_room(self, body: Mapping[str, Any], *, user: str = "") -> str: ...
    async def resolve(self, alias: str) -> str | None: ...
    async def state(self, room_id: str, *, user: str = "") -> list[Mapping[str, Any]]: ...
    async def put_state(
        self, room_id: str, type_: str, content: Mapping[str, Any], state_key: str = "", *, user: str = ""
    ) -> str: ...
    async def invite(self, room_id: str, member: str, *, user: str = "") -> None: ...
    async def join(self, room: str, *, user: str) -> None: ...
    async def leave(self, room_id: str, *, user: str) -> None: ...
    async def drop_alias(self, alias: str) -> None: ...
    async def state_event(
        self, room_id: str, type_: str, state_key: str = "", *, user: str = ""
    ) -> Mapping[str, Any] | None: ...


async def ensure(calls: RoomCalls, room: DesiredRoom, *, agents: frozenset[str] = frozenset()) -> tuple[str, bool]:
    """Make the room; (its id, whether anything was sent). `agents`: members of ours, who join by themselves."""
    alias = f"#{room.alias}:{calls.server_name}"
    room_id = await calls.resolve(alias)
    state = await calls.state(room_id) if room_id is not None else []
    if room_id is not None and _membership(state, calls.bot) != "join":  # half made when the homeserver died
        await calls.drop_alias(alias)
        room_id = None
    sent = room_id is None
    if room_id is None:
        body = desired.creation(room, server_name=calls.server_name)
        room_id = await calls.create_room(body | {"invite": sorted(room.members)})
        for agent in sorted(agents):
            await calls.join(room_id, user=agent)
        state = await calls.state(room_id)
    sent |= await _heal_state(calls, room_id, room, state)
    sent |= await _heal_members(calls, room_id, room, state, agents)
    sent |= await _link(calls, room, room_id)
    return room_id, sent


def is_complete(room: DesiredRoom, state: Sequence[Mapping[str, Any]]) -> bool:
    """Whether its making came to its end, the invitations; what was changed since then does not matter."""
    return all(_membership(state, member) for member in room.members)


async def dissolve(calls: RoomCalls, room: DesiredRoom, *, agents: frozenset[str]) -> None:
    """End a room whose owner is gone: alias and space link dropped, a tombstone, ours leave. What was said stays
    readable for the people in it."""
    alias = f"#{room.alias}:{calls.server_name}"
    room_id = await calls.resolve(alias)
    if room_id is None:
        return
    if room.parent:
        await calls.put_state(room.parent, "m.space.child", {}, room_id)
    await calls.put_state(room_id, "m.room.tombstone", {"body": f"{room.name} was deleted.", "replacement_room": ""})
    for agent in sorted(agents):
        await calls.leave(room_id, user=agent)
    await calls.drop_alias(alias)
    await calls.leave(room_id, user=calls.bot)


def differences(room: DesiredRoom, state: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """State events to send, of those that have the empty state key."""
    now = {event["type"]: event["content"] for event in state if event.get("state_key") == ""}
    wanted: list[tuple[str, dict[str, Any]]] = [
        ("m.room.name", {"name": room.name}),
        ("m.room.topic", {"topic": room.topic}),
        ("m.room.power_levels", desired.power_levels(room)),
    ]
    return [(kind, content) for kind, content in wanted if not _covers(now.get(kind, {}), content)]


def _membership(state: Sequence[Mapping[str, Any]], user: str) -> str:
    found = (event for event in state if event["type"] == "m.room.member" and event["state_key"] == user)
    return next((str(event["content"].get("membership")) for event in found), "")


def _covers(now: Any, wanted: Any) -> bool:
    """Every wanted key is there with the wanted value; a `users` map must be equal. A homeserver may add keys."""
    if not isinstance(wanted, Mapping) or not isinstance(now, Mapping):
        return bool(now == wanted)
    return all(
        now.get(key) == value if key == "users" else _covers(now.get(key), value) for key, value in wanted.items()
    )


async def _heal_state(calls: RoomCalls, room_id: str, room: DesiredRoom, state: Sequence[Mapping[str, Any]]) -> bool:
    todo = differences(room, state)
    for kind, content in todo:
        await calls.put_state(room_id, kind, content)
    return bool(todo)


async def _heal_members(
    calls: RoomCalls, room_id: str, room: DesiredRoom, state: Sequence[Mapping[str, Any]], agents: frozenset[str]
) -> bool:
    memberships = {
        event["state_key"]: event["content"].get("membership") for event in state if event["type"] == "m.room.member"
    }
    sent = False
    for member in sorted(room.members):
        if memberships.get(member) in ("join", "invite"):
            continue
        await calls.invite(room_id, member)
        sent = True
    for agent in sorted(agents):
        if memberships.get(agent) != "join":
            await calls.join(room_id, user=agent)
            sent = True
    return sent


async def _link(calls: RoomCalls, room: DesiredRoom, room_id: str) -> bool:
    if not room.parent:
        return False
    child = await calls.state_event(room.parent, "m.space.child", room_id)
    link = desired.space_link(calls.server_name)
    if child is not None and child.get("via") == link["via"]:
        return False
    await calls.put_state(room.parent, "m.space.child", link, room_id)
    return True
