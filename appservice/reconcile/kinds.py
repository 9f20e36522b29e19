"""Which kind is whose, and what holds for all of them."""

from collections.abc import Mapping
from dataclasses import replace
from time import time
from typing import Protocol

from appservice.reconcile.engine import PASS_LIMIT_S
from appservice.reconcile.human import HumanReconciler
from appservice.reconcile.recording import save
from appservice.reconcile.rooms import KIND as ROOM
from appservice.reconcile.steps import Done, blocked, told, within
from appservice.reconcile.team import ManagerReconciler, TeamReconciler
from appservice.reconcile.worker import WorkerReconciler
from appservice.reconcile.world import World
from appservice.store import objects, status
from appservice.store.changes import Key
from appservice.store.objects import Stored

SAVING_S = 5.0  # of a pass, to write down what it came to


class Reconciler(Protocol):
    """Of one kind. Both look at the world, never at what is remembered, and may be repeated at any moment."""

    async def build(self, stored: Stored) -> float | None:
        """Make it be as declared; seconds until the next look, None for "when woken"."""

    async def tear_down(self, stored: Stored) -> None:
        """Undo what was made for it, and forget it once nothing is left."""


class Kinds:
    def __init__(self, world: World) -> None:
        self._store = world.store
        self._changes = world.changes
        self._rooms = world.rooms
        self._workers = WorkerReconciler(world)
        self._kinds: Mapping[str, Reconciler] = {
            "Worker": self._workers,
            "Team": TeamReconciler(world),
            "Manager": ManagerReconciler(world),
            "Human": HumanReconciler(world),
        }

    async def reconcile(self, key: Key) -> float | None:
        """One pass of one object; see Engine. What is paused, by itself or with its owner, is left as it is: its agents
        go on, and so does their access."""
        if key.kind == ROOM:
            return await self._rooms.reconcile(key)
        stored = await objects.get(self._store, key)
        if stored is None:
            return None
        if stored.held_by:
            return await self._workers.keep(stored) if stored.kind == "Worker" else None
        if stored.deleting:
            await self._tear_down(stored)
            return None
        with within(PASS_LIMIT_S - SAVING_S):
            return await self._kinds[key.kind].build(stored)

    async def _tear_down(self, stored: Stored) -> None:
        """One pass towards its end, and what keeps it from there."""

        async def undo() -> Done:
            await self._kinds[stored.kind].tear_down(stored)
            return Done("Gone")

        with within(PASS_LIMIT_S - SAVING_S):
            condition, error = await told("Deleted", undo)
        now = await objects.get(self._store, stored.key)
        if now is None or not now.deleting:
            return
        if error is None:
            condition = blocked("Deleted", "the agents it is made of")
        old = await status.get(self._store, stored.key)
        fresh = replace(old, phase="Deleting", observed_generation=stored.generation)
        await save(self._store, self._changes, stored.key, old, fresh.with_conditions((condition,), now=time()))
        if error is not None:
            raise error
