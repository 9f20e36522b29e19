"""The one writer of rooms: each is brought in line with what is declared, on a change, on drift, and now and then."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from weakref import WeakValueDictionary

import structlog

from appservice.errors import Problem
from appservice.health import Health
from appservice.homeserver.client import ERRORS, Homeserver, is_gone, readable
from appservice.reconcile.identity import Identities
from appservice.reconcile.steps import Done
from appservice.rooms import live
from appservice.rooms.declared import Declared
from appservice.rooms.desired import DesiredRoom
from appservice.rooms.live import Around
from appservice.store import rooms
from appservice.store.changes import Key
from appservice.store.database import Connection, Database
from appservice.store.rooms import Room

KIND = "Room"
ASKING_IN = "AskingIn"  # the reason of a condition: not everybody's turn has come yet

log = structlog.get_logger()


class RoomKeeper:
    """Rooms are known by alias. What is in line is remembered, so that asking again costs nothing. `look` has a
    key looked at: a room that somebody belongs into by now, the owner of one, whose status tells how the room is."""

    def __init__(
        self,
        homeserver: Homeserver,
        store: Database,
        declared: Declared,
        identities: Identities,
        look: Callable[[Key], None],
    ) -> None:
        self._homeserver = homeserver
        self._store = store
        self._declared = declared
        self._identities = identities
        self._look = look
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # those that somebody holds
        self._failing: dict[str, Problem] = {}
        self._in_line: dict[str, tuple[DesiredRoom, str]] = {}
        self._equals: dict[str, frozenset[str]] = {}
        self._refused: dict[str, Mapping[str, str]] = {}
        self._left: dict[str, frozenset[str]] = {}  # whom the next pass of a room asks in, or takes out
        self._accounts: set[str] = set()

    # -- doors --------------------------------------------------------------------------------------------------

    async def reconcile(self, key: Key) -> float | None:
        """A pass of one room: read it, mend it, or end it when nobody declares it any more."""
        async with self._lock(key.name):
            wanted = (await self._declared.rooms()).get(key.name)
            if wanted is None:
                await self._end(key.name)
            else:
                unsettled = self._unsettled(key.name)
                try:
                    await self._mend(wanted)
                finally:
                    owner = owner_of(wanted)
                    if owner is not None and unsettled != self._unsettled(key.name):
                        self._look(owner)
        return None

    async def health(self) -> Health:
        """Which rooms cannot be brought in line, and why the first of them cannot."""
        if not (failing := sorted(self._failing.items())):
            return Health(part="rooms", level="ok", detail="in line with what is declared")
        alias, problem = failing[0]
        more = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
        return Health(part="rooms", level="warn", detail=f"{alias}{more}: {problem.what}", fix=problem.fix)

    async def bring(self, alias: str) -> str:
        """Make sure a declared room is in line; its id. Raises OpsroomError."""
        async with self._lock(alias):
            wanted = (await self._declared.rooms())[alias]
            known = self._in_line.get(alias)
            if known is not None and known[0] == wanted:
                return known[1]
            return await self._mend(wanted)

    async def adopt(self, room: DesiredRoom, room_id: str, *, old: str) -> None:
        """From now on a declared room is one that somebody else made; the one before points there. `old`: the alias it
        was found by. It can be repeated, whatever ended it. Raises OpsroomError."""
        async with self._lock(room.alias):
            earlier = [each for each in await self.ids(room.alias) if each != room_id]

            async def unit(db: Connection) -> None:
                await rooms.remove(db, room_id)  # as what the bot had been asked into
                await rooms.put(db, _row(room, room_id))

            await self._store.write(unit)
            try:
                await live.adopt(self._homeserver, room_id, room.alias, old=old, earlier=earlier)
                for each in earlier:
                    await live.dissolve(self._homeserver, each, "", ours=self._declared.names.is_ours)
                    await self._store.write(partial(_remove, each))
            except Exception as error:
                raise readable(error, f"adopt the room {old}") from error
            await self._mend(room)
        log.info("room adopted", room=room.alias, room_id=room_id)

    async def ids(self, alias: str) -> list[str]:
        """Every room that is, or was, behind an alias of ours."""
        known = [room.room_id for room in await rooms.of_alias(self._store, alias)]
        now = await self._homeserver.resolve(f"#{alias}:{self._homeserver.server_name}")
        return [*known, *([now] if now is not None and now not in known else [])]

    def equals(self, alias: str) -> str:
        """A sentence on those in a room who stand as high as the bot and should not; '' when there are none."""
        if not (high := sorted(self._equals.get(alias, ()))):
            return ""
        return (
            f"{' and '.join(high)} stand{'s' * (len(high) == 1)} as high in this room as {self._homeserver.bot}, so"
            " Opsroom can neither lower nor remove them. Only they can give up their power: in Element with"
            f" `/deop {high[0]}`."
        )

    def told(self, alias: str, done: Done) -> Done:
        """How a step is told after which a room is in line: with whom it is not as declared for."""
        if equals := self.equals(alias):
            return Done("OthersKeepPower", equals)
        if left := self._left.get(alias):
            return Done(ASKING_IN, f"{done.message}; people still to be asked in or taken out: {len(left)}")
        if refused := self._refused.get(alias):
            said = "; ".join(f"{user}: {reason}" for user, reason in sorted(refused.items()))
            return Done(
                "SomeRefused", f"The homeserver does not let these come in or go, all others are as declared. {said}"
            )
        return done

    async def everything(self) -> Iterable[Key]:
        """All rooms that are declared, and those of ours that nobody declares any more."""
        known = {room.alias for room in await rooms.every(self._store) if room.alias and room.purpose != "ops"}
        return [Key(KIND, alias) for alias in {*await self._declared.rooms(), *known}]

    async def without(self, user: str) -> None:
        """Bring the rooms in line in which somebody was who is not declared any more; they are out of them then."""
        for alias, (room, _) in list(self._in_line.items()):
            if user in room.members:
                await self.reconcile(Key(KIND, alias))
            while self.waits(user, alias):
                await self.reconcile(Key(KIND, alias))

    async def of(self, user: str) -> list[DesiredRoom]:
        """The rooms somebody belongs into, the root space left out."""
        return [room for room in (await self._declared.rooms()).values() if user in room.members and room.parent]

    def account(self, user: str, *, there: bool) -> None:
        """Somebody's account was made, or is gone: rooms that are in line without them are so no more."""
        if not there:
            self._accounts.discard(user)
        elif user not in self._accounts:
            self._accounts.add(user)
            for alias in [alias for alias, (room, _) in self._in_line.items() if user in room.members]:
                self.forget(alias)
                self._look(Key(KIND, alias))

    def forget(self, alias: str) -> None:
        """What is known of a room may not be so any more."""
        self._in_line.pop(alias, None)

    def waits(self, user: str, alias: str) -> bool:
        """Whether somebody's turn to be asked into a room, or to be taken out, has not come yet."""
        return user in self._left.get(alias, ())

    def _unsettled(self, alias: str) -> tuple[bool, bool]:
        return alias in self._failing, bool(self._left.get(alias))

    def _lock(self, alias: str) -> asyncio.Lock:
        return self._locks.setdefault(alias, asyncio.Lock())

    # -- one room -----------------------------------------------------------------------------------------------

    async def _mend(self, room: DesiredRoom) -> str:
        self._in_line.pop(room.alias, None)
        absent: set[str] = set()

        async def around() -> Around:
            found = await self._around(room)
            absent.update(found.absent)
            return found

        try:
            known = [known.room_id for known in await rooms.of_alias(self._store, room.alias)]
            made = await live.ensure(self._homeserver, room, around, known=known, refused=self._refused.get(room.alias))
        except Exception as error:
            failure = readable(error, f"make the room {room.name}")
            self._failing[room.alias] = failure.problems[0]
            raise failure from error
        self._failing.pop(room.alias, None)
        row = _row(room, made.room_id)
        if await rooms.get(self._store, made.room_id) != row:
            await self._store.write(lambda db: rooms.put(db, row))
        self._equals[room.alias] = made.equals
        self._refused[room.alias] = made.refused
        self._left[room.alias] = made.left
        if made.left or absent & self._accounts:  # an account that was made meanwhile
            self._look(Key(KIND, room.alias))
        if not absent & self._accounts:
            self._in_line[room.alias] = (room, made.room_id)
        if made.sent:
            log.info("room mended", room=room.alias, left=len(made.left))
        return made.room_id

    async def _around(self, room: DesiredRoom) -> Around:
        names = self._declared.names
        ours = frozenset(user for user in room.members if names.agent(user))
        async with asyncio.TaskGroup() as tasks:
            made = {user: tasks.create_task(self._identities.once(names.agent(user))) for user in sorted(ours)}
            parent = tasks.create_task(self._id(room.parent))
            open_to = tasks.create_task(self._id(room.open_to))
            known = {user: tasks.create_task(self.known(user)) for user in sorted(room.members - ours)}
            portrait = tasks.create_task(self._portrait(room.portrait)) if room.portrait not in ours else None
        return Around(
            parent=parent.result(),
            open_to=open_to.result(),
            avatar=portrait.result() if portrait else made[room.portrait].result(),
            ours=ours,
            absent=frozenset(user for user, task in known.items() if not task.result()),
        )

    async def _portrait(self, user: str) -> str:
        return str((await self._homeserver.profile(user)).get("avatar_url") or "") if user else ""

    async def _id(self, alias: str) -> str:
        return await self.bring(alias) if alias else ""

    async def known(self, user: str) -> bool:
        """Whether somebody has an account: one that is not there yet, or of whom the homeserver says nothing, cannot be
        invited."""
        if user not in self._accounts:
            try:
                there = await self._homeserver.exists(user)
            except ERRORS as error:
                if not is_gone(error):
                    raise
                log.warning("of an account nothing is said", user=user, error=str(error))
                there = False
            if there:
                self.account(user, there=True)
        return user in self._accounts

    async def _end(self, alias: str) -> None:
        self._in_line.pop(alias, None)
        self._equals.pop(alias, None)
        self._refused.pop(alias, None)
        self._left.pop(alias, None)
        self._failing.pop(alias, None)
        ours = self._declared.names.is_ours
        for room in await rooms.of_alias(self._store, alias):
            next_one = await self._successor(room)
            try:
                await live.dissolve(self._homeserver, room.room_id, alias, ours=ours, replacement=next_one)
            except Exception as error:
                raise readable(error, f"end the room {alias}") from error
            await self._store.write(partial(_remove, room.room_id))
            log.info("room ended", room=alias)

    async def _successor(self, ended: Room) -> str:
        """Id of the room alone with a team's leader, when the team has another one now; '' for all other rooms."""
        if ended.purpose == "leader-dm":
            for room in (await self._declared.rooms()).values():
                if (room.purpose, room.owner) == (ended.purpose, ended.owner):
                    return await self.bring(room.alias)
        return ""


def owner_of(room: DesiredRoom) -> Key | None:
    """The object whose status tells how a room is; None for the root space and the journal."""
    if not room.owner:
        return None
    return Key("Team" if room.purpose in ("team-space", "team", "leader-dm") else "Worker", room.owner)


def _row(room: DesiredRoom, room_id: str) -> Room:
    return Room(room_id=room_id, purpose=room.purpose, owner=room.owner, alias=room.alias)


async def _remove(room_id: str, db: Connection) -> None:
    await rooms.remove(db, room_id)
