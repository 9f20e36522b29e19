"""The SQLite file: one connection that writes, one that reads.

A unit runs whole or not at all, whatever happens to its caller: cancelling the caller only stops the waiting. So
"cancelled" means "unknown", and every unit must be safe to repeat (unique keys, `ON CONFLICT DO NOTHING`).
A unit does SQL and nothing else.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from appservice.errors import Unavailable
from appservice.store import migrate

T = TypeVar("T")
Connection = aiosqlite.Connection
Row = aiosqlite.Row
Unit = Callable[[Connection], Awaitable[T]]

log = logging.getLogger(__name__)

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000")


class Database:
    """Open with `await Database.open(path)`, end with `close`."""

    def __init__(self, writer: Connection, reader: Connection) -> None:
        self._writer = writer
        self._reader = reader
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> "Database":
        """Open and migrate. Raises Conflict when a newer program wrote the file."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        writer = await _connect(path)
        try:
            await migrate.migrate(writer)
            reader = await _connect(path)
        except BaseException:
            await writer.close()
            raise
        await reader.execute("PRAGMA query_only=ON")
        return cls(writer, reader)

    async def write(self, unit: Unit[T]) -> T:
        """Run one unit in a transaction and return its result once it is on disk."""
        if self._closed:
            raise Unavailable(
                "the store is closed", fix="Opsroom is shutting down; the work goes on at its next start."
            )
        task = asyncio.create_task(self._run(unit))
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

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

    async def _run(self, unit: Unit[T]) -> T:
        async with self._turn:
            await self._writer.execute("BEGIN IMMEDIATE")
            try:
                result = await unit(self._writer)
                await self._writer.execute("COMMIT")
            except BaseException:
                await self._writer.execute("ROLLBACK")
                raise
            return result

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("unit failed: %s", error)


async def _connect(path: Path) -> Connection:
    connection = await aiosqlite.connect(path, isolation_level=None)
    connection.row_factory = aiosqlite.Row
    for pragma in _PRAGMAS:
        await connection.execute(f"PRAGMA {pragma}")
    return connection
