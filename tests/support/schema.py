"""Databases as the first version of the program made them."""

import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path


def first_schema(path: Path) -> None:
    sql = (resources.files("appservice.store") / "migrations" / "0001_start.sql").read_text()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"BEGIN;\n{sql}\nPRAGMA user_version = 1;\nCOMMIT;")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("INSERT INTO meta VALUES ('kept', 'yes')")
        db.commit()


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        [(found,)] = db.execute("PRAGMA user_version").fetchall()
        return int(found)
