"""Single facts: the sync position, the usage log's offset, until when a sleeping agent is awake."""

from appservice.store.database import Connection, Reader

AWAKE_UNTIL = "awake:"  # + agent: seconds since the epoch
BACKEND = "backend"  # name of the one that runs the agents
GREETED = "greeted"  # the ops room that was told what it is for
SYNC_SINCE = "sync_since"  # up to where the homeserver was read
KEEP_FILES = "keep-files:"  # + agent: not empty while one is deleted whose files stay


async def get(store: Reader, key: str) -> str:
    row = await store.read_one("SELECT value FROM meta WHERE key = ?", (key,))
    return str(row["value"]) if row else ""


async def put(db: Connection, key: str, value: str) -> None:
    await db.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )


async def drop(db: Connection, key: str) -> None:
    await db.execute("DELETE FROM meta WHERE key = ?", (key,))


async def find(store: Reader, prefix: str) -> list[tuple[str, str]]:
    """Keys that begin with `prefix`, and their values."""
    rows = await store.read("SELECT key, value FROM meta WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
    return [(row["key"], row["value"]) for row in rows]
