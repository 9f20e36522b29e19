"""Go on in a room that somebody else made, as HiClaw did: what was said there stays.

HiClaw's rooms lie on the same homeserver under `#hiclaw-KIND-NAME`, made by its admin. The bot must be invited and have
power 100; then an alias of ours leads there, and the keeper of rooms brings it in line like any other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appservice.errors import Conflict, Denied, Invalid, NotFound
from appservice.homeserver.client import ERRORS, Homeserver, is_gone
from appservice.policy.roster import Roster
from appservice.reconcile.rooms import RoomKeeper, owner_of
from appservice.rooms import live
from appservice.rooms.declared import Declared
from appservice.rooms.desired import DesiredRoom, own_room
from appservice.store import objects, rooms, turns
from appservice.store.changes import Key
from appservice.store.database import Database
from appservice.store.objects import Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """`out`: who had no place there any more; `equals`: a sentence on whom Opsroom has no power over, or ''."""

    alias: str
    out: tuple[str, ...]
    equals: str


class Adoption:
    """`wake` has an object looked at now."""

    def __init__(
        self,
        homeserver: Homeserver,
        store: Database,
        declared: Declared,
        keeper: RoomKeeper,
        wake: Callable[[Key], None],
    ) -> None:
        self._homeserver = homeserver
        self._store = store
        self._declared = declared
        self._keeper = keeper
        self._wake = wake

    async def adopt(self, stored: Stored, alias: str = "", *, leader_dm: bool = False) -> Adopted:
        """`alias`: '' for the one that HiClaw gives to the room of this object; a localpart, or whole. Raises
        OpsroomError: then nothing was changed, or it can be repeated."""
        ours, usual = await self._place(stored, leader_dm=leader_dm)
        room = (await self._declared.rooms())[ours]
        whole = self._whole(alias or usual)
        room_id = await self._homeserver.resolve(whole)
        if room_id is None:
            raise NotFound(f"there is no room {whole} on this homeserver.", fix="Name the alias it has.")
        await self._check_free(room_id, room, whole)
        await self._enter(room_id, whole)
        state = await self._homeserver.state(room_id)
        _check_use(state, whole)
        live.check_power(self._homeserver, state, whole)
        await self._check_quiet(room, room_id)
        strangers = live.strangers(room, state, bot=self._homeserver.bot)
        await self._keeper.adopt(room, room_id, old=whole)
        if (owner := owner_of(room)) is not None:
            self._wake(owner)
        return Adopted(alias=whole, out=await self._gone(room_id, strangers), equals=self._keeper.equals(room.alias))

    async def _place(self, stored: Stored, *, leader_dm: bool) -> tuple[str, str]:
        """Our alias of an object's room, and HiClaw's."""
        if stored.deleting:
            raise Invalid(f"`{stored.key}` is being deleted.")
        if leader_dm and stored.kind != "Team":
            raise Invalid(f"`{stored.key}` has no room with its leader alone.", fix="Leave `--leader-dm` out.")
        prefix, roster = self._declared.prefix, await self._declared.roster()
        match stored.kind:
            case "Team" if leader_dm:
                leader = roster.teams[stored.name].leader
                return f"{prefix}leader-dm-{leader}", f"hiclaw-leader-dm-{leader}"
            case "Team":
                return f"{prefix}team-{stored.name}", f"hiclaw-team-{stored.name}"
            case "Manager":
                [agent] = await objects.owned_by(self._store, str(stored.key))
                return _room_of(roster, agent.name, prefix), f"hiclaw-manager-{stored.name}"
            case "Worker":
                return _room_of(roster, stored.name, prefix), f"hiclaw-worker-{stored.name}"
        raise Invalid(
            f"`{stored.key}` has no room of its own.", fix="Workers, teams and managers have: `!adopt worker/NAME`"
        )

    def _whole(self, alias: str) -> str:
        alias = alias if alias.startswith("#") else f"#{alias}"
        return alias if ":" in alias else f"{alias}:{self._homeserver.server_name}"

    async def _check_free(self, room_id: str, room: DesiredRoom, called: str) -> None:
        known = await rooms.get(self._store, room_id)
        if known is not None and known.alias not in ("", room.alias):
            raise Conflict(f"{called} is a room of Opsroom already: that of {known.owner or known.purpose}.")

    async def _enter(self, room_id: str, called: str) -> None:
        bot = self._homeserver.bot
        try:
            await self._homeserver.join(room_id, user=bot)
        except ERRORS as error:
            if not is_gone(error):
                raise
            raise Denied(
                f"{bot} cannot get into {called}: it was not invited.",
                fix=f"In Element, type `/invite {bot}` in that room, then `/op {bot} 100`, then say this again here.",
            ) from error

    async def _check_quiet(self, room: DesiredRoom, room_id: str) -> None:
        """What is being answered in the room until now would lose its place."""
        earlier = {each for each in await self._keeper.ids(room.alias) if each != room_id}
        busy = sorted({turn.agent for turn in await turns.open_turns(self._store) if turn.room_id in earlier})
        if busy:
            raise Conflict(
                f"{' and '.join(busy)} is answering in the room that {room.name} has until now.",
                fix=f"Wait for the end of it, or `!stop {busy[0]}`, then say this again.",
            )

    async def _gone(self, room_id: str, strangers: list[str]) -> tuple[str, ...]:
        here = await self._homeserver.members(room_id)
        return tuple(user for user in strangers if user not in here)


def _room_of(roster: Roster, agent: str, prefix: str) -> str:
    return own_room(roster.agents[agent], prefix=prefix)


def _check_use(state: Sequence[Mapping[str, Any]], called: str) -> None:
    kinds = {event["type"]: event["content"] for event in state if event.get("state_key") == ""}
    if kinds.get("m.room.create", {}).get("type") == "m.space":
        raise Invalid(f"{called} is a space, not a room.")
    if "m.room.encryption" in kinds:
        raise Invalid(
            f"{called} is encrypted: agents can read nothing there, and it cannot be undone.",
            fix="Let the new room be the place to ask.",
        )
    if live.is_closed(state):
        raise Invalid(f"{called} was closed; what was said goes on in another room.", fix="Adopt that one.")
