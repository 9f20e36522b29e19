"""How steps are told as conditions, what phase follows from them, and what is written of what happened."""

import asyncio
from dataclasses import replace
from errno import ENOSPC

import pytest

import appservice
import runtime
from appservice.api import shapes
from appservice.errors import Unavailable
from appservice.ops import render
from appservice.reconcile import team, worker
from appservice.reconcile.kinds import Kinds
from appservice.reconcile.recording import save
from appservice.reconcile.steps import Done, Waiting, Want, told, within
from appservice.reconcile.world import World
from appservice.rooms.declared import Declared
from appservice.store import objects, status
from appservice.store.changes import Changes, Key
from appservice.store.database import Database
from appservice.store.objects import Stored
from appservice.store.status import Condition, Status, Truth
from tests.support.declared import Company
from tests.support.rosters import NAMES, OPERATORS
from tests.support.world import world_with

KEY = Key("Worker", "a")
TEAM = """\
apiVersion: hiclaw.io/v1beta1
kind: Team
metadata: {name: t}
spec:
  leader: {name: lead, model: m}
  workers: [{name: one, model: m}]
"""


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


# -- passes that touch the store alone --------------------------------------------------------------------------------


def world(store: Database) -> World:
    async def operators() -> frozenset[str]:
        return frozenset(OPERATORS)

    declared = Declared(store, NAMES, operators, prefix="opsroom-")
    return world_with(store=store, changes=Changes(), declared=declared)


async def declare(store: Database, kind: str, name: str, owner: str = "", **spec: object) -> Stored:
    document = {"metadata": {"name": name}, "spec": spec}
    wanted = objects.Declared(kind=kind, name=name, api_version="v", document=document, text="", owner=owner)
    await store.write(lambda db: objects.declare(db, wanted, author="@op:hs", cause="$c", now=1))
    return await there(store, Key(kind, name))


async def there(store: Database, key: Key) -> Stored:
    stored = await objects.get(store, key)
    assert stored is not None
    return stored


async def test_a_manager_is_as_its_agent_and_a_restart_of_that_is_no_business_of_its_own(store: Database) -> None:
    own = await declare(store, "Manager", "default", model="m")
    agent = await declare(store, "Worker", "manager", owner="manager/default", model="m")
    await store.write(lambda db: objects.mark_restart(db, agent.key, "$restart"))
    running = Status(phase="Running", observed_generation=1, facts={"restart": "", "version": "1"})
    await store.write(lambda db: status.put(db, agent.key, running))
    await store.write(lambda db: status.put(db, own.key, Status(phase="Running", facts={"welcomeSent": True})))
    await Kinds(world(store)).reconcile(own.key)
    assert (await status.get(store, own.key)).phase == "Updating"

    restarted = replace(running, facts={**running.facts, "restart": "$restart"})
    await store.write(lambda db: status.put(db, agent.key, restarted))
    await Kinds(world(store)).reconcile(own.key)

    found = await status.get(store, own.key)
    assert render.is_settled(own, found)
    assert found.facts == {"version": "1", "welcomeSent": True}


async def test_what_goes_after_its_parts_says_that_it_waits_for_them(store: Database) -> None:
    own = await declare(store, "Manager", "default", model="m")
    await declare(store, "Worker", "manager", owner="manager/default", model="m")
    await store.write(lambda db: objects.begin_delete(db, own.key, author="@op:hs", cause="$d", now=2))

    await Kinds(world(store)).reconcile(own.key)

    found = await status.get(store, own.key)
    [deleted] = found.conditions
    assert (found.phase, deleted.type, deleted.status, deleted.reason) == ("Deleting", "Deleted", "False", "Waiting")


async def test_somebody_whose_name_became_one_of_opsrooms_own_is_told_so(store: Database) -> None:
    """As after a change of the prefix of agents' users: what was declared before stays, and makes no user."""
    john = await declare(store, "Human", "agent-john", displayName="John", permissionLevel=1)

    await Kinds(world(store)).reconcile(john.key)

    found = await status.get(store, john.key)
    account = found.condition("Account")
    assert found.phase == "Failed"
    assert account is not None
    assert "@agent-john:hs is one of Opsroom's own users" in account.message


def test_agents_say_the_version_of_the_control_plane_they_came_with() -> None:
    assert runtime.__version__ == appservice.__version__


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


# -- images -----------------------------------------------------------------------------------------------------------


async def test_an_image_is_pulled_once_and_beside_the_passes(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PULL_LOOK_S", 0.0)
    pulls, there = 0, asyncio.Event()

    class Slow:
        async def ensure_image(self, _image: str) -> None:
            nonlocal pulls
            pulls += 1
            await there.wait()

    reconciler = worker.WorkerReconciler(replace(world(store), backend=Slow()))  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(Waiting, match="The image x is being pulled"):
            await reconciler.image("x")
    there.set()
    await asyncio.sleep(0)
    await reconciler.image("x")

    assert pulls == 1
