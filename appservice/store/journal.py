"""The accepted changes as they go into the journal room: the revisions are the outbox, one number says how far it is.

Revisions of agents that another object is made of follow from that object, and are not published.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from appservice.store import meta
from appservice.store.changes import Key
from appservice.store.database import Connection, Reader, Row

POSITION = "journal:position"  # the last revision that is in the journal
ROOMS = "journal:rooms"  # how many rooms it has
_FIELDS = "kind, name, revision, action, generation, text, author, cause, at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One accepted change of an object. `text`: the document as it was written, '' for a deletion."""

    key: Key
    revision: int
    action: str
    generation: int
    text: str
    author: str
    cause: str
    at: float


async def position(store: Reader) -> int:
    return int(await meta.get(store, POSITION) or 0)


async def published(db: Connection, revision: int) -> None:
    await meta.put(db, POSITION, str(revision))


async def waiting(store: Reader, *, limit: int = -1) -> list[Change]:
    """Changes that are not published yet, in order; `limit`: the first so many of them."""
    rows = await store.read(
        f"SELECT {_FIELDS} FROM revisions WHERE revision > ? AND owner = '' ORDER BY revision LIMIT ?",  # noqa: S608
        (await position(store), limit),
    )
    return [_change(row) for row in rows]


async def backlog(store: Reader) -> tuple[int, float]:
    """How many changes are not published yet, and when the first of them was accepted."""
    [row] = await store.read(
        "SELECT count(*) AS count, min(at) AS since FROM revisions WHERE revision > ? AND owner = ''",
        (await position(store),),
    )
    return int(row["count"]), float(row["since"] or 0)


async def latest(store: Reader) -> list[Change]:
    """The newest change of each object."""
    rows = await store.read(
        f"SELECT {_FIELDS} FROM revisions WHERE revision IN"  # noqa: S608
        " (SELECT max(revision) FROM revisions WHERE owner = '' GROUP BY kind, name) ORDER BY revision"
    )
    return [_change(row) for row in rows]


async def latest_of(store: Reader, key: Key) -> Change | None:
    row = await store.read_one(
        f"SELECT {_FIELDS} FROM revisions WHERE kind = ? AND name = ? AND owner = ''"  # noqa: S608
        " ORDER BY revision DESC LIMIT 1",
        key,
    )
    return _change(row) if row else None


async def newest(store: Reader) -> int:
    """Number of the newest revision of all."""
    row = await store.read_one("SELECT max(revision) AS newest FROM revisions")
    return int(row["newest"] or 0) if row else 0


async def rooms(store: Reader) -> int:
    """How many rooms the journal has."""
    return int(await meta.get(store, ROOMS) or 1)


async def open_rooms(db: Connection, count: int) -> None:
    db.changes("journal")
    await meta.put(db, ROOMS, str(count))


# -- from the journal back into an empty store ---------------------------------------------------------------------


async def begin(db: Connection, newest: int) -> None:
    """Revisions that are written from now on have numbers after `newest`."""
    await db.execute("DELETE FROM sqlite_sequence WHERE name = 'revisions' AND seq < ?", (newest,))
    row = await db.read_one("SELECT 1 FROM sqlite_sequence WHERE name = 'revisions'")
    if row is None:
        await db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('revisions', ?)", (newest,))


async def number(db: Connection, change: Change) -> None:
    """Give an object that was declared just now, and its revision, the numbers of the change it comes from. A number
    that is taken is left: then it is published anew."""
    db.changes("resources")
    await db.execute(
        "UPDATE OR IGNORE revisions SET revision = ?, generation = ?, action = ? WHERE revision ="
        " (SELECT max(revision) FROM revisions WHERE kind = ? AND name = ?)",
        (change.revision, change.generation, change.action, *change.key),
    )
    await db.execute(
        "UPDATE resources SET generation = ? WHERE kind = ? AND name = ?", (change.generation, *change.key)
    )


async def remember(db: Connection, gone: Sequence[Change]) -> None:
    """Keep the last change of objects that were deleted."""
    for change in gone:
        await db.execute(
            f"INSERT OR IGNORE INTO revisions ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (
                *(*change.key, change.revision, change.action, change.generation),
                *(change.text, change.author, change.cause, change.at),
            ),
        )


def _change(row: Row) -> Change:
    facts = {name: row[name] for name in row.keys() if name not in ("kind", "name")}  # noqa: SIM118 - no dict
    return Change(key=Key(row["kind"], row["name"]), **facts)
