"""Desired state: what was declared, by whom, and every revision of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appservice.store import versions
from appservice.store.changes import Key
from appservice.store.database import Connection, Database, Reader, Row

FINALIZER = "opsroom/cleanup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One declared object. `document` is the canonical form that two applies are compared by, `text` what was
    written, `restart` a mark that changes when a restart was asked for; `owner` (`team/dev`) the object it is part of,
    '' for none; `owner_paused`: whether that is paused, and its parts with it."""

    kind: str
    name: str
    api_version: str
    document: Mapping[str, Any]
    text: str
    generation: int
    restart: str
    author: str
    cause: str
    created_at: float
    changed_at: float
    deleting: bool
    finalizers: tuple[str, ...]
    owner: str
    paused: bool
    owner_paused: bool = False

    @property
    def key(self) -> Key:
        return Key(self.kind, self.name)

    @property
    def held_by(self) -> str:
        """What has to be resumed for this to go on, itself or its owner; '' when nothing is paused. What is to go is
        not held up."""
        held = (self.paused or self.owner_paused) and not self.deleting
        return (self.owner or str(self.key)) if held else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One accepted change. `text`: what was written then, '' for a deletion; `owner`: what it was part of."""

    revision: int
    action: str
    generation: int
    text: str
    author: str
    at: float
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One object to declare."""

    kind: str
    name: str
    api_version: str
    document: Mapping[str, Any]
    text: str
    owner: str = ""


# Each with whether its owner is paused: `team/dev` is the object of kind Team and name dev.
_ALL = """SELECT part.*, (
    SELECT whole.paused FROM resources AS whole
    WHERE whole.kind = upper(substr(part.owner, 1, 1)) || substr(part.owner, 2, instr(part.owner, '/') - 2)
      AND whole.name = substr(part.owner, instr(part.owner, '/') + 1)
) AS owner_paused FROM resources AS part"""


async def get(store: Reader, key: Key) -> Stored | None:
    row = await store.read_one(f"{_ALL} WHERE kind = ? AND name = ?", key)
    return stored(row) if row else None


async def recall(store: Database, key: Key) -> Stored | None:
    """As `get`, from memory: for what every question asks."""
    row = await store.recall("resources", f"{_ALL} WHERE kind = ? AND name = ?", key)
    return stored(row) if row else None


async def every(store: Reader, kind: str | None = None) -> list[Stored]:
    if kind is None:
        rows = await store.read(f"{_ALL} ORDER BY kind, name")
    else:
        rows = await store.read(f"{_ALL} WHERE kind = ? ORDER BY name", (kind,))
    return [stored(row) for row in rows]


async def owned_by(store: Reader, owner: str) -> list[Stored]:
    """The parts of an object, as `team/dev`."""
    rows = await store.read(f"{_ALL} WHERE owner = ? ORDER BY name", (owner,))
    return [stored(row) for row in rows]


async def keys(store: Reader, *kinds: str) -> list[Key]:
    rows = await store.read(f"SELECT kind, name FROM resources WHERE kind IN ({', '.join('?' * len(kinds))})", kinds)  # noqa: S608
    return [Key(row["kind"], row["name"]) for row in rows]


async def history(store: Reader, key: Key, limit: int = 20) -> list[Revision]:
    """Newest first; of an object that is gone, too."""
    rows = await store.read(
        "SELECT revision, action, generation, text, author, at, owner FROM revisions WHERE kind = ? AND name = ?"
        " ORDER BY revision DESC LIMIT ?",
        (*key, limit),
    )
    return [Revision(**dict(row)) for row in rows]


async def newest(store: Reader, key: Key) -> int:
    """Number of an object's newest revision, 0 for none."""
    row = await store.read_one("SELECT max(revision) AS newest FROM revisions WHERE kind = ? AND name = ?", key)
    return int(row["newest"] or 0) if row else 0


async def revision(store: Reader, number: int) -> tuple[Key, Revision] | None:
    """The one of that number, and whose it is."""
    row = await store.read_one(
        "SELECT kind, name, revision, action, generation, text, author, at, owner FROM revisions"
        " WHERE revision = CAST(? AS INTEGER)",
        (str(number),),  # people can type more digits than an integer of SQLite has
    )
    return _named(row) if row else None


