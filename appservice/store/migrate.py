"""Bring a database to the present schema. Migrations are numbered files, never edited once released."""

import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

from appservice.errors import Conflict


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) in order."""
    folder = resources.files("appservice.store") / "migrations"
    found = [(int(item.name[:4]), item.read_text()) for item in folder.iterdir() if item.name.endswith(".sql")]
    return sorted(found)


def migrate(connection: sqlite3.Connection) -> None:
    """Apply what is missing, each migration in one transaction; what was there before is kept beside it.

    Raises Conflict when the file was written by a newer program.
    """
    version = check(connection)
    if 0 < version < migrations()[-1][0]:
        _keep(connection, version)
    for number, sql in migrations():
        if number > version:
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")


def check(connection: sqlite3.Connection) -> int:
    """The schema of a database. Raises Conflict when this program does not know it yet."""
    [(version,)] = connection.execute("PRAGMA user_version").fetchall()
    newest = migrations()[-1][0]
    if version > newest:
        raise Conflict(
            f"this database has schema {version}, and this program knows {newest} at most",
            fix="Install the newer Opsroom again, or restore a backup made by this one.",
        )
    return int(version)


def copy(connection: sqlite3.Connection, path: Path) -> None:
    """Write a database as it is at one moment into a new file that only its owner may read, whoever works on it."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path)) as target:
        connection.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, whole by itself


def _keep(connection: sqlite3.Connection, version: int) -> None:
    """A copy of the database as the older program left it."""
    [(name,)] = connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchall()
    path = Path(name)
    kept = path.with_name(f"{path.name}.v{version}.bak")
    if name:
        fresh = kept.with_name(kept.name + ".new")
        copy(connection, fresh)
        fresh.replace(kept)
