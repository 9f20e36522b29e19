"""What somebody was told in a room lately, so that they are not told it again and again."""

from appservice.store import meta
from appservice.store.database import Connection

_KEY = "told:"


async def again(db: Connection, kind: str, user: str, room_id: str, *, now: float, every_s: float) -> bool:
    """Whether it is time to tell somebody something of this kind; that they are told now is noted."""
    key = f"{_KEY}{kind}|{room_id}|{user}"
    if now - float(await meta.get(db, key) or 0) < every_s:
        return False
    await meta.put(db, key, str(now))
    return True


async def forget(db: Connection, *, before: float) -> None:
    await db.execute(
        "DELETE FROM meta WHERE substr(key, 1, ?) = ? AND CAST(value AS REAL) < ?", (len(_KEY), _KEY, before)
    )
