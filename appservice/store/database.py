"""The SQLite file: one connection that writes, one that reads, each with a thread of its own.

A unit runs whole or not at all, whatever happens to its caller: cancelling the caller only stops the waiting. So
"cancelled" means "unknown", and every unit must be safe to repeat (unique keys, `ON CONFLICT DO NOTHING`).
A unit does SQL and nothing else: it runs from BEGIN to COMMIT in the writer's thread, without a way back in between.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiosqlite

from appservice.errors import Unavailable
from appservice.store import migrate

T = TypeVar("T")
Row = sqlite3.Row

log = logging.getLogger(__name__)

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000")


class Reader(Protocol):
    """Where rows can be read: the database as last committed, or within a unit."""

    async def read(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        """Rows of a query."""

    async def read_one(self, sql: str, parameters: Iterable[Any] = ()) -> Row | None:
        """The first of them."""


class Connection:
    """What a unit works with. Its methods are awaited, and are done when they return."""

    def __init__(self, inner: sqlite3.Connection) -> None:
        self._inner = inner

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> sqlite3.Cursor:
        return self._inner.execute(sql, tuple(parameters))

    async def read(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        return self._inner.execute(sql, tuple(parameters)).fetchall()

    async def read_one(self, sql: str, parameters: Iterable[Any] = ()) -> Row | None:
        rows = await self.read(sql, parameters)
        return rows[0] if rows else None


Unit = Callable[[Connection], Awaitable[T]]


class _Thread(aiosqlite.Connection):
    """A connection in its thread. The library runs single statements there; a unit goes there whole, because each step
    between the threads costs more than its SQL."""

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        result: T = await self._execute(function, self._conn)  # type: ignore[no-untyped-call]
        return result


class Database:
    """Open with `await Database.open(path)`, end with `close`."""

    def __init__(self, writer: _Thread, reader: _Thread) -> None:
        self._writer = writer
        self._reader = reader
        self._durable = True
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> "Database":
        """Open and migrate. Raises Conflict when a newer program wrote the file."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        writer = await _connect(path)
        try:
            await writer.run(migrate.migrate)
            reader = await _connect(path)
        except BaseException:
            await writer.close()
            raise
        await reader.execute("PRAGMA query_only=ON")
        return cls(writer, reader)

    async def write(self, unit: Unit[T], *, durable: bool = True) -> T:
        """Run one unit in a transaction and return its result once it is on disk.

        Not `durable`: once it is committed. A power cut may take it back, the death of a process cannot, and whatever
        is committed later is never kept without it. For what begins again from an earlier durable unit.
        """
        if self._closed:
            raise Unavailable(
                "the store is closed", fix="Opsroom is shutting down; the work goes on at its next start."
            )
        job = asyncio.create_task(self._writer.run(partial(self._whole, unit, durable)))
        self._running.add(job)
        job.add_done_callback(self._finished)
        return await asyncio.shield(job)

    async def read(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        """Rows of a query, as last committed."""
        return list(await self._reader.execute_fetchall(sql, tuple(parameters)))

    async def read_one(self, sql: str, parameters: Iterable[Any] = ()) -> Row | None:
        rows = await self.read(sql, parameters)
        return rows[0] if rows else None

    async def close(self) -> None:
        """Wait for the units that run, then close."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)
        await self._writer.close()
        await self._reader.close()

    def _whole(self, unit: Unit[T], durable: bool, writer: sqlite3.Connection) -> T:
        """From BEGIN to COMMIT, in the writer's thread."""
        if durable is not self._durable:
            writer.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        writer.execute("BEGIN IMMEDIATE")
        try:
            result = _straight(unit(Connection(writer)))
            writer.execute("COMMIT")
        except BaseException:
            if writer.in_transaction:  # SQLite itself ends one when the disk is full
                writer.execute("ROLLBACK")
            raise
        return result

    def _finished(self, job: "asyncio.Task[Any]") -> None:
        self._running.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            log.debug("unit failed: %s", error)


def _straight(work: Awaitable[T]) -> T:
    """Run what never waits to its end."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as ended:
        result: T = ended.value
        return result
    raise RuntimeError("a unit of the store waited for something that is not SQL")


async def _connect(path: Path) -> _Thread:
    thread = _Thread(lambda: sqlite3.connect(path, isolation_level=None), iter_chunk_size=64)
    connection = await thread
    connection.row_factory = sqlite3.Row
    for pragma in _PRAGMAS:
        await connection.execute(f"PRAGMA {pragma}")
    return thread
