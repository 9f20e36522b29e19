"""Make a Human real: an account, and a place in the rooms its level opens."""

import asyncio
from dataclasses import replace
from time import time
from typing import Any

from appservice.errors import OpsroomError
from appservice.homeserver.client import readable
from appservice.policy.roster import Human, Roster
from appservice.reconcile.recording import save
from appservice.reconcile.rooms import ASKING_IN
from appservice.reconcile.steps import Done, Waiting, blocked, told
from appservice.reconcile.world import World, effective
from appservice.resources.human import missing
from appservice.store import status
from appservice.store.objects import Stored
from appservice.store.status import Condition, is_current

PARALLEL = 8
LOOK_S = 5.0  # while rooms are filled, fifty people at a time


class HumanReconciler:
    def __init__(self, world: World) -> None:
        self._w = world

    async def build(self, stored: Stored) -> float | None:
        key, roster = stored.key, await self._w.declared.roster()
        user = self._user(stored)
        old = await status.get(self._w.store, key)
        facts = {"rooms": [], **old.facts, "matrixUserID": user, "emailSent": False}
        human = roster.humans.get(user)
        found, errors = await self._steps(human, facts) if human else ([_taken(user)], [])
        if human:
            found.append(references(roster, human))
        waits = any(condition.reason == ASKING_IN for condition in found)
        was_active = is_current(stored, old) and old.phase == "Active"
        fresh = replace(
            old,
            phase=_phase(was_active=was_active, failed=bool(errors), waits=waits) if human else "Failed",
            observed_generation=stored.generation,
            facts=facts,
        ).with_conditions((*found, effective(stored)), now=time())
        await save(self._w.store, self._w.changes, key, old, fresh)
        if errors:
            raise errors[0]
        return LOOK_S if waits else None

    async def _steps(self, human: Human, facts: dict[str, Any]) -> tuple[list[Condition], list[OpsroomError]]:
        account, error = await told("Account", lambda: self._ensure_account(human))
        if error:
            return [account, blocked("Rooms", "the account")], [error]
        rooms, error = await told("Rooms", lambda: self._ensure_rooms(human, facts))
        return [account, rooms], [error] if error else []

    async def tear_down(self, stored: Stored) -> None:
        await self._w.rooms.without(self._user(stored))
        await self._w.forget(stored)

    def _user(self, stored: Stored) -> str:
        return self._w.declared.names.person(stored.document["spec"].get("username") or stored.name)

    async def _ensure_account(self, human: Human) -> Done:
        try:
            done = await self._w.accounts.ensure(human.name, human.user, human.shown)
        except Exception as error:
            raise readable(error, f"make the account of {human.name}") from error
        self._w.rooms.account(human.user, there=True)
        return done

    async def _ensure_rooms(self, human: Human, facts: dict[str, Any]) -> Done:
        ids: dict[str, str] = {}
        wanted = await self._w.rooms.of(human.user)
        gate = asyncio.Semaphore(PARALLEL)

        async def bring(alias: str) -> None:
            async with gate:
                ids[alias] = await self._w.rooms.bring(alias)

        try:
            async with asyncio.TaskGroup() as tasks:
                for room in wanted:
                    tasks.create_task(bring(room.alias))
        except Exception as error:
            raise readable(error, f"ask {human.name} into its rooms") from error
        later = [room for room in wanted if self._w.rooms.waits(human.user, room.alias)]
        facts["rooms"] = sorted(set(ids.values()) - {ids[room.alias] for room in later})
        if later:
            names = ", ".join(room.name for room in later)
            raise Waiting(ASKING_IN, f"Many people are asked in at once. Still to come: {names}.")
        return Done("InLine", f"{len(ids)} room{'s' * (len(ids) != 1)}")


def _phase(*, was_active: bool, failed: bool, waits: bool) -> str:
    """One who was there as declared stays so: what is wrong since then is in the conditions alone."""
    if was_active:
        return "Active"
    if failed:
        return "Failed"
    return "Pending" if waits else "Active"


def _taken(user: str) -> Condition:
    message = f"{user} is one of Opsroom's own users. Declare the person by another name, and delete this one."
    return Condition(type="Account", status="False", reason="Taken", message=message)


def references(roster: Roster, human: Human) -> Condition:
    """What it names and nobody declares, or what its level gives no access to: it counts once that changes."""
    if message := missing(human.teams, human.workers, known_teams=roster.teams, known_agents=roster.agents):
        return Condition(type="References", status="False", reason="NotFound", message=message)
    idle = [f"accessibleTeams ({', '.join(human.teams)})"] if human.teams and human.level == 3 else []
    leading = [name for name in human.workers if roster.agents[name].role in ("leader", "manager")]
    idle += [f"accessibleWorkers ({', '.join(leading)})"] if leading and human.level != 1 else []
    if idle:
        message = f"Without effect at level {human.level}: {' and '.join(idle)}. Level 2 opens teams and their leaders."
        return Condition(type="References", status="False", reason="WithoutEffect", message=message)
    return Condition(type="References", status="True", reason="Found")
