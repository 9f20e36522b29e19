"""Bring a database to the present schema. Migrations are numbered files, never edited once released."""

import sqlite3
from importlib import resources

from appservice.errors import Conflict


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) in order."""
    folder = resources.files("appservice.store") / "migrations"
    found = [(int(item.name[:4]), item.read_text()) for item in folder.iterdir() if item.name.endswith(".sql")]
    return sorted(found)


def migrate(connection: sqlite3.Connection) -> None:
    """Apply what is missing, each migration in one transaction.

    Raises Conflict when the file was written by a newer program.
    """
    [(version,)] = connection.execute("PRAGMA user_version").fetchall()
    newest = migrations()[-1][0]
    if version > newest:
        raise Conflict(
            f"this database has schema {version}, and this program knows {newest} at most",
            fix="Install the newer Opsroom again, or restore a backup made by this one.",
        )
    for number, sql in migrations():
        if number > version:
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")
