"""Server-sent events: one open answer a reader, with a heartbeat, ended in order when Opsroom ends.

Nothing is queued for a reader: it gets the newest state when it can take it. One that takes nothing for a while is
dropped.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, Final

import structlog
from aiohttp import web

from appservice.api import problems
from appservice.api.problems import Expired
from appservice.api.routing import EVENTS
from appservice.errors import Limit

HEARTBEAT_S: Final = 15.0
SLOW_S: Final = 20.0
MOST_READERS: Final = 200

log = structlog.get_logger()


class Slow(Exception):
    """The reader does not read."""


class Stream:
    """One reader. `send` returns once the event is with the system; raises Slow. `due_s`: how long from now until a
    reader that hears nothing else is to hear a heartbeat."""

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response
        self._sent = monotonic()

    @property
    def due_s(self) -> float:
        return max(0.0, self._sent + HEARTBEAT_S - monotonic())

    async def send(self, event: str, data: Any, *, id_: str = "") -> None:
        head = f"event: {event}\n" + (f"id: {id_}\n" if id_ else "")
        text = json.dumps(data, ensure_ascii=False)  # no line break in it
        try:
            async with asyncio.timeout(SLOW_S):
                await self.response.write(f"{head}data: {text}\n\n".encode("utf-8", "replace"))
        except TimeoutError:
            raise Slow from None
        self._sent = monotonic()


class Streams:
    """All of them. `until`: an event that a reader waits for, or some time, or the end."""

    def __init__(self) -> None:
        self._ending = asyncio.Event()
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many there are."""
        return self._open.total()

    @property
    def ended(self) -> bool:
        return self._ending.is_set()

    async def end(self, _app: web.Application | None = None) -> None:
        """Let every reader go."""
        self._ending.set()

    @asynccontextmanager
    async def opened(
        self, request: web.Request, reference: str, who: str = "readers follow something"
    ) -> AsyncIterator[Stream]:
        """What is wrong inside is the last event that the reader gets. `reference` names the request; `who`: one of
        those that are counted together. Raises Limit when there are too many."""
        if self._open[who] >= MOST_READERS:
            raise Limit(f"{MOST_READERS} {who} already.", fix="End some of them.")
        response = web.StreamResponse(headers={"Content-Type": EVENTS, "Cache-Control": "no-store"})
        self._open[who] += 1
        try:
            await response.prepare(request)
            stream = Stream(response)
            try:
                yield stream
            except ConnectionResetError:
                log.debug("reader left", path=request.path)
            except Slow:
                log.warning("slow reader dropped", path=request.path)
                if request.transport is not None:
                    request.transport.abort()
            except Exception as error:  # noqa: BLE001 - the answer has begun: this is its last event
                with suppress(ConnectionResetError, Slow):
                    await stream.send("error", self._last_word(error, reference))
            with suppress(ConnectionResetError):
                await response.write_eof()
        finally:
            self._open[who] -= 1

    async def until(self, news: asyncio.Event, timeout_s: float) -> bool:
        """Whether there is news; False after a while, or at the end."""
        waits = [asyncio.ensure_future(event.wait()) for event in (news, self._ending)]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return news.is_set() and not self.ended

    @staticmethod
    def _last_word(error: Exception, reference: str) -> dict[str, Any]:
        found = problems.foreseen(error, reference=reference)
        return problems.document(found, instance=problems.named(reference))


def resumed(given: str, *, newest: int, horizon: int) -> int:
    """The version a reader goes on from. Raises Expired when nobody can."""
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        raise problems.Malformed("resourceVersion is not one.", fix="Use that of a list, an object or a bookmark.")
    version = int(given)
    if version < horizon or version > newest:
        raise Expired("Nobody can go on from this resourceVersion.", fix="List again, and watch from the list's.")
    return version
