"""What a sandbox needs next, how the engine keeps its appointments, and who is in a worker's room."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mautrix.errors import MatrixConnectionError

from appservice.backends.process import ProcessBackend
from appservice.backends.protocol import Observed
from appservice.errors import Invalid, OpsroomError, Unavailable
from appservice.plane import stop_all
from appservice.reconcile import sweeper
from appservice.reconcile.engine import LONGEST_AWAY_S, LONGEST_S, Engine
from appservice.reconcile.steps import Step, Want, sandbox_steps, unbroken, wanted
from appservice.rooms.declared import Declared
from appservice.store.changes import Changes, Key
from appservice.store.database import Database
from tests.support.journalled import declare
from tests.support.rosters import NAMES, OPERATORS, manager

KEY = Key("Worker", "a")


def after(step: Step, have: Observed, spec_hash: str) -> Observed:
    match step:
        case Step.CREATE:
            return Observed(name="a", state="created", spec_hash=spec_hash)
        case Step.START:
            return Observed(name="a", state="running", spec_hash=have.spec_hash)
        case Step.STOP:
            return Observed(name="a", state="exited", spec_hash=have.spec_hash)
        case Step.REMOVE:
            return Observed(name="a", state="absent")


@given(
    st.sampled_from(Want),
    st.sampled_from(["absent", "created", "running", "exited"]),
    st.sampled_from(["old", "new"]),
)
def test_one_pass_reaches_the_goal_and_the_next_is_silent(want: Want, state: str, spec_hash: str) -> None:
    have = Observed(name="a", state=state, spec_hash="" if state == "absent" else spec_hash)  # type: ignore[arg-type]

    for step in sandbox_steps(want, "new", have):
        have = after(step, have, "new")

    assert sandbox_steps(want, "new", have) == ()
    assert (have.state == "running") == (want is Want.RUNNING)
    if want is Want.RUNNING:
        assert have.spec_hash == "new"


def test_only_a_sleeping_agent_is_woken() -> None:
    assert wanted("Sleeping", awake=True) is Want.RUNNING
    assert wanted("Sleeping", awake=False) is Want.STOPPED
    assert wanted("Stopped", awake=True) is Want.ABSENT
    assert wanted("Running", awake=False) is Want.RUNNING


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


async def test_a_start_that_is_under_way_has_ended_when_its_pass_is_broken_off() -> None:
    begun, go, started = asyncio.Event(), asyncio.Event(), []

    async def start() -> None:
        begun.set()
        await go.wait()
        started.append("a")

    task = asyncio.create_task(unbroken(start()))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert started == ["a"]


async def test_an_agent_that_cannot_be_stopped_is_named_and_the_others_are_stopped(tmp_path: Path) -> None:
    class Stuck(ProcessBackend):
        """Two agents run; the one cannot be stopped, the other takes longer."""

        async def observe_all(self) -> Mapping[str, Observed]:
            found = [Observed(name=name, state="running") for name in ("a", "b") if name not in stopped]
            return {seen.name: seen for seen in (*found, Observed(name="c", state="exited"))}

        async def stop(self, name: str, *, grace_s: float = 5.0) -> None:
            if name == "a":
                failed.set()
                raise Unavailable("Docker Engine failed: it hangs.")
            await failed.wait()
            await asyncio.sleep(0)
            stopped.append(name)

    stopped: list[str] = []
    failed = asyncio.Event()
    backend = Stuck(state_dir=tmp_path, installation="t", image="x")

    assert await stop_all(backend) == ["a: Docker Engine failed: it hangs."]
    assert stopped == ["b"]


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


async def test_a_homeserver_that_is_away_puts_a_sweep_off_and_loses_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "AGAIN_S", 0.0)
    asked = 0

    async def operators() -> frozenset[str]:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise MatrixConnectionError("away")
        return frozenset(OPERATORS)

    async def gone(_name: str) -> None: ...

    store, changes, woken = await Database.open(tmp_path / "opsroom.db"), Changes(), asyncio.Queue[Key]()
    found = sweeper.Sweeper(
        store,
        changes,
        Declared(store, NAMES, operators, prefix="x-"),
        wake=woken.put_nowait,
        refresh=woken.put_nowait,
        gone=gone,
    )
    task = asyncio.create_task(found.run())
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
        await store.close()
