"""Write what is so now, and what happened: only when it is another thing than before."""

from time import time

from appservice.store import status
from appservice.store.changes import Changes, Key
from appservice.store.database import Connection, Database
from appservice.store.status import Status


async def save(store: Database, changes: Changes, key: Key, old: Status, fresh: Status) -> None:
    """Store a status that differs, with a happening for each condition that changed, and tell who waits."""
    if status.equal(old, fresh):
        return
    now = time()

    async def unit(db: Connection) -> None:
        await status.put(db, key, fresh)
        for condition in fresh.conditions:
            before = old.condition(condition.type)
            if before is None or (before.status, before.reason) != (condition.status, condition.reason):
                await status.record(db, key, f"{condition.type}{condition.reason}", condition.message, now=now)

    await store.write(unit)
    changes.publish(key)
