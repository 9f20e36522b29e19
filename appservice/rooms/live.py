"""Make a room be as desired: read its state once, send only the difference. A second pass sends nothing."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from appservice.errors import Denied
from appservice.rooms import desired, standing
from appservice.rooms.desired import DesiredRoom

_HERE = ("join", "invite")
PEOPLE_A_PASS = 50  # asked in or taken out: a homeserver takes them one after the other, 0.1 to 0.2 s each


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
    async def invite(self, room_id: str, member: str, *, user: str = "") -> str: ...
    async def unban(self, room_id: str, member: str) -> str: ...
    async def kick(self, room_id: str, member: str, reason: str) -> str: ...
    async def try_join(self, room: str, *, user: str) -> str: ...
    async def leave(self, room_id: str, *, user: str) -> None: ...
    async def put_alias(self, alias: str, room_id: str) -> None: ...
    async def drop_alias(self, alias: str) -> None: ...
    async def state_event(
        self, room_id: str, type_: str, state_key: str = "", *, user: str = ""
    ) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a room hangs on: room ids of its space and of the space whose members may join, the address of its picture,
    which of its members are ours and join by themselves, and which members there are no accounts of yet."""

    parent: str = ""
    open_to: str = ""
    avatar: str = ""
    ours: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A room after a pass. `equals`: who stands as high as the bot and should not; `refused`: whom the homeserver lets
    nobody ask in or take out, and why: the others have their room all the same; `left`: whose turn the next pass is."""

    room_id: str
    sent: bool
    equals: frozenset[str] = frozenset()
    refused: Mapping[str, str]
    left: frozenset[str] = frozenset()


async def ensure(
    calls: RoomCalls,
    room: DesiredRoom,
    around: Callable[[], Awaitable[Around]],
    *,
    known: Sequence[str] = (),
    refused: Mapping[str, str] | None = None,
) -> Made:
    """Make the room. `known`: ids it had under its alias before; `refused`: who was refused in the pass before, so that
    others have their turn first. Raises Denied where the bot lost its power."""
    alias = f"#{room.alias}:{calls.server_name}"
    room_id = await calls.resolve(alias)
    state = await calls.state(room_id) if room_id is not None else []
    for lost in known if room_id is None else ():
        state = await calls.state(lost)
        if _membership(state, calls.bot) == "join" and not is_closed(state):
            await calls.put_alias(alias, lost)
            room_id = lost
            break
    if room_id is not None and _membership(state, calls.bot) != "join":  # half made when the homeserver died
        await calls.drop_alias(alias)
        room_id = None
    found = await around()
    sent = room_id is None
    if room_id is None:
        room_id = await _create(calls, room, found)
        state = await calls.state(room_id)
    equals = standing.read(state).equals(calls.bot, room.powers)
    sent |= await _heal_state(calls, room_id, room, state, found)
    made = await _heal_members(calls, room_id, room, state, found, refused or {})
    sent |= await _link(calls, room_id, state, found)
    return replace(made, sent=sent or made.sent, equals=equals)


async def _create(calls: RoomCalls, room: DesiredRoom, around: Around) -> str:
    body = desired.creation(
        room,
        server_name=calls.server_name,
        parent=around.parent,
        open_to=around.open_to,
        avatar=around.avatar,
    )
    people = sorted(room.members - around.absent - around.ours)
    return await calls.create_room(body | {"invite": [*sorted(around.ours), *people[:PEOPLE_A_PASS]]})


def is_complete(room: DesiredRoom, state: Sequence[Mapping[str, Any]]) -> bool:
    """Whether its making came to its end, the invitations; what was changed since then does not matter."""
    return all(_membership(state, member) for member in room.members)


def is_run(state: Sequence[Mapping[str, Any]], *, bot: str) -> bool:
    """Whether somebody is in it, beside the bot, who stands as high as operators do."""
    found = standing.read(state)
    here = {user for user, membership in _memberships(state).items() if membership == "join"}
    return bot in here and any(found.power(user) >= desired.OPERATOR_POWER for user in here - {bot})


async def adopt(calls: RoomCalls, room_id: str, alias: str, *, old: str, earlier: Sequence[str]) -> None:
    """Give an alias of ours to a room that somebody else made, and have the earlier ones point there. In this order,
    so that a pass after a crash in between finds the one or the other under the alias, and never makes a third."""
    for each in earlier:
        state = await calls.state(each)
        if _membership(state, calls.bot) == "join":
            await _close(calls, each, state, f"{_name(state) or alias} goes on in another room.", room_id)
    ours = f"#{alias}:{calls.server_name}"
    if (now := await calls.resolve(ours)) != room_id:
        if now is not None:
            await calls.drop_alias(ours)
        await calls.put_alias(ours, room_id)
    shown = await calls.state_event(room_id, "m.room.canonical_alias") or {}
    if shown.get("alias") != ours:
        others = [other for other in (old, shown.get("alias"), *shown.get("alt_aliases", ())) if other]
        alive = [other for other in dict.fromkeys(others) if other != ours and await calls.resolve(other) == room_id]
        await calls.put_state(room_id, "m.room.canonical_alias", {"alias": ours, "alt_aliases": alive})


def check_power(calls: RoomCalls, state: Sequence[Mapping[str, Any]], called: str) -> None:
    """Raises Denied when the bot cannot keep a room in line."""
    found = standing.read(state)
    if (power := found.power(calls.bot)) < found.needed:
        raise Denied(
            f"{calls.bot} has power {power:.0f} in {called}, and needs {found.needed:.0f}.",
            fix=f"In Element, type `/op {calls.bot} {found.needed:.0f}` in that room.",
        )


def is_closed(state: Sequence[Mapping[str, Any]]) -> bool:
    return any(event["type"] == "m.room.tombstone" for event in state)


async def dissolve(
    calls: RoomCalls, room_id: str, alias: str, *, ours: Callable[[str], bool], replacement: str = ""
) -> None:
    """End a room whose owner is gone: alias and space link dropped, a tombstone, ours leave. What was said stays
    readable for the people in it. `replacement`: id of the room that takes its place."""
    state = await calls.state(room_id)
    if _membership(state, calls.bot) != "join":
        return
    for parent in (event["state_key"] for event in state if event["type"] == "m.space.parent"):
        await _take_out(calls, parent, room_id)
    became = "goes on in another room" if replacement else "was deleted"
    await _close(calls, room_id, state, f"{_name(state) or alias} {became}.", replacement)
    for member, membership in _memberships(state).items():
        if ours(member) and member != calls.bot and membership in _HERE:
            await calls.leave(room_id, user=member)
    if alias:
        await calls.drop_alias(f"#{alias}:{calls.server_name}")
    await calls.leave(room_id, user=calls.bot)


async def _close(
    calls: RoomCalls, room_id: str, state: Sequence[Mapping[str, Any]], body: str, replacement: str
) -> None:
    if not is_closed(state):
        await calls.put_state(room_id, "m.room.tombstone", {"body": body, "replacement_room": replacement})


def _name(state: Sequence[Mapping[str, Any]]) -> str:
    return next((str(event["content"].get("name") or "") for event in state if event["type"] == "m.room.name"), "")


def differences(
    room: DesiredRoom,
    state: Sequence[Mapping[str, Any]],
    *,
    open_to: str = "",
    bot: str = "",
    alias: str = "",
    avatar: str = "",
) -> list[tuple[str, dict[str, Any]]]:
    """State events to send, of those that have the empty state key. `bot`: who sends them; '' for the creator of a
    room as we make it. `alias` and `avatar`: what it should show; '' for what does not matter. Another picture that
    people gave it stays."""
    now = {event["type"]: event["content"] for event in state if event.get("state_key") == ""}
    found, levels = standing.read(state), desired.power_levels(room)
    wanted: list[tuple[str, dict[str, Any]]] = [
        ("m.room.name", {"name": room.name}),
        ("m.room.topic", {"topic": room.topic}),
        ("m.room.power_levels", found.within(levels, bot) if bot else levels),
        ("m.room.join_rules", desired.join_rules(open_to if found.restricted or not bot else "")),
        ("m.room.history_visibility", desired.HISTORY),
        ("m.room.guest_access", desired.GUESTS),
    ]
    if alias:
        wanted.append(("m.room.canonical_alias", {**now.get("m.room.canonical_alias", {}), "alias": alias}))
    if avatar and not now.get("m.room.avatar", {}).get("url"):
        wanted.append(("m.room.avatar", {"url": avatar}))
    return [(kind, content) for kind, content in wanted if not _covers(now.get(kind, {}), content)]


def strangers(room: DesiredRoom, state: Sequence[Mapping[str, Any]], *, bot: str) -> list[str]:
    """Who is in the room, or asked in, and has no place there."""
    welcome = room.members | room.guests | {bot}
    here = (user for user, membership in _memberships(state).items() if membership in (*_HERE, "knock"))
    return sorted(user for user in here if user not in welcome)


async def _take_out(calls: RoomCalls, parent: str, room_id: str) -> None:
    space = await calls.state(parent)
    if _membership(space, calls.bot) == "join" and _hangs(space, room_id):  # else the space has ended, too
        await calls.put_state(parent, "m.space.child", {}, room_id)


def _hangs(space: Sequence[Mapping[str, Any]], room_id: str) -> bool:
    children = (event for event in space if event["type"] == "m.space.child" and event["state_key"] == room_id)
    return any(event["content"].get("via") for event in children)


def _memberships(state: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    found = (event for event in state if event["type"] == "m.room.member")
    return {event["state_key"]: str(event["content"].get("membership")) for event in found}


def _membership(state: Sequence[Mapping[str, Any]], user: str) -> str:
    return _memberships(state).get(user, "")


def _covers(now: Any, wanted: Any) -> bool:
    """Every wanted key is there with the wanted value; who has power over what must be equal. A homeserver may add
    other keys."""
    if not isinstance(wanted, Mapping) or not isinstance(now, Mapping):
        return bool(now == wanted)
    return all(
        now.get(key) == value if key in ("users", "events") else _covers(now.get(key), value)
        for key, value in wanted.items()
    )


async def heal_sign(calls: RoomCalls, room_id: str, room: DesiredRoom, around: Around) -> None:
    """Put back how a room is called and where it hangs, and leave alone who is in it and what they may."""
    state = await calls.state(room_id)
    for kind, content in differences(room, state, bot=calls.bot):
        if kind in ("m.room.name", "m.room.topic"):
            await calls.put_state(room_id, kind, content)
    await _link(calls, room_id, state, around)


async def _heal_state(
    calls: RoomCalls, room_id: str, room: DesiredRoom, state: Sequence[Mapping[str, Any]], around: Around
) -> bool:
    alias = f"#{room.alias}:{calls.server_name}"
    todo = differences(room, state, open_to=around.open_to, bot=calls.bot, alias=alias, avatar=around.avatar)
    if todo:
        check_power(calls, state, room.name)
    for kind, content in todo:
        await calls.put_state(room_id, kind, content)
    return bool(todo)


async def _heal_members(
    calls: RoomCalls,
    room_id: str,
    room: DesiredRoom,
    state: Sequence[Mapping[str, Any]],
    around: Around,
    refused_before: Mapping[str, str],
) -> Made:
    memberships = _memberships(state)
    found = standing.read(state)
    missing = {user for user in room.members - around.absent if memberships.get(user) not in _HERE}
    extra = {user for user in strangers(room, state, bot=calls.bot) if found.power(user) < found.power(calls.bot)}
    late = {user for user in around.ours if memberships.get(user) != "join"}
    people, left = _turn([*sorted(extra), *sorted(missing - late)], refused_before)
    done = [*sorted(late), *people]
    refused = {user: why for user, why in refused_before.items() if user in missing | extra and user not in done}
    for user in (user for user in done if user in extra):
        refused[user] = await calls.kick(room_id, user, REASON)
    for user in (user for user in done if user in missing):
        lifted = await calls.unban(room_id, user) if memberships.get(user) == "ban" else ""
        refused[user] = lifted or await calls.invite(room_id, user)
        if refused[user]:
            check_power(calls, state, room.name)
    for user in (user for user in done if user in late and not refused.get(user)):
        refused[user] = await calls.try_join(room_id, user=user)
    sent = any(not refused[user] for user in done)
    return Made(room_id=room_id, sent=sent, refused={user: why for user, why in refused.items() if why}, left=left)


def _turn(users: Sequence[str], refused: Mapping[str, str]) -> tuple[list[str], frozenset[str]]:
    """(those whose turn it is in this pass, the others who have not had one). Who was refused comes last, the one who
    was refused longest ago first."""
    fresh = [user for user in users if user not in refused]
    again = [user for user in refused if user in users]
    return [*fresh, *again][:PEOPLE_A_PASS], frozenset(fresh[PEOPLE_A_PASS:])


REASON = "Who is in this room is declared. An operator can declare a Human that has access to it."


async def _link(calls: RoomCalls, room_id: str, state: Sequence[Mapping[str, Any]], around: Around) -> bool:
    if not around.parent:
        return False
    child = await calls.state_event(around.parent, "m.space.child", room_id)
    link, sent = desired.space_link(calls.server_name), False
    if child is None or child.get("via") != link["via"]:
        await calls.put_state(around.parent, "m.space.child", link, room_id)
        sent = True
    parents = {
        event["state_key"]: event.get("sender")
        for event in state
        if event["type"] == "m.space.parent" and event["content"]
    }
    if around.parent not in parents:  # one that somebody else made does not say where it belongs
        await calls.put_state(room_id, "m.space.parent", link | {"canonical": True}, around.parent)
        sent = True
    for old in sorted(space for space, by in parents.items() if by == calls.bot and space != around.parent):
        await _take_out(calls, old, room_id)  # it has moved
        await calls.put_state(room_id, "m.space.parent", {}, old)
        sent = True
    return sent
