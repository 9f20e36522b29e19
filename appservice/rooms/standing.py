"""Who stands how high in a room, and what the bot can write there. Pure.

A room of ours has version 12, and its creator, the bot, stands above every number. In a room that somebody else made
the bot is one of several with power 100: it has to list itself, gives nobody more than it has, and cannot lower those
who stand as high. Sources: Matrix specification, room versions 10 to 12, authorization of `m.room.power_levels`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

LEVELS = "m.room.power_levels"
NEEDED = 100
_CREATORS_ABOVE_ALL = 12  # the first room version with creators above every number
_RESTRICTED = 8  # the first room version that members of a space can join by themselves
_SINGLE = ("users_default", "events_default", "state_default", "ban", "kick", "invite", "redact")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """`creators`: those above every number; `levels`: content of `m.room.power_levels`; `restricted`: whether members
    of a space can be let in."""

    creators: frozenset[str] = frozenset()
    levels: Mapping[str, Any]
    restricted: bool = True

    def power(self, user: str) -> float:
        if user in self.creators:
            return inf
        return _number(_map(self.levels.get("users")).get(user, self.levels.get("users_default")))

    @property
    def needed(self) -> float:
        """Power of who keeps the room in line."""
        own = _map(self.levels.get("events")).get(LEVELS, self.levels.get("state_default", 50))
        return max(NEEDED, _number(own))

    def may_notify(self, user: str) -> bool:
        """Whether somebody's `@room` is heard by all who are in the room."""
        return self.power(user) >= _number(_map(self.levels.get("notifications")).get("room", 50))

    def equals(self, bot: str, wanted: Mapping[str, int]) -> frozenset[str]:
        """Who stands as high as the bot and should not: only they themselves can change that."""
        own = self.power(bot)
        high = {*self.creators, *_map(self.levels.get("users"))} - {bot}
        return frozenset(user for user in high if self.power(user) >= own > wanted.get(user, 0))

    def within(self, wanted: Mapping[str, Any], bot: str) -> dict[str, Any]:
        """The content of `m.room.power_levels` that is nearest to the wanted one of all that the bot can write."""
        own = self.power(bot)
        now, events = _map(self.levels.get("users")), _map(self.levels.get("events"))
        users = {user: _least(power, own) for user, power in wanted["users"].items() if user not in self.creators}
        users |= {user: now[user] for user in now if user != bot and _number(now[user]) >= own}
        if bot not in self.creators:
            users[bot] = now.get(bot, int(own))
        levels = {key: _least(wanted[key], own) for key in _SINGLE}
        levels |= {key: self.levels[key] for key in _SINGLE if _number(self.levels.get(key)) > own}
        kinds = {kind: _least(power, own) for kind, power in wanted["events"].items()}
        kinds |= {kind: power for kind, power in events.items() if _number(power) > own}
        return {**levels, "users": users, "events": kinds}


def read(state: Sequence[Mapping[str, Any]]) -> Standing:
    """From the whole state of a room."""
    made = next((event for event in state if event["type"] == "m.room.create"), None)
    levels = next((event["content"] for event in state if event["type"] == LEVELS), None)
    content, creator = _map(made.get("content")) if made else {}, str(made.get("sender", "")) if made else ""
    version = _version(str(content.get("room_version", "1")))
    if version >= _CREATORS_ABOVE_ALL:
        more = content.get("additional_creators")
        creators = frozenset({creator, *(more if isinstance(more, list) else ())})
        return Standing(creators=creators, levels=levels or {})
    return Standing(levels=levels or {"users": {creator: NEEDED}}, restricted=version >= _RESTRICTED)


def _version(name: str) -> float:
    """A version whose name is no number is newer than those that we know."""
    return float(name) if name.isdigit() else inf


def _number(value: object) -> float:
    """Before version 10 a level could be a text."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0


def _least(power: int, own: float) -> int:
    return power if power <= own else int(own)


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
