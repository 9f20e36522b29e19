"""The lease: one at a time, whoever waits is next, and waiting can be ended."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from appservice.errors import Conflict
from appservice.store.lease import alone, at_once, somebody_else


async def test_the_second_waits_says_so_once_and_goes_on_when_the_first_is_done(tmp_path: Path) -> None:
    database = tmp_path / "opsroom.db"
    (linked := tmp_path / "link.db").symlink_to(database)
    works = asyncio.Event()

    async def second() -> None:
        async with alone(linked):
            works.set()

    with capture_logs() as lines:
        async with AsyncExitStack() as first:
            await first.enter_async_context(alone(database))
            waiting = asyncio.create_task(second())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(works.wait(), 0.7)  # it has looked several times by now
        await asyncio.wait_for(waiting, 5)

    said = [line["event"] for line in lines]
    assert len(said) == 2
    assert said[0].startswith("waits for process ")
    assert said[0].endswith(", which works on this database")
    assert said[1] == "takes over the database"


async def test_waiting_can_be_ended_and_leaves_nothing_locked(tmp_path: Path) -> None:
    async def second() -> None:
        async with alone(tmp_path / "opsroom.db"):
            raise AssertionError

    async with alone(tmp_path / "opsroom.db"):
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(1), alone(tmp_path / "opsroom.db"):
        pass


async def test_whoever_does_not_wait_is_told_who_works_and_leaves_nothing_locked(tmp_path: Path) -> None:
    database = tmp_path / "opsroom.db"
    assert somebody_else(database, 1) == ""
    async with alone(database):
        with pytest.raises(Conflict, match=f"process {os.getpid()} on .* works on {database}"), at_once(database):
            pytest.fail("two work on it")
        assert somebody_else(database, 1).startswith(f"process {os.getpid()} on ")
        assert somebody_else(database, os.getpid()) == ""
    assert somebody_else(database, 1) == ""
    with at_once(database), pytest.raises(Conflict), at_once(database):
        pytest.fail("two work on it")
