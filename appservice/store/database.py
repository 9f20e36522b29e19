"""The SQLite file: one connection that writes, one that reads, each with a thread of its own.

A unit runs whole or not at all, whatever happens to its caller: cancelling the caller only stops the waiting. So
"cancelled" means "unknown", and every unit must be safe to repeat (unique keys, `ON CONFLICT DO NOTHING`).
A unit does SQL and nothing else: it runs from BEGIN to COMMIT in the writer's thread, without a way back in between.
"""

import asyncio
import contextvars
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from appservice.errors import Unavailable
from appservice.store import migrate

T = TypeVar("T")
Row = sqlite3.Row

log = logging.getLogger(__name__)

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000")


class Connection:
    """What a unit works with. Its methods are awaited, and are done when they return."""

    def __init__(self, inner: sqlite3.Connection) -> None:
        self._inner = inner

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> sqlite3.Cursor:
        return self._inner.execute(sql, tuple(parameters))

    async def execute_fetchall(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        return self._inner.execute(sql, tuple(parameters)).fetchall()


Unit = Callable[[Connection], Awaitable[T]]


class Database:
    """Open with `await Database.open(path)`, end with `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="store writes")
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix="store reads")
        self._writer: sqlite3.Connection
        self._reader: sqlite3.Connection
        self._durable = True
        self._running: set[asyncio.Future[Any]] = set()
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> "Database":
        """Open and migrate. Raises Conflict when a newer program wrote the file."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = cls(path)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(made._write_thread, made._open_writer)
            await loop.run_in_executor(made._read_thread, made._open_reader)
        except BaseException:
            await made.close()
            raise
        return made

    async def write(self, unit: Unit[T], *, durable: bool = True) -> T:
        """Run one unit in a transaction and return its result once it is on disk.

        Not `durable`: once it is committed. A power cut may take it back, the death of a process cannot, and whatever
        is committed later is never kept without it. For what begins again from an earlier durable unit.
        """
        if self._closed:
            raise Unavailable(
                "the store is closed", fix="Opsroom is shutting down; the work goes on at its next start."
            )
        run = contextvars.copy_context().run
        job = asyncio.get_running_loop().run_in_executor(self._write_thread, run, self._whole, unit, durable)
        self._running.add(job)
        job.add_done_callback(self._finished)
        return await asyncio.shield(job)

    async def read(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        """Rows of a query, as last committed."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._read_thread, self._rows, sql, tuple(parameters))

    async def read_one(self, sql: str, parameters: Iterable[Any] = ()) -> Row | None:
        rows = await self.read(sql, parameters)
        return rows[0] if rows else None

    async def close(self) -> None:
        """Wait for the units that run, then close."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)
        loop = asyncio.get_running_loop()
        for thread, name in ((self._write_thread, "_writer"), (self._read_thread, "_reader")):
            if (connection := getattr(self, name, None)) is not None:
                await loop.run_in_executor(thread, connection.close)
            thread.shutdown(wait=False)

    # -- in the threads -----------------------------------------------------------------------------------------

    def _open_writer(self) -> None:
        self._writer = _connect(self._path)
        migrate.migrate(self._writer)

    def _open_reader(self) -> None:
        self._reader = _connect(self._path)
        self._reader.execute("PRAGMA query_only=ON")

    def _rows(self, sql: str, parameters: tuple[Any, ...]) -> list[Row]:
        return self._reader.execute(sql, parameters).fetchall()

    def _whole(self, unit: Unit[T], durable: bool) -> T:
        if durable is not self._durable:
            self._writer.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            result = _straight(unit(Connection(self._writer)))
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:  # SQLite itself ends one when the disk is full
                self._writer.execute("ROLLBACK")
            raise
        return result

    def _finished(self, job: "asyncio.Future[Any]") -> None:
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


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.row_factory = sqlite3.Row
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection
