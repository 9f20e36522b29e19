"""What a change of one object means for others: rooms, the agents around it, the people who come in, its owner."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from appservice.errors import OpsroomError
from appservice.homeserver.client import ERRORS
from appservice.reconcile.rooms import KIND as ROOM
from appservice.reconcile.rooms import owner_of
from appservice.rooms.declared import Declared
from appservice.rooms.desired import DesiredRoom
from appservice.store import objects
from appservice.store.changes import Changes, Key, parse
from appservice.store.database import Database
from appservice.workspace.surroundings import surroundings

AGAIN_S = 5.0  # when it cannot be told what is declared

log = structlog.get_logger()


class Sweeper:
    """`wake` has a key looked at soon, `refresh` now: what it is made of is declared otherwise. `gone` is told the name
    of an agent that is no more."""

    def __init__(
        self,
        store: Database,
        changes: Changes,
        declared: Declared,
        *,
        wake: Callable[[Key], None],
        refresh: Callable[[Key], None],
        gone: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._declared = declared
        self._wake = wake
        self._refresh = refresh
        self._gone = gone
        self._changed: set[Key] = set()
        self._news = asyncio.Event()
        self._seen: Mapping[str, DesiredRoom] = {}
        self._told: Mapping[str, str] = {}
        changes.hook(self._note)

    def _note(self, key: Key) -> None:
        self._changed.add(key)
        self._news.set()

    def look(self) -> None:
        """Something else than an object may have changed what is declared: who operates."""
        self._news.set()

    async def begin(self) -> None:
        """What is declared now counts as swept: everything is looked at after a start anyway."""
        try:
            await self._sweep()
        except (OpsroomError, *ERRORS) as error:
            log.warning("the first sweep is left out", problem=str(error) or type(error).__name__)

    async def run(self) -> None:
        """For ever: each change, with those that came meanwhile."""
        while True:
            await self._news.wait()
            self._news.clear()
            changed, self._changed = self._changed, set()
            try:
                owners, others = await self._owners(changed), await self._sweep()
            except (OpsroomError, *ERRORS) as error:
                log.warning("sweep put off", problem=str(error) or type(error).__name__)
                self._changed |= changed
                self._news.set()
                await asyncio.sleep(AGAIN_S)
                continue
            for key in owners:
                self._wake(key)
            for key in others:
                self._refresh(key)

    async def _owners(self, changed: set[Key]) -> set[Key]:
        """Whoever is made of what changed; of what is gone, all who may wait for that."""
        found: set[Key] = set()
        for key in changed:
            if key.kind != "Worker":
                continue
            stored = await objects.recall(self._store, key)
            if stored is None:
                await self._gone(key.name)
                found.update(await objects.keys(self._store, "Team", "Manager"))
            elif stored.owner:
                found.add(parse(stored.owner))
        return found

    async def _sweep(self) -> list[Key]:
        """Everything that is declared otherwise than at the last sweep."""
        rooms, roster = await self._declared.rooms(), await self._declared.roster()
        if rooms is self._seen:
            return []
        before, self._seen = self._seen, rooms
        told = {name: surroundings(roster, agent) for name, agent in roster.agents.items()}
        others = [name for name, text in told.items() if self._told.get(name, text) != text]
        self._told = told
        changed = [alias for alias in {*before, *rooms} if before.get(alias) != rooms.get(alias)]
        owners = {owner for alias in changed if (room := rooms.get(alias)) and (owner := owner_of(room))}
        people = {user for alias in changed for user in _members(before, alias) ^ _members(rooms, alias)}
        return [
            *(Key(ROOM, alias) for alias in changed),
            *(Key("Worker", name) for name in others),
            *(owner for owner in owners if owner.kind == "Team"),
            *(Key("Human", human.name) for user in people if (human := roster.humans.get(user))),
        ]


def _members(rooms: Mapping[str, DesiredRoom], alias: str) -> frozenset[str]:
    return rooms[alias].members if alias in rooms else frozenset()
