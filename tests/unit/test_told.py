"""How steps are told as conditions, what phase follows from them, and what is written of what happened."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path

import pytest

from appservice.api import shapes
from appservice.errors import Unavailable
from appservice.reconcile import team, worker
from appservice.reconcile.recording import save
from appservice.reconcile.steps import Done, Waiting, Want, told, within
from appservice.store import status
from appservice.store.changes import Changes, Key
from appservice.store.database import Database
from appservice.store.status import Condition, Status, Truth
from tests.support.declared import Company

KEY = Key("Worker", "a")
TEAM = """\
apiVersion: hiclaw.io/v1beta1
kind: Team
metadata: {name: t}
spec:
  leader: {name: lead, model: m}
  workers: [{name: one, model: m}]
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "opsroom.db")
    yield opened
    await opened.close()


def is_(type_: str, truth: Truth = "True", reason: str = "Done", message: str = "") -> Condition:
    return Condition(type=type_, status=truth, reason=reason, message=message)


# -- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason", "said"),
    [
        (Unavailable("Storage does not answer.", fix="Start it."), "Unavailable", "Storage does not answer. Start it."),
        (OSError(ENOSPC, "No space left on device", "/x/token"), "Unavailable", "No space left on device (/x/token)"),
        (KeyError("x"), "Unavailable", "Opsroom made a mistake here: KeyError."),
    ],
)
async def test_whatever_breaks_a_step_is_a_condition_and_an_error_that_is_tried_again(
    error: Exception, reason: str, said: str
) -> None:
    async def breaks() -> Done:
        raise error

    condition, raised = await told("Storage", breaks)

    assert (condition.type, condition.status, condition.reason) == ("Storage", "False", reason)
    assert said in condition.message
    assert isinstance(raised, Unavailable)


async def test_a_step_that_is_not_done_in_its_pass_ends_alone() -> None:
    async def hangs() -> Done:
        await asyncio.Event().wait()
        return Done("Never")

    async def works() -> Done:
        return Done("Made")

    with within(0.0):
        (slow, error), (fine, _) = await asyncio.gather(told("Sandbox", hangs), told("Room", works))

    assert (slow.status, fine.status) == ("False", "True")
    assert "took too long" in slow.message
    assert error is not None


async def test_a_wait_is_no_failure() -> None:
    async def waits() -> Done:
        raise Waiting("Pulling", "The image x is being pulled.")

    condition, error = await told("Sandbox", waits)

    assert (condition.status, condition.reason, error) == ("False", "Pulling", None)


# -- phases -----------------------------------------------------------------------------------------------------------

NO_STORAGE = is_("Storage", "False", "Unavailable")
ANSWERS, BROKEN, WAITS = is_("Sandbox"), is_("Sandbox", "False", "Unavailable"), is_("Sandbox", "False", "Waiting")
PULLS = is_("Sandbox", "False", "Pulling")


@pytest.mark.parametrize(
    ("want", "conditions", "was", "current", "runs", "phase"),
    [
        (Want.RUNNING, (is_("Storage"), ANSWERS), "Pending", False, True, "Running"),
        (Want.RUNNING, (NO_STORAGE, ANSWERS), "Running", True, True, "Running"),
        (Want.RUNNING, (NO_STORAGE, ANSWERS), "Running", False, True, "Updating"),  # a change that is not done yet
        (Want.RUNNING, (NO_STORAGE, ANSWERS), "Updating", True, True, "Updating"),
        (Want.RUNNING, (NO_STORAGE, WAITS), "Running", False, True, "Updating"),  # a restart that waits
        (Want.RUNNING, (NO_STORAGE, WAITS), "Pending", False, False, "Failed"),
        (Want.RUNNING, (is_("Storage"), BROKEN), "Running", True, False, "Failed"),
        (Want.RUNNING, (is_("Storage"), PULLS), "Pending", False, False, "Pending"),
        (Want.RUNNING, (is_("Storage"), PULLS), "Running", False, True, "Updating"),
        (Want.ABSENT, (NO_STORAGE, ANSWERS), "Running", False, False, "Stopped"),
        (Want.STOPPED, (NO_STORAGE, ANSWERS), "Failed", False, False, "Sleeping"),
        (Want.ABSENT, (NO_STORAGE, BROKEN), "Running", False, True, "Failed"),
    ],
)
def test_an_agent_keeps_its_phase_while_it_is_as_declared(
    want: Want, conditions: tuple[Condition, ...], was: str, current: bool, runs: bool, phase: str
) -> None:
    assert worker.phase(want, conditions, was, current=current, runs=runs) == phase


