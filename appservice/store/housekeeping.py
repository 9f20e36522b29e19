"""Numbers for `/metrics`, and the sweep of what nobody can ask for any more."""

from appservice.store import audit, commands, consumers, inbox, journal, outbox, told, turns, versions
from appservice.store.database import Connection, Reader

DAY_S = 86_400.0
KEPT_EVENTS_S = 7 * DAY_S
KEPT_SENDS_S = 2 * DAY_S
KEPT_CALLS_S = 30 * DAY_S
KEPT_TURNS_S = 90 * DAY_S

_COUNTS = {
    "opsroom_inbox_open": "SELECT count(*) FROM inbox WHERE done = 0",
    "opsroom_outbox_pending": "SELECT count(*) FROM outbox WHERE state = 'pending'",
    "opsroom_outbox_dead": "SELECT count(*) FROM outbox WHERE state = 'dead'",
    "opsroom_turns_open": "SELECT count(*) FROM turns WHERE state IN ('queued', 'working')",
    "opsroom_turns_done": "SELECT count(*) FROM turns WHERE state = 'done'",
    "opsroom_turns_failed": "SELECT count(*) FROM turns WHERE state = 'failed'",
    "opsroom_objects": "SELECT count(*) FROM resources",
    "opsroom_objects_ready": "SELECT count(*) FROM status WHERE json_extract(status, '$.phase')"
    " IN ('Running', 'Sleeping', 'Stopped', 'Active')",
    "opsroom_gateway_calls": "SELECT (SELECT count(*) FROM usage) + (SELECT coalesce(sum(calls), 0) FROM usage_sums)",
    "opsroom_gateway_tokens_in": "SELECT (SELECT coalesce(sum(tokens_in), 0) FROM usage)"
    " + (SELECT coalesce(sum(tokens_in), 0) FROM usage_sums)",
    "opsroom_gateway_tokens_out": "SELECT (SELECT coalesce(sum(tokens_out), 0) FROM usage)"
    " + (SELECT coalesce(sum(tokens_out), 0) FROM usage_sums)",
}


async def numbers(store: Reader) -> dict[str, float]:
    found = {}
    for name, sql in _COUNTS.items():
        [row] = await store.read(sql)
        found[name] = float(row[0])
    waiting, _ = await journal.backlog(store)
    return {**found, "opsroom_journal_waiting": float(waiting)}


async def sweep(db: Connection, *, now: float) -> None:
    """Drop handled events and commands, sent events, turns, expired tokens and what somebody was told after their time.
    Calls of models are summed up then."""
    await inbox.forget(db, before=now - KEPT_EVENTS_S)
    await outbox.forget(db, before=now - KEPT_SENDS_S)
    await commands.forget(db, before=now - KEPT_EVENTS_S)
    await turns.forget(db, before=now - KEPT_TURNS_S)
    await consumers.sum_up(db, before=now - KEPT_CALLS_S)
    await consumers.forget_tokens(db, now=int(now))
    await told.forget(db, before=now - DAY_S)
    await audit.sweep(db)
    await versions.sweep(db)
