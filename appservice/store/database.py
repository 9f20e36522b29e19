"""The SQLite file: one connection that writes, one that reads, each with a thread of its own.

A unit runs whole or not at all, whatever happens to its caller: cancelling the caller only stops the waiting. So
"cancelled" means "unknown", and every unit must be safe to repeat (unique keys, `ON CONFLICT DO NOTHING`).
A unit does SQL and nothing else: it runs from BEGIN to COMMIT in the writer's thread, without a way back in between.
"""

import asyncio
import logging
import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import aiosqlite

from appservice.errors import Unavailable
from appservice.store import migrate

T = TypeVar("T")
Row = sqlite3.Row

log = logging.getLogger(__name__)

_SYNC: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter
_PASSING = frozenset(  # the disk, or somebody else's lock: the same unit may succeed later
    (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )
)
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=5000")


class Reader(Protocol):
    """Where rows can be read: the database as last committed, or within a unit."""

    async def read(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        """Rows of a query."""

    async def read_one(self, sql: str, parameters: Iterable[Any] = ()) -> Row | None:
        """The first of them."""


class Connection:
    """What a unit works with. Its methods are awaited, and are done when they return."""

    def __init__(self, inner: sqlite3.Connection, changed: set[str]) -> None:
        self._inner = inner
        self._changed = changed

    def changes(self, table: str) -> None:
        """Whoever writes to a table that is recalled from memory says so."""
        self._changed.add(table)

    async def execute(self, sql: str, parameters: Iterable[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        return self._inner.execute(sql, parameters if isinstance(parameters, Mapping) else tuple(parameters))

    async def read(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        return self._inner.execute(sql, tuple(parameters)).fetchall()

    async def read_one(self, sql: str, parameters: Iterable[Any] = ()) -> Row | None:
        rows = await self.read(sql, parameters)
        return rows[0] if rows else None


Unit = Callable[[Connection], Awaitable[T]]


class _Thread(aiosqlite.Connection):
    """A connection in its thread. The library runs single statements there; a unit goes there whole, because each step
    between the threads costs more than its SQL."""

    def run(self, function: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((future, partial(function, self._conn)))
        return future


class Database:
    """Open with `await Database.open(path)`, end with `close`."""

    def __init__(self, writer: _Thread, reader: _Thread, wal: BinaryIO) -> None:
        self._writer = writer
        self._reader = reader
        self._wal = wal
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._running: set[asyncio.Future[Any]] = set()
        self._recalled: dict[str, dict[tuple[Any, ...], Row | None]] = {}
        self._versions: Counter[str] = Counter()
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> "Database":
        """Open and migrate. Only its owner may read it, whatever folder it is in. Raises Conflict when a newer program
        wrote the file."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_private(path)
        writer = await _connect(path)
        try:
            await writer.run(migrate.migrate)
            reader = await _connect(path)
        except BaseException:
            await writer.close()
            raise
        await reader.execute("PRAGMA query_only=ON")
        return cls(writer, reader, path.with_name(path.name + "-wal").open("rb"))

    async def write(self, unit: Unit[T], *, durable: bool = True) -> T:
        """Run one unit in a transaction and return its result once it is on disk.

        Raises Unavailable when the disk does not take it. Perhaps it is kept all the same.
        Not `durable`: once it is committed. A power cut may take it back, the death of a process cannot, and whatever
        is flushed later is never kept without it. For what begins again from an earlier durable unit.
        """
        if self._closed:
            raise Unavailable(
                "the store is closed", fix="Opsroom is shutting down; the work goes on at its next start."
            )
        changed: set[str] = set()
        job = self._writer.run(partial(_whole, unit, changed))
        self._running.add(job)
        job.add_done_callback(partial(self._finished, changed))
        with _readable():
            result = await asyncio.shield(job)
        if durable:
            await self.flush()
        return result

    async def look(self, unit: Unit[T]) -> T:
        """Run one unit that only reads: all of it sees the same state, as last committed."""
        with _readable():
            return await self._reader.run(partial(_whole, unit, set(), begin="BEGIN"))

    async def flush(self) -> None:
        """Return once all that was committed before is on disk. Raises Unavailable when the disk cannot keep it."""
        # What `synchronous=FULL` does within each commit, done beside it: the next unit does not wait for the disk.
        with _readable():
            await asyncio.get_running_loop().run_in_executor(self._flusher, _SYNC, self._wal.fileno())

    async def read(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        """Rows of a query, as last committed."""
        with _readable():
            return await self._reader.run(lambda reader: reader.execute(sql, tuple(parameters)).fetchall())

    async def read_one(self, sql: str, parameters: Iterable[Any] = ()) -> Row | None:
        rows = await self.read(sql, parameters)
        return rows[0] if rows else None

    async def recall(self, table: str, sql: str, parameters: tuple[Any, ...]) -> Row | None:
        """The first row, from memory while no unit `changes` that table: for what every event asks."""
        memory, key = self._recalled.setdefault(table, {}), (sql, *parameters)
        if key not in memory:
            # A change in between has put another memory in the place of this one: what is stale is not kept.
            memory[key] = await self.read_one(sql, parameters)
        return memory[key]

    def version(self, table: str) -> int:
        """A number that is another one after every unit that `changes` the table."""
        return self._versions[table]

    async def close(self) -> None:
        """Wait for the units that run, then close."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)
        await asyncio.to_thread(self._flusher.shutdown)
        self._wal.close()
        await self._writer.close()
        await self._reader.close()

    def _finished(self, changed: set[str], job: "asyncio.Future[Any]") -> None:
        """Runs before whoever waits for the unit goes on."""
        self._running.discard(job)
        for table in changed:
            self._recalled[table] = {}
            self._versions[table] += 1
        if not job.cancelled() and (error := job.exception()) is not None:
            log.debug("unit failed: %s", error)


@contextmanager
def _readable() -> Iterator[None]:
    """A full or failing disk as a sentence. What is wrong with the SQL stays as it is."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF not in _PASSING:
            raise
        raise Unavailable(
            f"the database cannot be used ({error}).", fix="Free some space on the disk that Opsroom's data is on."
        ) from error


def _whole(unit: Unit[T], changed: set[str], connection: sqlite3.Connection, *, begin: str = "BEGIN IMMEDIATE") -> T:
    """From BEGIN to COMMIT, in the connection's thread."""
    connection.execute(begin)
    try:
        result = _straight(unit(Connection(connection, changed)))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself ends one when the disk is full
            connection.execute("ROLLBACK")
        raise
    return result


def _straight(work: Awaitable[T]) -> T:
    """Run what never waits to its end."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as ended:
        result: T = ended.value
        return result
    raise RuntimeError("a unit of the store waited for something that is not SQL")


def _make_private(path: Path) -> None:
    """What SQLite adds beside the database gets the mode that the database has."""
    path.touch(mode=0o600)
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        if file.exists() and stat.S_IMODE(file.stat().st_mode) != 0o600:
            file.chmod(0o600)


async def _connect(path: Path) -> _Thread:
    thread = _Thread(lambda: sqlite3.connect(path, isolation_level=None), iter_chunk_size=64)
    connection = await thread
    connection.row_factory = sqlite3.Row
    for pragma in _PRAGMAS:
        await connection.execute(f"PRAGMA {pragma}")
    return thread