def parts(**phases: str) -> team.Parts:
    agents = {key.name: stored for key, stored in Company(TEAM).stored.items() if stored.owner}
    return [(agents[name], Status(phase=phase, observed_generation=1)) for name, phase in phases.items()]


@pytest.mark.parametrize(
    ("phases", "failed", "was_built", "stood", "phase"),
    [
        ({"lead": "Running", "one": "Sleeping"}, False, True, True, "Active"),
        ({"lead": "Running", "one": "Running"}, True, True, True, "Active"),
        ({"lead": "Running", "one": "Running"}, True, True, False, "Pending"),
        ({"lead": "Running", "one": "Running"}, True, False, False, "Failed"),
        ({"lead": "Running", "one": "Failed"}, False, True, True, "Degraded"),
        ({"lead": "Running", "one": "Updating"}, False, True, True, "Pending"),
    ],
)
def test_a_team_keeps_its_phase_while_its_agents_are_as_declared(
    phases: dict[str, str], failed: bool, was_built: bool, stood: bool, phase: str
) -> None:
    assert team.phase(parts(**phases), failed=failed, was_built=was_built, stood=stood) == phase


def test_the_first_trouble_is_the_message_and_a_failure_comes_before_a_wait() -> None:
    [stored] = [stored for stored in Company(TEAM).stored.values() if stored.kind == "Team"]
    conditions = (is_("Members", "False", "Waiting", "Not ready: one."), replace(NO_STORAGE, message="It is away."))

    assert shapes.status_of(stored, Status(conditions=conditions))["message"] == "It is away."
    assert shapes.status_of(stored, Status(conditions=conditions[:1]))["message"] == "Not ready: one."
    assert shapes.status_of(stored, Status())["message"] == ""


# -- what happened ----------------------------------------------------------------------------------------------------


async def passes(store: Database, *found: tuple[Condition, ...]) -> list[tuple[str, str, int]]:
    """The happenings after passes that came to these conditions, newest first."""
    changes, old = Changes(), Status()
    for conditions in found:
        fresh = old.with_conditions(conditions, now=1.0)
        await save(store, changes, KEY, old, fresh)
        old = fresh
    return [(one.reason, one.message, one.times) for one in await status.happenings(store, KEY)]


async def test_a_failure_is_counted_each_time_and_another_cause_is_another_event(store: Database) -> None:
    away, full = replace(NO_STORAGE, message="away"), replace(NO_STORAGE, message="full")
    room = is_("Room", "False", "Unavailable", "no")

    found = await passes(store, (away, room), (away, room), (away, room), (full, is_("Room")), (full, is_("Room")))

    assert set(found) == {
        ("StorageUnavailable", "away", 3),
        ("RoomUnavailable", "no", 3),
        ("StorageUnavailable", "full", 2),
        ("RoomDone", "", 1),
    }


async def test_what_is_well_waits_or_is_a_note_happens_once(store: Database) -> None:
    same = (is_("Room"), is_("Sandbox", "False", "Waiting"), is_("References", "False", "NotFound"))

    assert {times for _, _, times in await passes(store, same, same, same)} == {1}


async def test_what_happened_again_is_the_newest(store: Database) -> None:
    for at, reason in enumerate(("Died", "SandboxReady", "Died")):
        await store.write(lambda db, at=at, reason=reason: status.record(db, KEY, reason, "", now=at))  # type: ignore[misc]

    assert [(one.reason, one.times) for one in await status.happenings(store, KEY)] == [
        ("Died", 2),
        ("SandboxReady", 1),
    ]
