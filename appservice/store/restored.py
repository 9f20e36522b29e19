"""What of an older store is no longer so, once it is put back beside a homeserver where everything went on."""

import sqlite3

from appservice.store import meta

_WHY = "It was open in the backup that was restored. Perhaps it was done since then."
_PAST = (
    "UPDATE inbox SET done = 1, event = '' WHERE done = 0",
    "UPDATE commands SET done = 1, request = '{}' WHERE done = 0",
    "UPDATE turns SET state = 'stopped', error = :why, ended_at = :now WHERE state IN ('queued', 'working')",
    "UPDATE outbox SET state = 'dead', error = :why WHERE state = 'pending'",
    "UPDATE rooms SET seen = '' WHERE purpose = 'direct'",
    "DELETE FROM meta WHERE key = :position",
)


def forget_the_past(connection: sqlite3.Connection, *, now: float) -> None:
    """Close what was open and forget where reading stood: what was said since then was handled then. Whatever schema
    the store has: these tables are as the first one made them."""
    with connection:
        for sql in _PAST:
            connection.execute(sql, {"why": _WHY, "now": now, "position": meta.SYNC_SINCE})
