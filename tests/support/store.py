"""A store that is empty."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appservice.store.database import Connection, Database


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "opsroom.db")
    yield database
    await database.close()


async def fill(store: Database) -> None:
    """Let the disk be full: what the store holds by now is all it can hold."""
    await store.write(lambda db: db.execute("PRAGMA max_page_count = 1"))


async def free(db: Connection) -> None:
    """Let there be space again."""
    await db.execute("PRAGMA max_page_count = 1000000")
