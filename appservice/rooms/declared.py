"""The roster and the rooms of what is declared now, kept in memory until the declaration changes."""

from collections.abc import Awaitable, Callable, Mapping

from appservice.policy import roster
from appservice.policy.roster import Names, Roster
from appservice.rooms import desired
from appservice.rooms.desired import DesiredRoom
from appservice.store import journal, objects
from appservice.store.database import Database


class Declared:
    """`operators` tells who operates as of now. Objects that are being deleted are not declared any more."""

    def __init__(
        self, store: Database, names: Names, operators: Callable[[], Awaitable[frozenset[str]]], *, prefix: str
    ) -> None:
        self._store = store
        self._operators = operators
        self.names = names
        self.prefix = prefix
        self._seen: tuple[int, int, frozenset[str]] = (-1, -1, frozenset())
        self._roster = Roster(names=names, operators=frozenset())
        self._rooms: Mapping[str, DesiredRoom] = {}

    async def roster(self) -> Roster:
        await self._look()
        return self._roster

    async def rooms(self) -> Mapping[str, DesiredRoom]:
        """By alias; the same object while nothing has changed."""
        await self._look()
        return self._rooms

    async def _look(self) -> None:
        now = (self._store.version("resources"), self._store.version("journal"), await self._operators())
        if now == self._seen:
            return
        found = [stored for stored in await objects.every(self._store) if not stored.deleting and not stored.owner]
        documents = [(stored.kind, stored.name, stored.document["spec"]) for stored in found]
        people = roster.build(documents, names=self.names, operators=now[2])
        rooms = desired.topology(people, prefix=self.prefix, journals=await journal.rooms(self._store))
        # At once, and a change since then has another version: the next look takes it up.
        self._seen, self._roster, self._rooms = now, people, rooms
