"""A database of an older version: migrated when it is opened, with a copy of it first."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from appservice.store import migrate
from appservice.store.database import Database
from tests.support.schema import first_schema, version


async def test_an_older_schema_is_kept_beside_before_it_is_migrated(tmp_path: Path) -> None:
    path, kept = tmp_path / "opsroom.db", tmp_path / "opsroom.db.v1.bak"
    first_schema(path)

    store = await Database.open(path)
    await store.close()

    assert version(path) == migrate.migrations()[-1][0] > 1
    assert version(kept) == 1
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with closing(sqlite3.connect(kept)) as db:
        assert db.execute("SELECT value FROM meta WHERE key = 'kept'").fetchone() == ("yes",)
    assert sorted(found.name for found in tmp_path.glob("*.bak*")) == ["opsroom.db.v1.bak"]

    written = kept.stat().st_mtime_ns
    store = await Database.open(path)
    await store.close()
    assert kept.stat().st_mtime_ns == written


async def test_a_new_database_has_nothing_to_keep(tmp_path: Path) -> None:
    store = await Database.open(tmp_path / "opsroom.db")
    await store.close()
    assert not list(tmp_path.glob("*.bak*"))
