"""What a change means for others, from the first change after a start on."""

import asyncio

import pytest
from mautrix.errors import MatrixConnectionError

from appservice.reconcile import sweeper
from appservice.reconcile.sweeper import Sweeper
from appservice.rooms.declared import Declared
from appservice.store.changes import Changes, Key
from appservice.store.database import Database
from tests.support.journalled import declare
from tests.support.rosters import NAMES, OPERATORS, manager, team, worker

DEV = team("dev", "lena", "ben")


async def _gone(_name: str) -> None: ...


async def test_the_first_change_after_a_start_reaches_whom_it_concerns_and_nobody_else(store: Database) -> None:
    changes, found = Changes(), asyncio.Queue[Key]()

    async def operators() -> frozenset[str]:
        return frozenset(OPERATORS)

    await declare(store, DEV + worker("alice"))
    declared = Declared(store, NAMES, operators, prefix="")
    sweeping = Sweeper(store, changes, declared, wake=found.put_nowait, refresh=found.put_nowait, gone=_gone)
    await sweeping.begin()
    await declare(store, team("dev", "lena", "ben", "carla"))
    changes.publish(Key("Team", "dev"))

    running = asyncio.create_task(sweeping.run())
    first = await found.get()
    running.cancel()
    told = {str(first)} | {str(found.get_nowait()) for _ in range(found.qsize())}

    assert {"worker/lena", "worker/ben", "room/team-dev", "room/worker-carla"} <= told
    assert not told & {"worker/alice", "room/worker-alice", "room/worker-lena"}


async def test_a_homeserver_that_is_away_puts_a_sweep_off_and_loses_no_change(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "AGAIN_S", 0.0)
    asked = 0

    async def operators() -> frozenset[str]:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise MatrixConnectionError("away")
        return frozenset(OPERATORS)

    changes, woken = Changes(), asyncio.Queue[Key]()
    declared = Declared(store, NAMES, operators, prefix="x-")
    sweeping = Sweeper(store, changes, declared, wake=woken.put_nowait, refresh=woken.put_nowait, gone=_gone)
    task = asyncio.create_task(sweeping.run())
    try:
        await declare(store, manager())
        changes.publish(Key("Worker", "gone"))  # for which all wait who are made of agents
        seen: set[Key] = set()
        async with asyncio.timeout(5):
            while not {Key("Manager", "default"), Key("Room", "x-space")} <= seen:
                seen.add(await woken.get())
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
