"""Where every change of what is declared or asked for goes through, whichever door it came in by: stored whole, then
everybody concerned is woken."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from appservice.resources.document import Document
from appservice.store import declaring, objects
from appservice.store.changes import Changes, Key
from appservice.store.database import Connection, Database
from appservice.store.declaring import Accepted, Author
from appservice.store.objects import Stored

Also = Callable[[Connection, Accepted], Awaitable[Any]]


async def _nothing(_db: Connection, _done: Accepted) -> None: ...


class Desk:
    """`wake` has a key looked at now. What a caller does `also` is written in the same unit."""

    def __init__(self, store: Database, changes: Changes, wake: Callable[[Key], None]) -> None:
        self._store = store
        self._changes = changes
        self._wake = wake

    async def declare(self, documents: Sequence[Document], author: Author, *, also: Also = _nothing) -> Accepted:
        """Raises Invalid when a name is taken: then nothing is stored."""

        async def unit(db: Connection) -> Accepted:
            done = await declaring.declare(db, documents, author)
            await also(db, done)
            return done

        return await self._accepted(unit)

    async def delete(self, stored: Stored, author: Author, *, keep_files: bool, also: Also = _nothing) -> Accepted:
        async def unit(db: Connection) -> Accepted:
            parts = await objects.owned_by(db, str(stored.key))
            await declaring.delete(db, stored, author, keep_files=keep_files)
            done = Accepted(documents=((stored.key, "deleted"),), parts=tuple((part.key, "deleted") for part in parts))
            await also(db, done)
            return done

        return await self._accepted(unit)

    async def restart(self, agents: Sequence[Stored], mark: str, *, also: Also = _nothing) -> Accepted:
        """`mark`: whatever asked for it; the same one again restarts nothing."""

        async def unit(db: Connection) -> Accepted:
            for agent in agents:
                await objects.mark_restart(db, agent.key, mark)
            done = Accepted(documents=tuple((agent.key, "restarted") for agent in agents), parts=())
            await also(db, done)
            return done

        return await self._accepted(unit)

    async def set_paused(self, stored: Stored, *, paused: bool, also: Also = _nothing) -> Accepted:
        """Leave an object, and what it is made of, as it is; or go on."""
        action = "paused" if paused else "resumed"

        async def unit(db: Connection) -> Accepted:
            changed = await objects.set_paused(db, stored.key, paused=paused)
            parts = await objects.owned_by(db, str(stored.key)) if changed else []
            done = Accepted(
                documents=((stored.key, action if changed else "unchanged"),),
                parts=tuple((part.key, action) for part in parts),
            )
            await also(db, done)
            return done

        return await self._accepted(unit)

    async def _accepted(self, unit: Callable[[Connection], Awaitable[Accepted]]) -> Accepted:
        done = await self._store.write(unit)
        for key, action in (*done.documents, *done.parts):
            if action != "unchanged":
                self._changes.publish(key)
                self._wake(key)
        return done
