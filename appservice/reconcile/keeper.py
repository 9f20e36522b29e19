"""The gateway's state, computed whole from the store; many askers, one write at a time."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import time

from appservice.errors import NotFound
from appservice.gateway.protocol import Consumer, Gateway, GatewayState, Provider
from appservice.resources.worker import DEFAULT_MODEL
from appservice.store import consumers, objects
from appservice.store.database import Database
from appservice.store.objects import Stored


class GatewayKeeper:
    """`sync` returns once the gateway runs a state that is not older than the call."""

    def __init__(
        self,
        store: Database,
        gateway: Gateway,
        providers: tuple[Provider, ...],
        route: Callable[[str], str],
        *,
        default_model: str,
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._providers = providers
        self._route = route
        self._default_model = default_model
        self._lock = asyncio.Lock()
        self._asked = 0
        self._done = 0

    def model(self, declared: str) -> str:
        """What an agent uses; '' when its document leaves it to the settings, and these say nothing."""
        return self._default_model if declared == DEFAULT_MODEL else declared

    def check(self, model: str) -> None:
        """Raise NotFound when there is no model, or no provider serves it."""
        if not model:
            fix = "Name one as `model` in its document, or for all as `agents.model` in the settings."
            raise NotFound("Nothing says which model it uses.", fix=fix)
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
        found, routes = routed(await objects.every(self._store, "Worker"), self._route, self.model)
        return GatewayState(
            consumers=found,
            providers=self._providers,
            routes=routes,
            revoked=await consumers.revoked(self._store, now=int(time())),
        )


def routed(
    workers: Iterable[Stored], route: Callable[[str], str], meant: Callable[[str], str]
) -> tuple[tuple[Consumer, ...], tuple[tuple[str, str], ...]]:
    """Who may use which model, and where each is had. `meant`: the model that a declared one stands for. One that no
    provider serves is nobody's: its worker's own pass says so."""
    found: list[Consumer] = []
    routes: dict[str, str] = {}
    for stored in workers:
        if stored.deleting:
            continue
        model = meant(str(stored.document["spec"]["model"]))
        with suppress(NotFound):
            if model:
                routes[model] = route(model)
        found.append(Consumer(name=stored.name, models=frozenset({model} & routes.keys())))
    return tuple(found), tuple(sorted(routes.items()))
