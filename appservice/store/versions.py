"""A number for each object that grows with every change of it or of its status. The database keeps it by itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appservice.store import meta
from appservice.store.changes import Key
from appservice.store.database import Connection, Reader, Row

KEPT_GONE = 1_000
HORIZON = "versions_horizon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """`version`: of the object's last change; `born`: of its first; `labelled`: of the last one of its labels or owner.
    `last`: its rows of `resources` and `status`, when its last change was its end."""

    key: Key
    version: int
    born: int
    labelled: int
    last: Mapping[str, Any] | None


async def newest(store: Reader) -> int:
    row = await store.read_one("SELECT coalesce(max(version), 0) FROM versions")
    return int(row[0]) if row else 0


async def of(store: Reader, key: Key) -> int:
    """0 for what is not there."""
    row = await store.read_one("SELECT version FROM versions WHERE kind = ? AND name = ? AND gone = 0", key)
    return int(row["version"]) if row else 0


async def every(store: Reader) -> dict[Key, int]:
    rows = await store.read("SELECT * FROM versions WHERE gone = 0")
    return {found.key: found.version for found in map(_version, rows)}


async def since(store: Reader, version: int) -> list[Version]:
    """What has changed after a version, in order; each object once, as of its last change."""
    return [
        _version(row)
        for row in await store.read("SELECT * FROM versions WHERE version > ? ORDER BY version", (version,))
    ]


async def keep_last(db: Connection, key: Key, row: Row) -> None:
    """Keep of what has just gone what it was."""
    status = await db.read_one("SELECT status FROM status WHERE kind = ? AND name = ?", key)
    last = {"resource": dict(row), "status": status["status"] if status else ""}
    await db.execute("UPDATE versions SET last = ? WHERE kind = ? AND name = ?", (json.dumps(last), *key))


async def horizon(store: Reader) -> int:
    """What happened up to here may be forgotten: nobody can resume from before."""
    return int(await meta.get(store, HORIZON) or 0)


async def sweep(db: Connection) -> None:
    """Forget the oldest of what is gone."""
    row = await db.read_one(
        "SELECT max(version) FROM"
        " (SELECT version FROM versions WHERE gone = 1 ORDER BY version DESC LIMIT -1 OFFSET ?)",
        (KEPT_GONE,),
    )
    if row is not None and row[0] is not None:
        await db.execute("DELETE FROM versions WHERE gone = 1 AND version <= ?", (row[0],))
        await meta.put(db, HORIZON, str(row[0]))


def _version(row: Row) -> Version:
    return Version(
        key=Key(row["kind"], row["name"]),
        version=row["version"],
        born=row["born"],
        labelled=row["labelled"],
        last=json.loads(row["last"]) if row["gone"] else None,
    )
