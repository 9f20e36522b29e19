"""Make a Team, or a Manager, real: its rooms and files. The agents it is made of are Workers with a pass of their own;
here is only told how they are."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from time import time
from typing import Any

from appservice.homeserver import content
from appservice.homeserver.client import readable
from appservice.policy.roster import Team
from appservice.reconcile.recording import save
from appservice.reconcile.rooms import KIND as ROOM
from appservice.reconcile.steps import Done, Waiting, told
from appservice.reconcile.world import World, effective
from appservice.store import outbox, rooms, status
from appservice.store.changes import Key
from appservice.store.objects import Stored
from appservice.store.outbox import Outgoing
from appservice.store.status import SETTLED, Condition, Status, is_current
from appservice.workspace.names import team_prefix

_FOLDERS = ("tasks", "projects", "knowledge")
WELCOME = (
    "Hello, I am your Manager. In this room every message is for me, without a mention. In the rooms of leaders and of"
    " workers that are in no team, mention me: there I can give them work."
)
ADMIN_LOOK_S = 30.0  # whether somebody has an account by now

Parts = Sequence[tuple[Stored, Status]]


class TeamReconciler:
    def __init__(self, world: World) -> None:
        self._w = world

    async def build(self, stored: Stored) -> float | None:
        key = stored.key
        old = await status.get(self._w.store, key)
        facts: dict[str, Any] = dict(old.facts)
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
            if team.admin or team.not_admin:
                steps.append(tasks.create_task(told("Admin", lambda: self._admin(team))))
        found = [step.result() for step in steps]
        parts = await self._w.parts(stored)
        facts |= _facts(parts, team.leader) | {"teamRoomID": facts.get("roomID", "")}
        errors = [error for _, error in found if error]
        was_built = old.observed_generation > 0 and old.phase not in ("Failed", "Deleting")
        stood = is_current(stored, old) and old.phase in ("Active", "Degraded")
        fresh = replace(
            old,
            phase=phase(parts, failed=bool(errors), was_built=was_built, stood=stood),
            observed_generation=stored.generation,
            facts=facts,
        ).with_conditions((*(one for one, _ in found), _members(parts), effective(stored)), now=time())
        await save(self._w.store, self._w.changes, key, old, fresh)
        if errors:
            raise errors[0]
        admin = fresh.condition("Admin")
        return ADMIN_LOOK_S if admin is not None and admin.status == "False" else None

    async def _admin(self, team: Team) -> Done:
        if team.not_admin:
            said = f"{team.not_admin} cannot run a team; the operators do it instead. Name somebody else as `admin`."
            raise Waiting("Refused", said)
        if not await self._w.rooms.known(team.admin):
            fix = "Declare a Human, or make the account: the rooms wait for it."
            raise Waiting("NotFound", f"The admin {team.admin} has no account. {fix}")
        return Done("Found", team.admin)

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
        facts = {name: fact for name, fact in found.facts.items() if name not in ("restart", "exposedPorts")}
        greeted = bool(old.facts.get("welcomeSent"))
        conditions, errors = [_members(parts), effective(stored)], []
        if not greeted and is_current(agent, found) and found.phase == "Running":
            condition, error = await told("Welcome", lambda: self._welcome(agent, found.facts["roomID"]))
            greeted = error is None
            conditions += [condition] if error else []
            errors += [error] if error else []
        fresh = replace(
            old,
            phase=found.phase if is_current(agent, found) else "Updating",
            observed_generation=stored.generation,
            facts=facts | {"welcomeSent": greeted},
        ).with_conditions(tuple(conditions), now=time())
        await save(self._w.store, self._w.changes, stored.key, old, fresh)
        if errors:
            raise errors[0]
        return None

    async def _welcome(self, agent: Stored, room: str) -> Done:
        """A first word in its room, unless there was one."""
        user = self._w.declared.names.user(agent.name)
        try:
            page, _ = await self._w.homeserver.messages(room, user=user)
        except Exception as error:
            raise readable(error, "look into the Manager's room") from error
        if any(event["type"] == "m.room.message" for event in page):
            return Done("NotNeeded")
        item = Outgoing(
            txn_id=f"welcome.{room}",
            room_id=room,
            sender=user,
            type="m.room.message",
            content=content.message(WELCOME),
            cause=str(agent.key),
        )
        await self._w.store.write(lambda db: outbox.add(db, item, now=time()))
        self._w.sender.soon(item)
        return Done("Sent")

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
                "observed": bool(found.facts.get("matrixUserID")),
                "ready": ready[stored.name],
                "specHash": sha256(json.dumps(stored.document["spec"], sort_keys=True).encode()).hexdigest()[:16],
                "exposedPorts": found.facts.get("exposedPorts", []),
            }
            for stored, found in parts
        ],
    }


def _is_ready(stored: Stored, found: Status) -> bool:
    """As declared: an agent that is meant to sleep is ready when it does."""
    return not stored.deleting and is_current(stored, found) and found.phase in SETTLED


def _members(parts: Parts) -> Condition:
    """Whether all agents it is made of are as declared."""
    waiting = [stored.name for stored, found in parts if not _is_ready(stored, found)]
    if not waiting:
        return Condition(type="Members", status="True", reason="Ready", message=f"{len(parts)} ready")
    failed = [stored.name for stored, found in parts if is_current(stored, found) and found.phase == "Failed"]
    message = f"Not ready: {', '.join(waiting)}. See why with `!describe worker/{(failed or waiting)[0]}`."
    return Condition(type="Members", status="False", reason="Failed" if failed else "Waiting", message=message)


def phase(parts: Parts, *, failed: bool, was_built: bool, stood: bool) -> str:
    """`failed`: a step of its own did. `was_built`: never mind, it goes on working; `stood`: as it is declared now."""
    if failed and not was_built:
        return "Failed"
    if any(found.phase == "Failed" for _, found in parts):
        return "Degraded"
    ready = all(_is_ready(stored, found) for stored, found in parts) and (stood or not failed)
    return "Active" if ready else "Pending"
