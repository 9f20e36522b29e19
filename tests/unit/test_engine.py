"""How the engine keeps its appointments."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from appservice.errors import Invalid, OpsroomError, Unavailable
from appservice.reconcile.engine import LONGEST_AWAY_S, LONGEST_S, Engine
from appservice.store.changes import Key

KEY = Key("Worker", "a")


async def _nothing() -> list[Key]:
    return []


async def test_a_key_woken_during_its_pass_runs_once_more_and_never_beside_itself() -> None:
    running, most, passes = 0, 0, 0
    gate, finished = asyncio.Event(), asyncio.Event()

    async def reconcile(_key: Key) -> float | None:
        nonlocal running, most, passes
        running, passes = running + 1, passes + 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        if passes == 2:
            finished.set()
        return None

    engine = Engine(reconcile, parallel=4)
    task = asyncio.create_task(engine.run(_nothing))
    engine.wake(KEY)
    while not running:
        await asyncio.sleep(0)
    for _ in range(5):
        engine.wake(KEY)
    gate.set()
    await asyncio.wait_for(finished.wait(), 5)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert (most, passes) == (1, 2)


async def test_failures_back_off_and_a_change_ends_the_backoff() -> None:
    seen = asyncio.Queue[int]()
    tries = 0

    async def reconcile(_key: Key) -> float | None:
        nonlocal tries
        tries += 1
        seen.put_nowait(tries)
        if tries < 3:
            raise Unavailable("away")
        return None

    engine = Engine(reconcile, parallel=1)
    task = asyncio.create_task(engine.run(_nothing))
    engine.wake(KEY)
    await asyncio.wait_for(seen.get(), 5)
    await asyncio.wait_for(seen.get(), 5)  # by itself, after the first backoff
    while engine.attempts(KEY) < 2:
        await asyncio.sleep(0)
    engine.refresh(KEY)
    await asyncio.wait_for(seen.get(), 0.5)  # at once, though a longer backoff was due
    while engine.attempts(KEY):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert engine.failures == 2


async def test_a_bug_in_one_object_does_not_stop_the_others() -> None:
    done = asyncio.Event()

    async def reconcile(key: Key) -> float | None:
        if key.name == "broken":
            raise ZeroDivisionError
        done.set()
        return None

    engine = Engine(reconcile, parallel=1)
    task = asyncio.create_task(engine.run(_nothing))
    engine.wake(Key("Worker", "broken"))
    engine.wake(Key("Worker", "fine"))
    await asyncio.wait_for(done.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert engine.failures == 1


@asynccontextmanager
async def at_work(engine: Engine, everything: Callable[[], Awaitable[Iterable[Key]]] = _nothing) -> AsyncIterator[None]:
    task = asyncio.create_task(engine.run(everything))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def turns(count: int = 50) -> None:
    """Let everything go on that needs no time."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_agent_that_dies_at_start_again_and_again_is_started_less_and_less_often() -> None:
    failed = asyncio.Queue[int]()

    async def reconcile(key: Key) -> float | None:
        engine.wake(key)  # its sandbox started
        await asyncio.sleep(0)
        engine.wake(key)  # and died
        failed.put_nowait(engine.passes)
        raise Unavailable("a ended while it started")

    engine = Engine(reconcile, parallel=1)
    async with at_work(engine):
        engine.wake(KEY)
        for passes in (1, 2):
            assert await asyncio.wait_for(failed.get(), 5) == passes
            await turns()
            engine.wake(KEY)  # the news of its death may also come after the pass
            await turns()
            assert (engine.passes, engine.attempts(KEY)) == (passes, passes)
            assert (engine.due_in(KEY) or 0) > 0.25 * 2 ** (passes - 1)


async def test_an_agent_that_ran_well_is_looked_at_at_once_when_it_dies() -> None:
    passes = asyncio.Queue[None]()

    async def reconcile(_key: Key) -> float | None:
        passes.put_nowait(None)
        return 600.0

    engine = Engine(reconcile, parallel=1)
    async with at_work(engine):
        for _ in range(3):
            engine.wake(KEY)
            await asyncio.wait_for(passes.get(), 0.5)
            await turns()
            assert (engine.due_in(KEY) or 0) > 500


