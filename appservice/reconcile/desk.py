"""Where every change of what is declared or asked for goes through, whichever door it came in by: stored whole, then
everybody concerned is woken."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from appservice.errors import Conflict
from appservice.policy.roster import Names
from appservice.reconcile import plan as planning
from appservice.reconcile.plan import Step
from appservice.resources.document import Document
from appservice.store import audit, declaring, objects
from appservice.store.audit import Entry
from appservice.store.changes import Changes, Key
from appservice.store.database import Connection, Database, Reader
from appservice.store.declaring import Accepted, Author
from appservice.store.objects import Stored

Also = Callable[[Connection, Accepted], Awaitable[Any]]
First = Callable[[Connection], Awaitable[Any]]


class OtherPlan(Conflict):
    """What would happen now is not what was expected."""


async def _nothing(_db: Connection, _done: Accepted) -> None: ...


async def _anyhow(_db: Connection) -> None: ...


async def _noted(db: Connection, done: Accepted, author: Author, verb: str) -> None:
    """A line in the audit for whatever changed, and for each agent that goes with it."""
    for key, became in (*done.documents, *(part for part in done.parts if part[1] == "deleted")):
        if became != "unchanged":
            entry = Entry(
                at=author.now,
                actor=author.user,
                action="delete" if became == "deleted" else verb,
                target=str(key),
                room_id="",
                verdict="allow",
                rule=audit.OPERATOR,
                cause=author.cause,
            )
            await audit.record(db, entry)


async def _known(db: Reader) -> dict[Key, Stored]:
    return {stored.key: stored for stored in await objects.every(db)}


def _same(steps: Sequence[Step], known: Mapping[Key, Stored], expected: str) -> None:
    if expected and planning.digest(steps, known) != expected:
        raise OtherPlan(
            "what was agreed to is not what would happen now: something has changed meanwhile. Nothing was done.",
            fix="Look at it again with `!plan`.",
        )


class Desk:
    """`wake` has a key looked at now, `names` tells people from the bot and agents. What a caller does `also` is
    written in the same unit, as is the audit; what must hold `first` is looked at in it; `expected` is the digest of
    the plan that was made before, '' for any."""

    def __init__(self, store: Database, changes: Changes, wake: Callable[[Key], None], names: Names) -> None:
        self._store = store
        self._changes = changes
        self._wake = wake
        self._names = names

    async def plan(
        self, documents: Sequence[Document], *, prune: bool = False, joining: Collection[Key] = ()
    ) -> tuple[list[Step], Mapping[Key, Stored]]:
        """What `declare` would do, and the state that it would do it to. Raises what that would."""
        known = await _known(self._store)
        declaring.check(documents, known, self._is_ours, self._names.server_name, joining=joining)
        return planning.plan(documents, known, prune=prune), known

    async def declare(
        self,
        documents: Sequence[Document],
        author: Author,
        *,
        prune: bool = False,
        joining: Collection[Key] = (),
        expected: str = "",
        also: Also = _nothing,
        first: First = _anyhow,
    ) -> Accepted:
        """Raises Conflict when a name is taken, Invalid when one is not to be had, OtherPlan when this is not what was
        expected. Then nothing is stored."""

        async def unit(db: Connection) -> Accepted:
            await first(db)
            known = await _known(db)
            _same(planning.plan(documents, known, prune=prune), known, expected)
            done = await declaring.declare(
                db,
                documents,
                author,
                is_ours=self._is_ours,
                server_name=self._names.server_name,
                prune=prune,
                joining=joining,
            )
            await _noted(db, done, author, "apply")
            await also(db, done)
            return done

        return await self._accepted(unit)

    async def delete(
        self,
        stored: Stored,
        author: Author,
        *,
        keep_files: bool,
        expected: str = "",
        also: Also = _nothing,
        first: First = _anyhow,
    ) -> Accepted:
        """Raises OtherPlan when this is not what was expected: then nothing is changed."""

        async def unit(db: Connection) -> Accepted:
            await first(db)
            known = await _known(db)
            _same(planning.deletion(stored, known, keep_files=keep_files), known, expected)
            parts = await objects.owned_by(db, str(stored.key))
            await declaring.delete(db, stored, author, keep_files=keep_files)
            done = Accepted(documents=((stored.key, "deleted"),), parts=tuple((part.key, "deleted") for part in parts))
            await _noted(db, done, author, "delete")
            await also(db, done)
            return done

        return await self._accepted(unit)

    async def restart(self, agents: Sequence[Stored], author: Author, *, also: Also = _nothing) -> Accepted:
        """The same cause again restarts nothing."""

        async def unit(db: Connection) -> Accepted:
            for agent in agents:
                await objects.mark_restart(db, agent.key, author.cause)
            done = Accepted(documents=tuple((agent.key, "restarted") for agent in agents), parts=())
            await _noted(db, done, author, "restart")
            await also(db, done)
            return done

        return await self._accepted(unit)

    async def set_paused(self, stored: Stored, author: Author, *, paused: bool, also: Also = _nothing) -> Accepted:
        """Leave an object, and what it is made of, as it is; or go on."""
        action = "paused" if paused else "resumed"

        async def unit(db: Connection) -> Accepted:
            changed = await objects.set_paused(db, stored.key, paused=paused)
            parts = await objects.owned_by(db, str(stored.key)) if changed else []
            done = Accepted(
                documents=((stored.key, action if changed else "unchanged"),),
                parts=tuple((part.key, action) for part in parts),
            )
            await _noted(db, done, author, "pause" if paused else "resume")
            await also(db, done)
            return done

        return await self._accepted(unit)

    def _is_ours(self, word: str) -> bool:
        return self._names.is_ours(self._names.person(word))

    async def _accepted(self, unit: Callable[[Connection], Awaitable[Accepted]]) -> Accepted:
        done = await self._store.write(unit)
        for key, action in (*done.documents, *done.parts):
            if action != "unchanged":
                self._changes.publish(key)
                self._wake(key)
        return done
