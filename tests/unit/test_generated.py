"""Worlds at random: whatever was applied, edited, deleted, refused or cut off before, the last file decides.

`OPSROOM_WORLDS=1000` makes it a thousand of them.
"""

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appservice.errors import Conflict, Invalid
from appservice.policy import roster
from appservice.resources import registry
from appservice.resources.document import Document
from appservice.rooms import desired
from appservice.store import declaring, migrate, objects
from appservice.store.changes import Key
from appservice.store.database import Connection
from appservice.store.declaring import Author
from appservice.store.objects import Stored
from tests.support.rosters import NAMES, companies, text_of, worker

T = TypeVar("T")

WORLDS = int(os.environ.get("OPSROOM_WORLDS", "60"))
AUTHOR = Author(user="@op:hs", cause="$e", now=1.0)
OPERATORS = frozenset({"@op:hs"})


class World:
    """A store, and what people and crashes do to it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def write(self, unit: Callable[[Connection], Awaitable[T]], *, cut_off: bool = False) -> T | None:
        """One unit; `cut_off`: the process dies before it is committed."""
        self._database.execute("BEGIN")
        try:
            result = asyncio.run(_run(unit, Connection(self._database, set())))
        except (Conflict, Invalid):
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("ROLLBACK" if cut_off else "COMMIT")
        return result

    def read(self) -> list[Stored]:
        return asyncio.run(objects.every(Connection(self._database, set())))

    def apply(self, documents: Sequence[Document], *, cut_off: bool = False) -> list[str]:
        async def unit(db: Connection) -> list[str]:
            done = await declaring.declare(db, documents, AUTHOR, is_ours=NAMES.is_ours)
            return [action for _, action in (*done.documents, *done.parts)]

        return self.write(unit, cut_off=cut_off) or []

    def delete(self, stored: Stored) -> None:
        self.write(lambda db: declaring.delete(db, stored, AUTHOR, keep_files=False))

    def tear_down(self, share: float = 1.0) -> None:
        """The reconcilers have ended some of what is on its way out: agents first, then what they are part of."""
        going = [stored for stored in self.read() if stored.deleting]
        going.sort(key=lambda stored: (not stored.owner, stored.name))
        for stored in going[: round(len(going) * share)]:
            self.write(lambda db, key=stored.key: objects.forget(db, key))  # type: ignore[misc]

    def outcome(self) -> dict[str, Any]:
        """All that the world outside is made from."""
        found = [stored for stored in self.read() if not stored.deleting]
        own = [(stored.kind, stored.name, stored.document["spec"]) for stored in found if not stored.owner]
        people = roster.build(own, names=NAMES, operators=OPERATORS)
        return {
            "objects": {str(stored.key): (stored.owner, stored.document) for stored in found},
            "rooms": dict(desired.topology(people, prefix="opsroom-")),
            "agents": dict(people.agents),
            "consumers": {s.name: s.document["spec"]["model"] for s in found if s.kind == "Worker"},
        }


async def _run(unit: Callable[[Connection], Awaitable[T]], db: Connection) -> T:
    return await unit(db)


@contextmanager
def world() -> Iterator[World]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.row_factory = sqlite3.Row
        migrate.migrate(database)
        yield World(database)


def read(company: list[dict[str, Any]]) -> Sequence[Document]:
    return registry.parse(text_of(company).encode(), source="all.yaml") if company else ()


@given(st.lists(companies(), min_size=1, max_size=3), companies(), st.randoms(use_true_random=False))
@settings(max_examples=WORLDS, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_came_before_the_last_file_decides(
    before: list[list[dict[str, Any]]], last: list[dict[str, Any]], chance: Any
) -> None:
    final = read(last)
    with world() as shaken, world() as fresh:
        for company in before:
            shaken.apply(read(company), cut_off=chance.random() < 0.2)
            for stored in shaken.read():
                if not stored.owner and not stored.deleting and chance.random() < 0.2:
                    shaken.delete(stored)
            shaken.tear_down(chance.random())
        _refuse_something(shaken)
        wanted = {Key(document.kind, document.name) for document in final}
        for stored in shaken.read():
            if not stored.owner and not stored.deleting and stored.key not in wanted:
                shaken.delete(stored)
        shaken.tear_down()
        shaken.apply(final)
        shaken.tear_down()
        fresh.apply(final)

        assert shaken.outcome() == fresh.outcome()
        assert set(shaken.apply(final)) <= {"unchanged"}


def _refuse_something(shaken: World) -> None:
    """A file that takes an agent's name from its team changes nothing."""
    part = next((stored for stored in shaken.read() if stored.owner and not stored.deleting), None)
    if part is None:
        return
    before = shaken.outcome()
    try:
        shaken.apply(registry.parse((worker("unheard-of") + worker(part.name)).encode(), source="bad.yaml"))
    except (Conflict, Invalid):
        assert shaken.outcome() == before
        return
    raise AssertionError(f"{part.name} was taken from {part.owner}")