async def test_a_change_during_a_failing_pass_is_looked_at_at_once() -> None:
    passes = asyncio.Queue[None]()

    async def reconcile(key: Key) -> float | None:
        passes.put_nowait(None)
        if engine.passes == 3:
            engine.refresh(key)
            engine.wake(key)
        if engine.passes < 4:
            raise Unavailable("away")
        return None

    engine = Engine(reconcile, parallel=1)
    async with at_work(engine):
        engine.wake(KEY)
        for _ in range(3):
            await asyncio.wait_for(passes.get(), 5)
        await asyncio.wait_for(passes.get(), 0.5)


async def test_what_waits_for_something_that_is_away_is_looked_at_again_within_half_a_minute() -> None:
    longest = {}
    for error in (Unavailable("away"), Invalid("wrong")):

        async def reconcile(_key: Key, error: OpsroomError = error) -> float | None:
            raise error

        engine = Engine(reconcile, parallel=1)
        async with at_work(engine):
            engine._tries[KEY] = 20  # as after minutes
            engine._appoint(KEY, 0.0)
            while engine.attempts(KEY) < 21:
                await asyncio.sleep(0)
            await turns()
            longest[type(error)] = engine.due_in(KEY) or 0

    assert LONGEST_AWAY_S * 0.9 < longest[Unavailable] <= LONGEST_AWAY_S * 1.25
    assert longest[Invalid] > LONGEST_S * 0.9


async def test_rooms_do_not_wait_for_agents_whose_storage_hangs() -> None:
    mended = asyncio.Event()

    async def reconcile(key: Key) -> float | None:
        if key.kind == "Room":
            mended.set()
        else:
            await asyncio.Event().wait()
        return None

    engine = Engine(reconcile, parallel=2, beside=("Room",))
    async with at_work(engine):
        for number in range(100):
            engine.wake(Key("Worker", f"w{number}"))
        await turns()
        assert engine.passes == 2
        engine.wake(Key("Room", "opsroom-worker-w1"))
        await asyncio.wait_for(mended.wait(), 0.5)


async def test_an_earlier_appointment_takes_the_place_of_a_later_one() -> None:
    order: list[str] = []
    done = asyncio.Event()

    async def reconcile(key: Key) -> float | None:
        order.append(key.name)
        if len(order) == 4:
            done.set()
        return 600.0

    async def all_keys() -> list[Key]:
        return [Key("Worker", name) for name in "abc"]

    engine = Engine(reconcile, parallel=1)
    async with at_work(engine, all_keys):
        while engine.passes < 3:
            await asyncio.sleep(0)
        await turns()
        assert engine.waiting == 3  # in ten minutes
        engine.wake(Key("Worker", "b"))
        await asyncio.wait_for(done.wait(), 0.5)
        await turns()

        assert order == ["a", "b", "c", "b"]
        assert engine.waiting == 3


async def test_after_a_drain_no_pass_goes_on_or_begins() -> None:
    begun, ended = asyncio.Queue[Key](), []

    async def reconcile(key: Key) -> float | None:
        begun.put_nowait(key)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(key)
        return None

    engine = Engine(reconcile, parallel=2)
    async with at_work(engine):
        engine.wake(KEY)
        await asyncio.wait_for(begun.get(), 5)
        await engine.drain(5)
        assert ended == [KEY]

        engine.refresh(Key("Worker", "b"))
        while engine.waiting:  # until it is taken out of the queue, whoever comes next
            await asyncio.sleep(0)
        await turns()
        assert begun.empty()


async def test_a_homeserver_that_is_away_at_the_slow_look_does_not_end_the_work() -> None:
    looked, passes = asyncio.Queue[None](), asyncio.Queue[Key]()

    async def reconcile(key: Key) -> float | None:
        passes.put_nowait(key)
        return None

    async def everything() -> list[Key]:
        looked.put_nowait(None)
        raise Unavailable("cannot read who operates: the homeserver does not answer")

    engine = Engine(reconcile, parallel=1)
    async with at_work(engine, everything):
        await asyncio.wait_for(looked.get(), 5)
        engine.wake(KEY)
        assert await asyncio.wait_for(passes.get(), 5) == KEY
        engine.refresh_all()
        await asyncio.wait_for(looked.get(), 0.5)
