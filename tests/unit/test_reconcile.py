"""What a sandbox needs next, how the engine keeps its appointments, and who is in a worker's room."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from appservice.backends.protocol import Observed
from appservice.errors import Unavailable
from appservice.reconcile.engine import Engine
from appservice.reconcile.steps import Step, Want, sandbox_steps, wanted
from appservice.store.changes import Key

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