def _named(row: Row) -> tuple[Key, Revision]:
    facts = dict(row)
    return Key(facts.pop("kind"), facts.pop("name")), Revision(**facts)


async def newest_change(store: Reader) -> list[tuple[Key, Revision]]:
    """What was changed last of what people declare, with all that was changed with it."""
    rows = await store.read(
        "SELECT kind, name, revision, action, generation, text, author, at, owner FROM revisions WHERE owner = ''"
        " AND cause = (SELECT cause FROM revisions WHERE owner = '' ORDER BY revision DESC LIMIT 1) ORDER BY revision"
    )
    return [_named(row) for row in rows]


async def revision_before(store: Reader, key: Key, number: int) -> Revision | None:
    row = await store.read_one(
        "SELECT kind, name, revision, action, generation, text, author, at, owner FROM revisions"
        " WHERE kind = ? AND name = ? AND revision < ? ORDER BY revision DESC LIMIT 1",
        (*key, number),
    )
    return _named(row)[1] if row else None


async def left(store: Reader, key: Key) -> tuple[str, Revision] | None:
    """What an object was part of last, and its first revision by itself since then; None when there is no such, or a
    deletion in between."""
    row = await store.read_one(
        "SELECT revision, owner, text FROM revisions WHERE kind = ? AND name = ? AND owner <> ''"
        " ORDER BY revision DESC LIMIT 1",
        key,
    )
    if row is None or not row["text"]:
        return None
    first = await store.read_one(
        "SELECT kind, name, revision, action, generation, text, author, at, owner FROM revisions"
        " WHERE kind = ? AND name = ? AND revision > ? ORDER BY revision LIMIT 1",
        (*key, row["revision"]),
    )
    return (row["owner"], _named(first)[1]) if first else None


async def last_called(store: Reader, kind: str, name: str) -> Key | None:
    """What had that name last; `kind`: '' for any."""
    row = await store.read_one(
        "SELECT kind, name FROM revisions WHERE name = ? AND ? IN (kind, '') ORDER BY revision DESC", (name, kind)
    )
    return Key(row["kind"], row["name"]) if row else None


async def declare(db: Connection, wanted: Declared, *, author: str, cause: str, now: float) -> str:
    """Store one declared object; 'created', 'changed' or 'unchanged'.

    An object that is being deleted comes back to life: its teardown stops where it is and is built up again.
    """
    db.changes("resources")
    document = json.dumps(wanted.document, sort_keys=True, ensure_ascii=False)
    row = await _row(db, Key(wanted.kind, wanted.name))
    if row is None:
        await db.execute(
            "INSERT INTO resources (kind, name, api_version, document, text, generation, author, cause, created_at,"
            " changed_at, owner, finalizers) VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)",
            (
                *(wanted.kind, wanted.name, wanted.api_version, document, wanted.text),
                *(author, cause, now, now, wanted.owner, json.dumps([FINALIZER])),
            ),
        )
        await _remember(db, wanted, "created", 1, author=author, cause=cause, now=now)
        return "created"
    if row["document"] == document and row["owner"] == wanted.owner and not row["deleting"]:
        return "unchanged"
    generation = row["generation"] + 1
    await db.execute(
        "UPDATE resources SET api_version = ?, document = ?, text = ?, generation = ?, author = ?, cause = ?,"
        " changed_at = ?, owner = ?, deleting = 0 WHERE kind = ? AND name = ?",
        (
            *(wanted.api_version, document, wanted.text, generation, author, cause, now, wanted.owner),
            *(wanted.kind, wanted.name),
        ),
    )
    await _remember(db, wanted, "changed", generation, author=author, cause=cause, now=now)
    return "changed"


async def reword(db: Connection, key: Key, text: str, *, author: str, cause: str, now: float) -> None:
    """Keep another text that declares the same: a revision, and no new generation."""
    db.changes("resources")
    await db.execute("UPDATE resources SET text = ? WHERE kind = ? AND name = ?", (text, *key))
    await db.execute(
        "INSERT INTO revisions (kind, name, action, generation, text, author, cause, at, owner)"
        " SELECT kind, name, 'changed', generation, text, ?, ?, ?, owner FROM resources WHERE kind = ? AND name = ?",
        (author, cause, now, *key),
    )


