"""Which kind is whose."""

from appservice.reconcile.human import HumanReconciler
from appservice.reconcile.rooms import KIND as ROOM
from appservice.reconcile.team import ManagerReconciler, TeamReconciler
from appservice.reconcile.worker import WorkerReconciler
from appservice.reconcile.world import World
from appservice.store import objects
from appservice.store.changes import Key


class Kinds:
    def __init__(self, world: World) -> None:
        self._store = world.store
        self._reconcile = {
            "Worker": WorkerReconciler(world).reconcile,
            "Team": TeamReconciler(world).reconcile,
            "Manager": ManagerReconciler(world).reconcile,
            "Human": HumanReconciler(world).reconcile,
            ROOM: world.rooms.reconcile,
        }

    async def reconcile(self, key: Key) -> float | None:
        """One pass of one object; see Engine. What is paused, by itself or with its owner, is left as it is."""
        stored = await objects.get(self._store, key)
        if stored is not None and await objects.is_paused(self._store, stored):
            return None
        return await self._reconcile[key.kind](key)
