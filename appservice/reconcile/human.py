"""Make a Human real: an account, and a place in the rooms its level opens."""

import asyncio
from dataclasses import replace
from time import time

from appservice.errors import OpsroomError
from appservice.homeserver.client import readable
from appservice.policy.roster import Human, Roster
from appservice.reconcile.recording import save
from appservice.reconcile.steps import Done, blocked, told
from appservice.reconcile.world import World, effective
from appservice.resources.human import missing
from appservice.store import status
from appservice.store.objects import Stored
from appservice.store.status import Condition

PARALLEL = 8


class HumanReconciler:
    def __init__(self, world: World) -> None:
        self._w = world

    async def build(self, stored: Stored) -> float | None:
        key, roster = stored.key, await self._w.declared.roster()
        user = roster.names.person(stored.name)
        human = roster.humans[user]
        account, error = await told("Account", lambda: self._ensure_account(human))
        joined: list[str] = []
        if error:
            rooms: tuple[Condition, OpsroomError | None] = (blocked("Rooms", "the account"), None)
        else:
            rooms = await told("Rooms", lambda: self._ensure_rooms(human, joined))
        old = await status.get(self._w.store, key)
        errors = [one for one in (error, rooms[1]) if one]
        fresh = replace(
            old,
            phase="Active" if not errors else "Failed",
            observed_generation=stored.generation,
            facts={"matrixUserID": user, "rooms": sorted(joined)},
        ).with_conditions((account, rooms[0], references(roster, human), effective(stored)), now=time())
        await save(self._w.store, self._w.changes, key, old, fresh)
        if errors:
            raise errors[0]
        return None

    async def tear_down(self, stored: Stored) -> None:
        await self._w.rooms.without(self._w.declared.names.person(stored.name))
        await self._w.forget(stored)

    async def _ensure_account(self, human: Human) -> Done:
        try:
            done = await self._w.accounts.ensure(human.name, human.user, human.shown)
        except Exception as error:
            raise readable(error, f"make the account of {human.name}") from error
        self._w.rooms.account(human.user, there=True)
        return done

    async def _ensure_rooms(self, human: Human, joined: list[str]) -> Done:
        wanted = await self._w.rooms.of(human.user)
        gate = asyncio.Semaphore(PARALLEL)

        async def bring(alias: str) -> None:
            async with gate:
                joined.append(await self._w.rooms.bring(alias))

        try:
            async with asyncio.TaskGroup() as tasks:
                for room in wanted:
                    tasks.create_task(bring(room.alias))
        except Exception as error:
            raise readable(error, f"ask {human.name} into its rooms") from error
        return Done("InLine", f"{len(joined)} room{'s' * (len(joined) != 1)}")


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
