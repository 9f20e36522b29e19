"""Bring a database to the present schema. Migrations are numbered files, never edited once released."""

from importlib import resources

import aiosqlite

from appservice.errors import Conflict


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) in order."""
    folder = resources.files("appservice.store") / "migrations"
    found = [(int(item.name[:4]), item.read_text()) for item in folder.iterdir() if item.name.endswith(".sql")]
    return sorted(found)


async def migrate(connection: aiosqlite.Connection) -> None:
    """Apply what is missing, each migration in one transaction.

    Raises Conflict when the file was written by a newer program.
    """
    [(version,)] = await connection.execute_fetchall("PRAGMA user_version")
    newest = migrations()[-1][0]
    if version > newest:
        raise Conflict(
            f"this database has schema {version}, and this program knows {newest} at most",
            fix="Install the newer Opsroom again, or restore a backup made by this one.",
        )
    for number, sql in migrations():
        if number > version:
            await connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")
