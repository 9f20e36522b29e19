"""What was made for agents that nobody declares: found by what it is labelled with, and removed.

A teardown leaves nothing, so these come from elsewhere: a store that was restored from an older backup, or hands.
What is away or cannot be removed keeps nothing else from going, and access goes first.
Rooms under an alias of ours are known again, and so ended by their keeper: what was said there stays readable. Not so
while the journal has objects that the store has never heard of: most likely these are to be restored with their rooms.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import time

import structlog

from appservice.backends.door import door
from appservice.errors import OpsroomError, Unavailable
from appservice.homeserver.client import ERRORS
from appservice.homeserver.events import text_of
from appservice.reconcile.rooms import KIND as ROOM
from appservice.reconcile.world import World
from appservice.rooms import desired
from appservice.store import audit, consumers, objects, rooms
from appservice.store.audit import Entry
from appservice.store.changes import Key
from appservice.store.database import Connection
from appservice.store.rooms import Room

EVERY_S = 600.0
AGAIN_S = 10.0  # when a part was away

_FORESEEN = (OpsroomError, OSError, *ERRORS)

log = structlog.get_logger()


class Orphans:
    """`unheard` tells keys that only the journal has, None while it was not read; `look` has a key looked at now."""

    def __init__(
        self,
        world: World,
        *,
        unheard: Callable[[], Awaitable[Collection[str] | None]],
        look: Callable[[Key], None],
    ) -> None:
        self._w = world
        self._unheard = unheard
        self._look = look
        anybody = door(world.settings, "x")
        self._secrets = anybody.secrets_dir.parent.parent
        self._doors = anybody.agent_dir.parent

    async def run(self) -> None:
        """For ever: now, and every few minutes; soon again when a part was away, as it may be at the start."""
        again = AGAIN_S
        while True:
            try:
                await self.remove()
            except _FORESEEN as error:
                log.warning("orphans left", error=str(error) or type(error).__name__, again_s=again)
                pause, again = again, min(again * 2, EVERY_S)
            else:
                pause, again = EVERY_S, AGAIN_S
            await asyncio.sleep(pause)

    async def _workers(self) -> set[str]:
        return {stored.name for stored in await objects.every(self._w.store, "Worker")}

    async def remove(self) -> list[str]:
        """Look everywhere once; what was removed, as `sandbox of alice`. Raises the first error when a part is away or
        something cannot be removed, once all else is done."""
        removed: list[str] = []
        errors: list[Exception] = []
        known = await self._workers()
        tokens = set(await consumers.holders(self._w.store))
        sandboxes, users = set[str](), set[str]()
        with _noted(errors):
            sandboxes = set(await self._w.backend.observe_all())
        with _noted(errors):
            users = set(await self._w.users.names())
        folders = await asyncio.to_thread(_names, self._secrets)
        doors = await asyncio.to_thread(_names, self._doors)
        known |= await self._workers()  # read before and after: none is too new, and none is just on its way out
        try:
            with _noted(errors):
                await self._revoke(tokens - known, removed)
            for what, names, remove in (
                ("sandbox", sandboxes, self._w.backend.remove),
                ("storage user", users, self._w.keys.delete_user),
                ("token", folders, self._remove_folder),
            ):
                async for name in self._gone(names - known):
                    with _noted(errors):
                        await remove(name)
                        removed.append(f"{what} of {name}")
            ours = {door(self._w.settings, name).agent_dir.name for name in known | await self._workers()}
            for folder in doors - ours:  # whose it was is hashed
                await asyncio.to_thread(shutil.rmtree, self._doors / folder, ignore_errors=True)
            with _noted(errors):
                await self._end_rooms(removed)
        finally:
            for name in await self._workers() - known:
                self._look(Key("Worker", name))  # declared meanwhile: what it was just given may be gone
            if removed:
                await self._w.store.write(lambda db: _record(db, removed, self._w.homeserver.bot))
                log.warning("orphans removed", what=removed)
        for other in errors[1:]:
            log.warning("orphans left, too", error=str(other) or type(other).__name__)
        if errors:
            raise errors[0]
        return removed

    async def _revoke(self, names: set[str], removed: list[str]) -> None:
        if gone := [name async for name in self._gone(names)]:
            await self._w.store.write(lambda db: _revoke(db, gone))
            removed += [f"consumer of {name}" for name in gone]
            await self._w.keeper.sync()

    async def _remove_folder(self, name: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._secrets / name, ignore_errors=True)

    async def _gone(self, names: set[str]) -> AsyncIterator[str]:
        """Those that nobody declares, which each is asked again at its turn: the one before may have taken long."""
        for name in sorted(names):
            if await objects.get(self._w.store, Key("Worker", name)) is None:
                yield name

    async def _end_rooms(self, removed: list[str]) -> None:
        """Have their keeper know rooms that the bot is in and that this store does not know: what nobody declares it
        ends, and a name that is declared meanwhile goes on in its room."""
        server, declared = self._w.homeserver, self._w.declared
        known = {room.room_id for room in await rooms.every(self._w.store)}
        strange = [room_id for room_id in await server.joined_rooms(user=server.bot) if room_id not in known]
        found = [room for room_id in strange if (room := await self._labelled(room_id))]
        if not found:
            return
        unheard = await self._unheard()
        if unheard is None:
            raise Unavailable("the journal was not read yet")
        if unheard:
            return
        for room in found:
            if room.alias not in await declared.rooms():
                await self._w.store.write(partial(_know, room))
                self._look(Key(ROOM, room.alias))
                removed.append(f"room of {room.owner}")

    async def _labelled(self, room_id: str) -> Room | None:
        """A room under an alias that those of objects have."""
        shown = await self._w.homeserver.state_event(room_id, "m.room.canonical_alias") or {}
        alias, _, server = text_of(shown.get("alias")).removeprefix("#").partition(":")
        purpose, name = desired.labelled(alias, prefix=self._w.declared.prefix)
        if purpose is None or server != self._w.homeserver.server_name:
            return None
        return Room(room_id=room_id, purpose=purpose, owner=name, alias=alias)


@contextmanager
def _noted(errors: list[Exception]) -> Iterator[None]:
    """What fails in here ends nothing else."""
    try:
        yield
    except _FORESEEN as error:
        errors.append(error)


def _names(parent: Path) -> set[str]:
    return {folder.name for folder in parent.iterdir()} if parent.is_dir() else set()


async def _revoke(db: Connection, names: list[str]) -> None:
    for name in names:
        if await objects.get(db, Key("Worker", name)) is None:
            await consumers.revoke(db, name)


async def _know(room: Room, db: Connection) -> None:
    await rooms.put(db, room)


async def _record(db: Connection, removed: list[str], bot: str) -> None:
    for what in removed:
        entry = Entry(
            at=time(), actor=bot, action="remove", target=what, room_id="", verdict="allow", rule="orphan", cause=""
        )
        await audit.record(db, entry)
