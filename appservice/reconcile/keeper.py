"""The gateway's state, computed whole from the store; many askers, one write at a time."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import time

from appservice.errors import NotFound
from appservice.gateway.protocol import Consumer, Gateway, GatewayState, Provider
from appservice.store import consumers, objects
from appservice.store.database import Database
from appservice.store.objects import Stored


class GatewayKeeper:
    """`sync` returns once the gateway runs a state that is not older than the call."""

    def __init__(
        self, store: Database, gateway: Gateway, providers: tuple[Provider, ...], route: Callable[[str], str]
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._providers = providers
        self._route = route
        self._lock = asyncio.Lock()
        self._asked = 0
        self._done = 0

    def check(self, model: str) -> None:
        """Raise NotFound when no provider serves this model."""
        self._route(model)

    async def sync(self) -> bool:
        """True if anything was written."""
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._done >= mine:
                return False  # a sync that began after our call has done it
            upto = self._asked
            written = await self._gateway.apply(await self.state())
            self._done = upto
            return written

    async def state(self) -> GatewayState:
        """Consumers, routes and revoked tokens as declared."""
        found, routes = routed(await objects.every(self._store, "Worker"), self._route)
        return GatewayState(
            consumers=found,
            providers=self._providers,
            routes=routes,
            revoked=await consumers.revoked(self._store, now=int(time())),
        )


def routed(
    workers: Iterable[Stored], route: Callable[[str], str]
) -> tuple[tuple[Consumer, ...], tuple[tuple[str, str], ...]]:
    """Who may use which model, and where each is had. A model that no provider serves is nobody's: its worker's own
    pass says so."""
    found, routes = [], {}
    for stored in workers:
        if stored.deleting:
            continue
        model = str(stored.document["spec"]["model"])
        with suppress(NotFound):
            routes[model] = route(model)
        found.append(Consumer(name=stored.name, models=frozenset({model} & routes.keys())))
    return tuple(found), tuple(sorted(routes.items()))
