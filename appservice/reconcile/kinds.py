"""Which kind is whose, and what holds for all of them."""

from collections.abc import Mapping
from typing import Protocol

from appservice.reconcile.human import HumanReconciler
from appservice.reconcile.rooms import KIND as ROOM
from appservice.reconcile.team import ManagerReconciler, TeamReconciler
from appservice.reconcile.worker import WorkerReconciler
from appservice.reconcile.world import World
from appservice.store import objects
from appservice.store.changes import Key
from appservice.store.objects import Stored


class Reconciler(Protocol):
    """Of one kind. Both look at the world, never at what is remembered, and may be repeated at any moment."""

    async def build(self, stored: Stored) -> float | None:
        """Make it be as declared; seconds until the next look, None for "when woken"."""

    async def tear_down(self, stored: Stored) -> None:
        """Undo what was made for it, and forget it once nothing is left."""


class Kinds:
    def __init__(self, world: World) -> None:
        self._store = world.store
        self._rooms = world.rooms
        self._kinds: Mapping[str, Reconciler] = {
            "Worker": WorkerReconciler(world),
            "Team": TeamReconciler(world),
            "Manager": ManagerReconciler(world),
            "Human": HumanReconciler(world),
        }

    async def reconcile(self, key: Key) -> float | None:
        """One pass of one object; see Engine. What is paused, by itself or with its owner, is left as it is."""
        if key.kind == ROOM:
            return await self._rooms.reconcile(key)
        stored = await objects.get(self._store, key)
        if stored is None or await objects.is_paused(self._store, stored):
            return None
        if stored.deleting:
            await self._kinds[key.kind].tear_down(stored)
            return None
        return await self._kinds[key.kind].build(stored)
