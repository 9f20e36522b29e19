"""The store's promises: whole units, repeats recognised, states that only move forward."""

import asyncio
import random
import sqlite3
import stat
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from appservice.errors import Conflict, Unavailable
from appservice.store import (
    commands,
    consumers,
    housekeeping,
    inbox,
    meta,
    migrate,
    objects,
    outbox,
    rooms,
    status,
    told,
    turns,
)
from appservice.store.changes import Changes, Key
from appservice.store.database import Connection, Database, Row
from appservice.store.objects import Declared
from appservice.store.outbox import Outgoing
from appservice.store.rooms import Room
from appservice.store.status import Condition, Status
from appservice.store.turns import Turn
from tests.support.store import fill, free

KEY = Key("Worker", "a")


def event(name: str, room: str = "!r") -> inbox.RawEvent:
    return {"event_id": name, "room_id": room, "type": "m.room.message", "sender": "@a:hs", "content": {}}


async def test_somebody_is_told_something_once_an_hour_in_each_room_over_restarts_too(store: Database) -> None:
    async def again(kind: str, user: str, room: str, now: float) -> bool:
        return await store.write(lambda db: told.again(db, kind, user, room, now=now, every_s=3600))

    times = (9_000, 9_001, 12_599, 12_600)
    assert [await again("denied", "@a:hs", "!r", at) for at in times] == [True, False, False, True]
    assert await again("nothing runs", "@a:hs", "!r", 9_001)
    assert await again("denied", "@b:hs", "!r", 9_001)
    assert await again("denied", "@a:hs", "!other", 9_001)

    await store.write(lambda db: meta.put(db, meta.GREETED, "!r"))
    await store.write(lambda db: housekeeping.sweep(db, now=9_500 + housekeeping.DAY_S))
    assert await meta.find(store, "told:") == [("told:denied|!r|@a:hs", "12600")]
    assert await meta.get(store, meta.GREETED) == "!r"


async def _declare_turns(store: Database, *asked: tuple[str, str, float]) -> None:
    """(id, thread, when it was asked): answered two seconds later."""
    for name, thread, at in asked:
        turn = replace(a_turn(name, f"${name}"), thread=thread, asked_at=at)
        await store.write(partial(turns.add, turn=turn))
        await store.write(partial(turns.end, turn_id=name, state="done", now=at + 2))


async def test_answered_questions_go_once_nobody_can_go_on_with_them(store: Database) -> None:
    now = 2 * housekeeping.KEPT_TURNS_S
    newest = [(f"n{number}", f"$n{number}", 20.0 + number) for number in range(5)]
    await _declare_turns(store, ("old", "$old", 1), ("begun", "$t", 2), ("on", "$t", now - 10), ("open", "$o", 3))
    await store.write(lambda db: db.execute("UPDATE turns SET state = 'working', ended_at = NULL WHERE id = 'open'"))
    await _declare_turns(store, *newest)
    for thread in ("$old", "$t"):
        await store.write(partial(turns.share, thread=thread))

    await store.write(partial(housekeeping.sweep, now=now))

    left = [turn.id for turn in (*await turns.recent(store, "a", 20), *await turns.open_turns(store))]
    assert sorted(left) == ["begun", "n1", "n2", "n3", "n4", "on", "open", "open"]
    assert [await turns.is_shared(store, thread) for thread in ("$old", "$t")] == [False, True]


async def test_answered_commands_go_once_no_repeat_of_them_can_come(store: Database) -> None:
    for name, at in (("$old", 0.0), ("$open", 0.0), ("$new", 2 * housekeeping.KEPT_EVENTS_S)):
        await store.write(partial(commands.accept, event_id=name, room_id="!r", sender="@o", request={}, now=at))
    for name in ("$old", "$new"):
        await store.write(partial(commands.done, event_id=name))

    await store.write(partial(housekeeping.sweep, now=2 * housekeeping.KEPT_EVENTS_S))

    found = {name: await commands.get(store, name) is not None for name in ("$old", "$open", "$new")}
    assert found == {"$old": False, "$open": True, "$new": True}


async def test_what_calls_came_to_stays_when_they_are_no_longer_kept_one_by_one(store: Database) -> None:
    def call(name: str, at: float, status: int = 200) -> consumers.Call:
        numbers = {"tokens_in": 3, "tokens_out": 4, "took_ms": 9}
        return consumers.Call(call_id=name, at=at, consumer="a", model="m", status=status, detail="", **numbers)

    now = 2 * housekeeping.KEPT_CALLS_S
    for at in (0.0, 1.0):
        for name, code in (("old", 200), ("bad", 500)):
            await store.write(partial(consumers.used, call=call(f"{name}{at}", at, code)))
        await store.write(partial(housekeeping.sweep, now=now))
    [folded] = await consumers.summary(store, "a")
    await store.write(partial(consumers.used, call=call("new", now)))
    [used] = await consumers.summary(store, "a")
    counted = await housekeeping.numbers(store)

    assert (folded.calls, folded.failed, folded.tokens_in, folded.tokens_out, folded.median_ms) == (4, 2, 12, 16, None)
    assert (used.calls, used.failed, used.tokens_in, used.tokens_out, used.median_ms) == (5, 2, 15, 20, 9)
    assert [found.call_id for found in await consumers.calls(store, "a")] == ["new"]
    names = ("opsroom_gateway_calls", "opsroom_gateway_tokens_in", "opsroom_gateway_tokens_out")
    assert [counted[name] for name in names] == [5, 15, 20]


