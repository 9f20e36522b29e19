"""kill -9 while the journal is written: each revision is there exactly once, in order, whatever the moment."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from tests.support import faults
from tests.support.stack import Stack, opened, worker_yaml

pytestmark = pytest.mark.timeout(300)

TYPE = "org.opsroom.resource"
NAMES = [f"sleeper-{number}" for number in range(6)]
ROUNDS = 5


@pytest.fixture(scope="module")
async def shaken() -> AsyncIterator[Stack]:
    """A stack of our own, because its parts die."""
    async with opened() as stack:
        yield stack


def revisions(stack: Stack) -> list[tuple[int, str]]:
    """What was accepted: number and key, in order."""
    with closing(sqlite3.connect(f"file:{stack.data_dir / 'opsroom.db'}?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT revision, lower(kind) || '/' || name FROM revisions WHERE owner = '' ORDER BY revision"
        )
        return [(int(number), str(key)) for number, key in rows]


async def timeline(stack: Stack) -> list[tuple[int, str]]:
    """What was published: number and key, as the room has it from its first event on."""
    room = await stack.op.resolve(f"#opsroom-journal:{stack.info['server_name']}")
    found: list[dict[str, Any]] = []
    start: dict[str, str] = {}
    while True:
        page = await stack.op.call("GET", f"rooms/{quote(room)}/messages", dir="f", limit="500", **start)
        found += page["chunk"]
        if not page["chunk"] or not page.get("end"):
            break
        start = {"from": page["end"]}
    bot = f"@opsroom:{stack.info['server_name']}"
    return [(e["content"]["revision"], e["state_key"]) for e in found if e["type"] == TYPE and e["sender"] == bot]


def has_seen(stack: Stack, count: int) -> bool:
    return bool(sum(event["type"] == TYPE for event in stack.op.events) >= count)


async def all_published(stack: Stack, count: int) -> None:
    await stack.op.until(partial(has_seen, stack, count), f"{count} changes in the journal", faults.PATIENCE_S)
    await stack.command("!version", faults.PATIENCE_S)


async def test_a_control_plane_that_is_killed_while_it_publishes_repeats_and_loses_nothing(shaken: Stack) -> None:
    for number in range(ROUNDS):
        text = "---\n".join(worker_yaml(name, soul=f"Round {number}.", state="Stopped") for name in NAMES)
        await shaken.op.upload(shaken.ops_room, f"round-{number}.yaml", text.encode())

    for count in (2, 9, 15, 22):  # each as soon as that many were seen: the next ones are on their way
        await shaken.op.until(partial(has_seen, shaken, count), f"{count} changes", faults.PATIENCE_S)
        await faults.replaced(shaken, "control_plane", await faults.kill(shaken, "control_plane"))

    await all_published(shaken, ROUNDS * len(NAMES))
    await faults.all_done(shaken)
    accepted = revisions(shaken)
    assert len(accepted) == ROUNDS * len(NAMES)
    assert await timeline(shaken) == accepted


async def test_a_kill_between_an_event_and_the_position_is_seen_from_the_room(shaken: Stack) -> None:
    """The moment cannot be met from outside; what it leaves behind is an older position. A power cut can take back
    several."""
    for back in (1, 4):
        await shaken.apply(worker_yaml("rewound", soul=f"{back}", state="Stopped"))
        await shaken.apply(worker_yaml("rewound", soul=f"{back} more", state="Stopped"))
        accepted = revisions(shaken)
        await all_published(shaken, len(accepted))
        pid = faults.pid_of(shaken, "control_plane")
        os.kill(pid, signal.SIGSTOP)
        with closing(sqlite3.connect(shaken.data_dir / "opsroom.db", timeout=30, isolation_level=None)) as db:
            db.execute("UPDATE meta SET value = value - ? WHERE key = 'journal:position'", (back,))
        os.kill(pid, signal.SIGKILL)
        await faults.replaced(shaken, "control_plane", pid)

        await shaken.apply(worker_yaml("rewound", soul=f"after {back}", state="Stopped"))
        await all_published(shaken, len(accepted) + 1)
        assert await timeline(shaken) == revisions(shaken)


async def test_changes_accepted_while_the_homeserver_dies_are_published_when_it_is_back(shaken: Stack) -> None:
    before = len(revisions(shaken))
    async with asyncio.TaskGroup() as tasks:
        for name in ("left", "right"):
            tasks.create_task(shaken.apply(worker_yaml(name, state="Stopped"), timeout_s=faults.PATIENCE_S))
        await faults.until(lambda: len(revisions(shaken)) > before, "a change")
        await faults.replaced(shaken, "homeserver", await faults.kill(shaken, "homeserver"))
    await all_published(shaken, before + 2)

    assert await timeline(shaken) == revisions(shaken)


async def test_what_an_operator_writes_there_is_applied_once_and_in_order_over_kills(shaken: Stack) -> None:
    room = await shaken.op.resolve(f"#opsroom-journal:{shaken.info['server_name']}")
    written: dict[str, list[str]] = {"scribe": [], "writer": []}
    for number in range(12):
        for name, events in written.items():
            path = f"rooms/{quote(room)}/state/{TYPE}/{quote(f'worker/{name}', safe='')}"
            text = worker_yaml(name, soul=f"Version {number}.", state="Stopped")
            events.append(str((await shaken.op.call("PUT", path, {"document": text}))["event_id"]))
        if number % 4 == 1:
            await faults.kill(shaken, "control_plane")
    for name, events in written.items():
        await shaken.op.until(partial(ours_is_last, shaken, f"worker/{name}", events[-1]), name, faults.PATIENCE_S)
    await faults.all_done(shaken)

    with closing(sqlite3.connect(f"file:{shaken.data_dir / 'opsroom.db'}?mode=ro", uri=True)) as db:
        for name, events in written.items():
            found = db.execute("SELECT cause FROM revisions WHERE name = ? ORDER BY revision", (name,)).fetchall()
            assert [cause for (cause,) in found] == events
    assert await timeline(shaken) == revisions(shaken)


def ours_is_last(stack: Stack, key: str, cause: str) -> bool:
    """Whether the newest event of an object is Opsroom's, and says that it comes from this one."""
    of = [event for event in stack.op.events if event["type"] == TYPE and event["state_key"] == key]
    return bool(of) and of[-1]["content"].get("cause") == cause