async def begin_delete(db: Connection, key: Key, *, author: str, cause: str, now: float) -> bool:
    """Mark an object as unwanted; False when there is none. It goes once its finalizers are done."""
    db.changes("resources")
    row = await _row(db, key)
    if row is None:
        return False
    if not row["deleting"]:
        await db.execute(
            "UPDATE resources SET deleting = 1, generation = generation + 1, author = ?, cause = ?, changed_at = ?"
            " WHERE kind = ? AND name = ?",
            (author, cause, now, *key),
        )
        gone = Declared(kind=key.kind, name=key.name, api_version="", document={}, text="", owner=row["owner"])
        await _remember(db, gone, "deleted", row["generation"] + 1, author=author, cause=cause, now=now)
    return True


async def let_go(db: Connection, key: Key, *, author: str, cause: str, now: float) -> None:
    """An object is declared by itself no more, because it goes on as a part of another one."""
    row = await _row(db, key)
    if row is None or row["owner"] or row["deleting"]:
        return
    db.changes("resources")
    await db.execute("UPDATE resources SET generation = generation + 1 WHERE kind = ? AND name = ?", key)
    gone = Declared(kind=key.kind, name=key.name, api_version="", document={}, text="")
    await _remember(db, gone, "deleted", row["generation"] + 1, author=author, cause=cause, now=now)


async def mark_restart(db: Connection, key: Key, mark: str) -> bool:
    db.changes("resources")
    cursor = await db.execute("UPDATE resources SET restart = ? WHERE kind = ? AND name = ?", (mark, *key))
    return bool(cursor.rowcount)


async def set_paused(db: Connection, key: Key, *, paused: bool) -> bool:
    """Whether that changed anything. Parts are paused with the whole and go on with it, whatever they were before they
    became parts; each is another version then."""
    db.changes("resources")
    cursor = await db.execute(
        "UPDATE resources SET paused = ?1 WHERE kind = ?2 AND name = ?3 AND paused <> ?1", (int(paused), *key)
    )
    parts = await db.execute(
        "UPDATE resources SET paused = 0 WHERE owner = ? AND (paused OR ?)", (str(key), cursor.rowcount)
    )
    return bool(cursor.rowcount or parts.rowcount)


async def forget(db: Connection, key: Key) -> bool:
    """Remove an object whose teardown is complete, with all that was known of it; its revisions stay. False when its
    deletion was taken back."""
    db.changes("resources")
    row = await _row(db, key)
    if row is None or not row["deleting"]:
        return False
    await db.execute("DELETE FROM resources WHERE kind = ? AND name = ?", key)
    await versions.keep_last(db, key, row)
    await db.execute("DELETE FROM status WHERE kind = ? AND name = ?", key)
    await db.execute("DELETE FROM happenings WHERE kind = ? AND name = ?", key)
    return True


async def _row(db: Connection, key: Key) -> Row | None:
    return await db.read_one("SELECT * FROM resources WHERE kind = ? AND name = ?", key)


async def _remember(
    db: Connection, wanted: Declared, action: str, generation: int, *, author: str, cause: str, now: float
) -> None:
    await db.execute(
        "INSERT INTO revisions (kind, name, action, generation, text, author, cause, at, owner)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (wanted.kind, wanted.name, action, generation, wanted.text, author, cause, now, wanted.owner),
    )


def stored(row: Row | Mapping[str, Any]) -> Stored:
    """A row, or what was kept of one."""
    return Stored(
        kind=row["kind"],
        name=row["name"],
        api_version=row["api_version"],
        document=json.loads(row["document"]),
        text=row["text"],
        generation=row["generation"],
        restart=row["restart"],
        author=row["author"],
        cause=row["cause"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
        deleting=bool(row["deleting"]),
        finalizers=tuple(json.loads(row["finalizers"])),
        owner=row["owner"],
        paused=bool(row["paused"]),
        owner_paused=bool(dict(row).get("owner_paused")),
    )