def test_each_step_of_the_schema_has_a_number_of_its_own() -> None:
    numbers = [number for number, *_ in migrate.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_no_event_has_all_turns_looked_through(store: Database) -> None:
    plans: list[str] = []

    class Explaining:
        async def read(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
            plans.extend(str(row["detail"]) for row in await store.read(f"EXPLAIN QUERY PLAN {sql}", parameters))
            return []

        async def read_one(self, sql: str, parameters: Iterable[Any] = ()) -> Row | None:
            raise AssertionError(f"not looked at: {sql}")

    await turns.of_event(Explaining(), "$1")
    await turns.in_thread(Explaining(), "!r", "$1")
    assert len(plans) >= 2
    assert not [plan for plan in plans if plan.startswith("SCAN") or "TEMP B-TREE" in plan]


async def test_a_repeated_event_is_stored_and_handed_on_once(store: Database) -> None:
    first = await store.write(lambda db: inbox.add(db, [event("$1"), event("$2"), event("$1")], now=1))
    await store.write(lambda db: inbox.finish(db, "$1"))
    again = await store.write(lambda db: inbox.add(db, [event("$1"), event("$3")], now=2))

    assert [e["event_id"] for e in first] == ["$1", "$2"]
    assert [e["event_id"] for e in again] == ["$3"]
    assert [e["event_id"] for e in await inbox.unfinished(store)] == ["$2", "$3"]


async def test_cancelled_callers_leave_no_half_unit(store: Database) -> None:
    async def pair(number: int, db: Connection) -> None:
        for side in "ab":
            await inbox.add(db, [event(f"${number}{side}")], now=0)

    dice = random.Random(3)
    tasks = [asyncio.create_task(store.write(partial(pair, n))) for n in range(60)]
    for task in tasks:
        await asyncio.sleep(0)
        if dice.random() < 0.5:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.write(lambda db: inbox.finish(db, "none"))  # the last in the queue

    rows = await store.read(
        "SELECT substr(event_id, 1, length(event_id) - 1) AS n, count(*) AS c FROM inbox GROUP BY n"
    )
    assert rows
    assert all(row["c"] == 2 for row in rows)


async def test_what_is_recalled_is_as_the_last_unit_left_it(store: Database) -> None:
    assert await rooms.get(store, "!r") is None
    await store.write(lambda db: rooms.put(db, Room(room_id="!r", purpose="worker", owner="a")))
    assert (await rooms.get(store, "!r")) == Room(room_id="!r", purpose="worker", owner="a")

    early = asyncio.create_task(rooms.get(store, "!s"))  # reads while a unit writes it
    await store.write(lambda db: rooms.put(db, Room(room_id="!s", purpose="ops")))
    await early
    assert (await rooms.get(store, "!s")) == Room(room_id="!s", purpose="ops")

    await store.write(lambda db: rooms.remove(db, "!r"))
    assert await rooms.get(store, "!r") is None


async def test_a_failed_unit_changes_nothing(store: Database) -> None:
    async def broken(db: Connection) -> None:
        await inbox.add(db, [event("$1")], now=0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.write(broken)

    assert await inbox.unfinished(store) == []


async def test_a_full_disk_is_said_in_a_sentence_and_the_same_unit_succeeds_once_there_is_space(
    store: Database,
) -> None:
    async def large(db: Connection) -> None:
        await meta.put(db, "large", "x" * 100_000)

    await fill(store)
    with pytest.raises(Unavailable, match=r"the database cannot be used \(database or disk is full\). Free some space"):
        await store.write(large)
    assert await meta.get(store, "large") == ""

    await store.write(free)
    await store.write(large)
    assert len(await meta.get(store, "large")) == 100_000


async def test_what_is_wrong_with_the_sql_is_no_matter_of_the_disk(store: Database) -> None:
    for work in (store.read, store.read_one):
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await work("SELECT * FROM nowhere")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await store.look(lambda db: db.read("SELECT * FROM nowhere"))


async def test_a_unit_that_waits_for_anything_but_sql_is_refused_and_changes_nothing(store: Database) -> None:
    async def waits(db: Connection) -> None:
        await inbox.add(db, [event("$1")], now=0)
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="not SQL"):
        await store.write(waits)

    assert await inbox.unfinished(store) == []
    assert await store.write(lambda db: inbox.add(db, [event("$2")], now=0), durable=False)


async def test_only_its_owner_may_read_a_database_whatever_folder_it_is_in(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    older, path = tmp_path / "older.db", tmp_path / "opsroom.db"
    for name in ("older.db", "older.db-wal", "older.db-shm"):
        (tmp_path / name).touch(mode=0o644)
    for database in (older, path):
        store = await Database.open(database)
        await store.write(lambda db: meta.put(db, "a", "b"))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob(f"{database.name}*")}
        await store.close()
        assert modes == {f"{database.name}{end}": 0o600 for end in ("", "-wal", "-shm")}


async def test_a_newer_database_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "opsroom.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 999")

    with pytest.raises(Conflict, match="schema 999"):
        await Database.open(path)


async def declare(store: Database, document: dict[str, object]) -> str:
    wanted = Declared(kind="Worker", name="a", api_version="v1", document=document, text="")
    return await store.write(lambda db: objects.declare(db, wanted, author="@op:hs", cause="$c", now=1))


async def test_declaring_the_same_twice_is_no_change(store: Database) -> None:
    actions = [await declare(store, {"b": 1, "a": 2}), await declare(store, {"a": 2, "b": 1}), await declare(store, {})]

    assert actions == ["created", "unchanged", "changed"]
    stored = await objects.get(store, KEY)
    assert stored is not None
    assert stored.generation == 2


async def test_an_object_goes_only_after_its_deletion_was_begun(store: Database) -> None:
    await declare(store, {})
    await store.write(lambda db: objects.forget(db, KEY))
    assert await objects.get(store, KEY) is not None

    await store.write(lambda db: objects.begin_delete(db, KEY, author="@op:hs", cause="$d", now=2))
    await declare(store, {})  # wanted again: it stays
    await store.write(lambda db: objects.forget(db, KEY))
    assert await objects.get(store, KEY) is not None

    await store.write(lambda db: objects.begin_delete(db, KEY, author="@op:hs", cause="$d", now=3))
    await store.write(lambda db: objects.forget(db, KEY))
    assert await objects.get(store, KEY) is None


def a_turn(name: str = "t", event_id: str = "$q") -> Turn:
    return Turn(id=name, event_id=event_id, agent="a", room_id="!r", thread="$q", sender="@s:hs", question="?")


async def test_one_event_asks_an_agent_once(store: Database) -> None:
    assert await store.write(lambda db: turns.add(db, a_turn()))
    assert not await store.write(lambda db: turns.add(db, a_turn("other")))


async def test_a_turn_that_has_ended_cannot_move_again(store: Database) -> None:
    await store.write(lambda db: turns.add(db, a_turn()))
    assert await store.write(lambda db: turns.deliver(db, "t", 1))
    assert not await store.write(lambda db: turns.edit(db, "$q", "too late"))
    assert await store.write(lambda db: turns.end(db, "t", "stopped", now=1))

    assert not await store.write(lambda db: turns.end(db, "t", "done", now=2))
    assert not await store.write(lambda db: turns.deliver(db, "t", 2))
    found = await turns.get(store, "t")
    assert found is not None
    assert (found.state, found.question) == ("stopped", "?")


async def test_an_outgoing_event_is_kept_once_and_dead_ones_keep_their_content(store: Database) -> None:
    item = Outgoing(txn_id="a.1", room_id="!r", sender="@a:hs", type="t", content={"x": 1}, cause="$c")
    for _ in range(2):
        await store.write(lambda db: outbox.add(db, item, now=1))
    assert len(await outbox.pending(store)) == 1

    await store.write(lambda db: outbox.bury(db, "a.1", "no such room"))

    [dead] = await outbox.dead(store)
    assert (dead.content, dead.error) == ({"x": 1}, "no such room")
    assert await outbox.dead(store, since=2) == []
    assert await outbox.pending(store) == []


async def _issued(jti: str, db: Connection) -> None:
    await consumers.issued(db, jti, "a", 100)


async def test_revoking_all_but_one_token_leaves_that_one(store: Database) -> None:
    for jti in ("old", "new"):
        await store.write(partial(_issued, jti))

    gone = await store.write(lambda db: consumers.revoke(db, "a", keep="new"))

    assert gone == ["old"]
    assert await consumers.revoked(store, now=50) == {"old"}
    assert await consumers.revoked(store, now=200) == set()
    assert await consumers.is_revoked(store, "unknown")


def test_a_condition_keeps_its_time_until_its_status_flips() -> None:
    first = Status().with_conditions((Condition(type="A", status="True", reason="X"),), now=1)
    same = first.with_conditions((Condition(type="A", status="True", reason="Y", took_s=3),), now=2)
    other = same.with_conditions((Condition(type="A", status="False", reason="Z"),), now=3)

    assert [s.conditions[0].since for s in (first, same, other)] == [1, 1, 3]
    assert not status.equal(first, same)


async def test_who_waits_for_a_change_is_woken_by_it() -> None:
    changes = Changes()
    seen = 0

    async def condition() -> bool:
        nonlocal seen
        seen += 1
        return seen > 2

    waiting = asyncio.create_task(changes.until(condition, 5))
    while not waiting.done():
        changes.publish(KEY)
        await asyncio.sleep(0)

    assert await waiting
    assert not await changes.until(lambda: asyncio.sleep(0, False), 0.01)
