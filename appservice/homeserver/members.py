"""Who is in a room, and who operates: read once, kept until an event says that it changed."""

from collections.abc import Mapping

from appservice.homeserver.client import Homeserver, localpart
from appservice.homeserver.events import Event, map_of

OPERATOR_POWER = 100


class Members:
    """Joined members by room: Matrix id -> display name."""

    def __init__(self, homeserver: Homeserver) -> None:
        self._homeserver = homeserver
        self._rooms: dict[str, Mapping[str, str]] = {}

    async def of(self, room_id: str, *, user: str = "") -> Mapping[str, str]:
        """`user`: one of ours who is in the room, when the bot is not."""
        known = self._rooms.get(room_id)
        if known is None:
            known = self._rooms[room_id] = await self._homeserver.members(room_id, user=user)
        return known

    def changed(self, room_id: str) -> None:
        self._rooms.pop(room_id, None)


class Operators:
    """People with power 100 in the ops room. The bot, its creator, is not one of them."""

    def __init__(self, homeserver: Homeserver, members: Members) -> None:
        self._homeserver = homeserver
        self._members = members
        self._known: frozenset[str] | None = None
        self.ops_room = ""

    async def now(self) -> frozenset[str]:
        """Read from the room at this moment."""
        content = await self._homeserver.state_event(self.ops_room, "m.room.power_levels") or {}
        joined = await self._members.of(self.ops_room)
        users = map_of(content.get("users"))
        self._known = frozenset(
            user
            for user, power in users.items()
            if isinstance(power, int) and power >= OPERATOR_POWER and user in joined
        )
        return self._known

    async def last_known(self) -> frozenset[str]:
        """As of the last change in the room: for what must not wait."""
        return self._known if self._known is not None else await self.now()

    def look(self, event: Event) -> bool:
        """Forget what an event made stale; True when operators may have changed."""
        if event.type not in ("m.room.member", "m.room.power_levels"):
            return False
        self._members.changed(event.room_id)
        if event.room_id != self.ops_room:
            return False
        self._known = None
        return True


def short(user: str) -> str:
    """How a person is called in a sentence: `@alice`."""
    return "@" + localpart(user)
