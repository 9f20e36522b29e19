"""Who is in a room, and who operates: read once, kept until an event says that it changed."""

import asyncio
from collections import Counter
from collections.abc import Mapping

import structlog

from appservice.homeserver.client import ERRORS, Homeserver, localpart
from appservice.homeserver.events import Event, map_of

OPERATOR_POWER = 100
LIMIT_S = 5.0
AGAIN_S = 5.0

log = structlog.get_logger()


class Members:
    """Joined members by room: Matrix id -> display name."""

    def __init__(self, homeserver: Homeserver) -> None:
        self._homeserver = homeserver
        self._rooms: dict[str, Mapping[str, str]] = {}
        self._changes: Counter[str] = Counter()  # events that may have changed them

    async def of(self, room_id: str, *, user: str = "") -> Mapping[str, str]:
        """`user`: one of ours who is in the room, when the bot is not."""
        known = self._rooms.get(room_id)
        if known is None:
            before = self._changes[room_id]
            known = await self._homeserver.members(room_id, user=user)
            if self._changes[room_id] == before:  # else it may be of before the change
                self._rooms[room_id] = known
        return known

    def changed(self, room_id: str) -> None:
        self._changes[room_id] += 1
        self._rooms.pop(room_id, None)


class Operators:
    """People with power 100 in the ops room. The bot, its creator, is not one of them."""

    def __init__(self, homeserver: Homeserver, members: Members) -> None:
        self._homeserver = homeserver
        self._members = members
        self._known: frozenset[str] | None = None
        self._changes = 0  # events that may have changed them
        self._read = 0  # as of how many of these they are known
        self._again_at = 0.0  # not asked for before, as the homeserver was away
        self.ops_room = ""

    async def now(self) -> frozenset[str]:
        """Read from the room at this moment."""
        changes = self._changes
        content = await self._homeserver.state_event(self.ops_room, "m.room.power_levels") or {}
        joined = await self._members.of(self.ops_room)
        users = map_of(content.get("users"))
        self._known = frozenset(
            user
            for user, power in users.items()
            if isinstance(power, int) and power >= OPERATOR_POWER and user in joined
        )
        self._read = changes
        return self._known

    async def last_known(self) -> frozenset[str]:
        """As of the last change in the room, or before it while the homeserver cannot be asked: for what must not
        wait."""
        if self._known is None:
            return await self.now()
        loop = asyncio.get_running_loop()
        if self._read != self._changes and loop.time() >= self._again_at:
            try:
                async with asyncio.timeout(LIMIT_S):
                    return await self.now()
            except ERRORS as error:
                log.warning("who operates is not known anew", error=type(error).__name__)
                self._again_at = loop.time() + AGAIN_S
        return self._known

    def look(self, event: Event) -> bool:
        """Remember that an event made stale what is known; True when operators may have changed."""
        if event.type not in ("m.room.member", "m.room.power_levels"):
            return False
        self._members.changed(event.room_id)
        if event.room_id != self.ops_room:
            return False
        self._changes += 1
        self._again_at = 0.0
        return True


def short(user: str) -> str:
    """How a person is called in a sentence: `@alice`."""
    return "@" + localpart(user)
