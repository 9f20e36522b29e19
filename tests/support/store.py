"""A store that is empty."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appservice.store.database import Database


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "opsroom.db")
    yield database
    await database.close()
