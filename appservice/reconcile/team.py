"""Make a Team, or a Manager, real: its rooms and files. The agents it is made of are Workers with a pass of their own;
here is only told how they are."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from time import time
from typing import Any

from appservice.policy.roster import Team
from appservice.reconcile.recording import save
from appservice.reconcile.rooms import KIND as ROOM
from appservice.reconcile.steps import Done, told
from appservice.reconcile.world import World, effective
from appservice.store import rooms, status
from appservice.store.changes import Key
from appservice.store.objects import Stored
from appservice.store.status import Condition, Status
from appservice.workspace.names import team_prefix

_FOLDERS = ("tasks", "projects", "knowledge")
_SETTLED = ("Running", "Sleeping", "Stopped")

Parts = Sequence[tuple[Stored, Status]]


class TeamReconciler:
    def __init__(self, world: World) -> None:
        self._w = world

    async def build(self, stored: Stored) -> float | None:
        key = stored.key
        facts: dict[str, Any] = {}
        team = (await self._w.declared.roster()).teams[stored.name]
        prefix = self._w.declared.prefix
        async with asyncio.TaskGroup() as tasks:
            steps = [
                tasks.create_task(told("Storage", lambda: self._ensure_storage(stored.name))),
                tasks.create_task(told("Space", lambda: self._room(facts, "spaceID", f"{prefix}space-{stored.name}"))),
                tasks.create_task(told("Room", lambda: self._room(facts, "roomID", f"{prefix}team-{stored.name}"))),
                tasks.create_task(
                    told(
                        "LeaderDirect", lambda: self._room(facts, "leaderDMRoomID", f"{prefix}leader-dm-{team.leader}")
                    )
                ),
            ]
        found = [step.result() for step in steps]
        parts = await self._w.parts(stored)
        facts |= _facts(parts, team.leader) | {"teamRoomID": facts.get("roomID", "")}
        conditions = [*(condition for condition, _ in found), _members(parts), effective(stored)]
        if team.admin or team.not_admin:
            conditions.append(await self._admin(team))
        old = await status.get(self._w.store, key)
        errors = [error for _, error in found if error]
        fresh = replace(
            old, phase=_phase(parts, broken=bool(errors)), observed_generation=stored.generation, facts=facts
        ).with_conditions(tuple(conditions), now=time())
        await save(self._w.store, self._w.changes, key, old, fresh)
        if errors:
            raise errors[0]
        return None

    async def _admin(self, team: Team) -> Condition:
        if team.not_admin:
            message = f"{team.not_admin} cannot run a team; the operators do it instead. Name somebody else as `admin`."
            return Condition(type="Admin", status="False", reason="Refused", message=message)
        if await self._w.rooms.known(team.admin):
            return Condition(type="Admin", status="True", reason="Found", message=team.admin)
        message = f"The admin {team.admin} has no account. Declare a Human, or make the account: the rooms wait for it."
        return Condition(type="Admin", status="False", reason="NotFound", message=message)

    async def _ensure_storage(self, name: str) -> Done:
        """Folders of a bucket are there once something is in them."""
        await self._w.objects.ensure_bucket()
        there = {item.key for item in await self._w.objects.list(team_prefix(name))}
        for folder in _FOLDERS:
            key = f"{team_prefix(name)}shared/{folder}/.keep"
            if key not in there:
                await self._w.objects.put(key, b"", content_type="application/octet-stream")
        return Done("Prepared", f"{self._w.objects.bucket}/{team_prefix(name)}")

    async def _room(self, facts: dict[str, Any], fact: str, alias: str) -> Done:
        facts[fact] = await self._w.rooms.bring(alias)
        return self._w.rooms.told(alias, Done("InLine", facts[fact]))

    async def tear_down(self, stored: Stored) -> None:
        """Its agents go first, each by its own pass; then its rooms. Its files stay: they are people's work."""
        if await self._w.parts(stored):
            return
        for room in await rooms.every(self._w.store):
            if room.owner == stored.name and room.purpose in ("leader-dm", "team", "team-space"):
                await self._w.rooms.reconcile(Key(ROOM, room.alias))
        await self._w.forget(stored)


class ManagerReconciler:
    def __init__(self, world: World) -> None:
        self._w = world

    async def build(self, stored: Stored) -> float | None:
        [(agent, found)] = parts = await self._w.parts(stored)
        old = await status.get(self._w.store, stored.key)
        fresh = replace(
            old,
            phase=found.phase if found.observed_generation == agent.generation else "Updating",
            observed_generation=stored.generation,
            facts=dict(found.facts),
        ).with_conditions((_members(parts), effective(stored)), now=time())
        await save(self._w.store, self._w.changes, stored.key, old, fresh)
        return None

    async def tear_down(self, stored: Stored) -> None:
        if not await self._w.parts(stored):
            await self._w.forget(stored)


def _facts(parts: Parts, leader: str) -> dict[str, Any]:
    ready = {stored.name: _is_ready(stored, found) for stored, found in parts}
    return {
        "leaderReady": ready.get(leader, False),
        "readyWorkers": sum(ready[name] for name in ready if name != leader),
        "totalWorkers": sum(name != leader for name in ready),
        "members": [
            {
                "name": stored.name,
                "role": "team_leader" if stored.name == leader else "worker",
                "roomID": found.facts.get("roomID", ""),
                "matrixUserID": found.facts.get("matrixUserID", ""),
                "ready": ready[stored.name],
            }
            for stored, found in parts
        ],
    }


def _is_ready(stored: Stored, found: Status) -> bool:
    """As declared: an agent that is meant to sleep is ready when it does."""
    return not stored.deleting and found.observed_generation == stored.generation and found.phase in _SETTLED


def _members(parts: Parts) -> Condition:
    """Whether all agents it is made of are as declared."""
    waiting = [stored.name for stored, found in parts if not _is_ready(stored, found)]
    if not waiting:
        return Condition(type="Members", status="True", reason="Ready", message=f"{len(parts)} ready")
    failed = [stored.name for stored, found in parts if found.phase == "Failed"]
    message = f"Not ready: {', '.join(waiting)}. See why with `!describe worker/{(failed or waiting)[0]}`."
    return Condition(type="Members", status="False", reason="Failed" if failed else "Waiting", message=message)


def _phase(parts: Parts, *, broken: bool) -> str:
    if broken:
        return "Failed"
    if any(found.phase == "Failed" for _, found in parts):
        return "Degraded"
    return "Active" if all(_is_ready(stored, found) for stored, found in parts) else "Pending"
