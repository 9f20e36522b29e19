"""Write what is so now, and what happened: a change once, a failure as often as it was tried."""

from time import time

from appservice.store import status
from appservice.store.changes import Changes, Key
from appservice.store.database import Connection, Database
from appservice.store.status import NOTES, Condition, Status


async def save(store: Database, changes: Changes, key: Key, old: Status, fresh: Status, *, tried: bool = True) -> None:
    """Store a status that differs, with a happening for each condition that changed, and tell who waits. `tried`: this
    is what a pass came to, so that each condition that failed in it has happened again."""
    happened = [one for one in fresh.conditions if _is_news(old, one) or (tried and _has_failed(one))]
    same = status.equal(old, fresh)
    if same and not happened:
        return
    now = time()

    async def unit(db: Connection) -> None:
        if not same:
            await status.put(db, key, fresh)
        for one in happened:
            await status.record(db, key, f"{one.type}{one.reason}", one.message, now=now)

    await store.write(unit)
    if not same:
        changes.publish(key)


def _is_news(old: Status, fresh: Condition) -> bool:
    before = old.condition(fresh.type)
    return before is None or (before.status, before.reason) != (fresh.status, fresh.reason)


def _has_failed(one: Condition) -> bool:
    return one.status == "False" and one.reason not in ("Waiting", "Pulling") and one.type not in (*NOTES, "Members")
