"""What a sandbox needs next, and how it is stopped."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appservice.backends.process import ProcessBackend
from appservice.backends.protocol import Observed
from appservice.errors import Unavailable
from appservice.plane import stop_all
from appservice.reconcile.steps import Step, Want, sandbox_steps, unbroken, wanted


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
