"""What was made for agents that nobody declares: found by what it is labelled with, and removed.

A teardown leaves nothing, so these come from elsewhere: a store that was restored from an older backup, or hands.
Rooms are not among them: those that this store knows are ended by their keeper, and others hold what people said.
"""

import asyncio
import shutil
from pathlib import Path
from time import time

import structlog

from appservice.backends.door import door
from appservice.errors import OpsroomError
from appservice.homeserver.client import ERRORS
from appservice.reconcile.world import World
from appservice.store import audit, consumers, objects
from appservice.store.audit import Entry
from appservice.store.database import Connection

EVERY_S = 600.0
AGAIN_S = 10.0  # when a part was away

log = structlog.get_logger()


class Orphans:
    def __init__(self, world: World) -> None:
        self._w = world
        anybody = door(world.settings, "x")
        self._secrets = anybody.secrets_dir.parent.parent
        self._doors = anybody.agent_dir.parent

    async def run(self) -> None:
        """For ever: now, and every few minutes; soon again when a part was away, as it may be at the start."""
        while True:
            pause = EVERY_S
            try:
                await self.remove()
            except (OpsroomError, OSError, *ERRORS) as error:
                log.warning("orphans not looked for", error=str(error) or type(error).__name__)
                pause = AGAIN_S
            await asyncio.sleep(pause)

    async def _workers(self) -> set[str]:
        return {stored.name for stored in await objects.every(self._w.store, "Worker")}

    async def remove(self) -> list[str]:
        """Look everywhere once; what was removed, as `sandbox of alice`. Raises OpsroomError when a part is away."""
        known = await self._workers()
        sandboxes = set(await self._w.backend.observe_all())
        users = set(await self._w.users.names())
        folders = await asyncio.to_thread(_names, self._secrets)
        doors = await asyncio.to_thread(_names, self._doors)
        tokens = set(await consumers.holders(self._w.store))
        known |= await self._workers()  # read before and after: none is too new, and none is just on its way out
        removed = []
        for name in sorted(sandboxes - known):
            await self._w.backend.remove(name)
            removed.append(f"sandbox of {name}")
        for name in sorted(users - known):
            await self._w.keys.delete_user(name)
            removed.append(f"storage user of {name}")
        for name in sorted(folders - known):
            await asyncio.to_thread(shutil.rmtree, self._secrets / name, ignore_errors=True)
            removed.append(f"token of {name}")
        for folder in doors - {door(self._w.settings, name).agent_dir.name for name in known}:
            await asyncio.to_thread(shutil.rmtree, self._doors / folder, ignore_errors=True)  # whose it was is hashed
        if gone := sorted(tokens - known):
            await self._w.store.write(lambda db: _revoke(db, gone))
            await self._w.keeper.sync()
            removed += [f"consumer of {name}" for name in gone]
        if removed:
            await self._w.store.write(lambda db: _record(db, removed, self._w.homeserver.bot))
            log.warning("orphans removed", what=removed)
        return removed


def _names(parent: Path) -> set[str]:
    return {folder.name for folder in parent.iterdir()} if parent.is_dir() else set()


async def _revoke(db: Connection, names: list[str]) -> None:
    for name in names:
        await consumers.revoke(db, name)


async def _record(db: Connection, removed: list[str], bot: str) -> None:
    for what in removed:
        entry = Entry(
            at=time(), actor=bot, action="remove", target=what, room_id="", verdict="allow", rule="orphan", cause=""
        )
        await audit.record(db, entry)
