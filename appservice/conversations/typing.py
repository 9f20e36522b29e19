"""Typing notices: an agent is seen to type while it has a turn in the room."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

from appservice.homeserver.client import ERRORS, Homeserver
from appservice.store.turns import Turn

AFTER_S = 0.01  # the question goes first
EVERY_S = 20.0

log = structlog.get_logger()


class Typing:
    """`user`: who an agent speaks as; `own` runs what outlasts its turn."""

    def __init__(
        self, homeserver: Homeserver, user: Callable[[str], str], own: Callable[[Coroutine[Any, Any, None], str], None]
    ) -> None:
        self._homeserver = homeserver
        self._user = user
        self._own = own
        self._typing: dict[tuple[str, str], int] = {}

    @asynccontextmanager
    async def notice(self, turn: Turn) -> AsyncIterator[None]:
        place = (turn.room_id, turn.agent)
        self._typing[place] = self._typing.get(place, 0) + 1
        task = asyncio.create_task(self._keep(turn))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._typing[place] -= 1
            if not self._typing[place]:
                del self._typing[place]
                self._own(self._type(turn, typing=False), "typing ends")

    async def _keep(self, turn: Turn) -> None:
        await asyncio.sleep(AFTER_S)
        while True:
            await self._type(turn, typing=True)
            await asyncio.sleep(EVERY_S)

    async def _type(self, turn: Turn, *, typing: bool) -> None:
        user = self._user(turn.agent)
        try:
            await self._homeserver.typing(turn.room_id, user=user, typing=typing)
        except ERRORS as error:
            log.debug("typing lost", error=type(error).__name__)
