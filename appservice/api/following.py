"""What readers follow: objects, a log, a command on its way."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Final

from aiohttp import web

from appservice.api import shapes, world
from appservice.api.routing import Call
from appservice.api.selecting import Test
from appservice.api.streaming import HEARTBEAT_S, Stream, resumed
from appservice.api.world import World
from appservice.store import versions
from appservice.store.changes import Key
from appservice.store.versions import Version

LOG_EVERY_S: Final = 1.0
LOG_LINES: Final = 1_000


async def follow_objects(the: World, call: Call, kind: str, test: Test) -> web.StreamResponse:
    """ADDED, MODIFIED and DELETED from a version on; without one, everything there is comes as ADDED first.

    A reader that is slow sees each object once, as it is by then, and not each of its changes.
    """
    given = call.query["resourceVersion"] or call.request.headers.get("Last-Event-ID", "")
    newest = await versions.newest(the.store)
    start = resumed(given, newest=newest, horizon=await versions.horizon(the.store)) if given else None
    watch = _Watch(the, kind, test)
    with the.changes.listen() as changed:
        async with the.streams.opened(call.request) as stream:
            if start is None:
                for item in await world.every(the.store, kind):
                    await watch.show(stream, "ADDED", item)
            at = newest if start is None else start
            rights = _Rights(call)
            while True:
                await rights.still()
                changed.clear()
                at = await watch.go_on(stream, at)
                if not await the.streams.until(changed):
                    if the.streams.ended:
                        break
                    await stream.send("BOOKMARK", _bookmark(kind, at), id_=str(at))
    return stream.response


class _Rights:
    """Who follows something loses it with their power, within a heartbeat."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._next = monotonic() + HEARTBEAT_S

    async def still(self) -> None:
        """Raises OpsroomError when they may not any more."""
        if monotonic() >= self._next:
            await self._call.again()
            self._next = monotonic() + HEARTBEAT_S


class _Watch:
    """`_shown`: what this reader knows of; it is told when that is none of its business any more."""

    def __init__(self, the: World, kind: str, test: Test) -> None:
        self._the = the
        self._kind = kind
        self._test = test
        self._shown: set[Key] = set()

    async def show(self, stream: Stream, type_: str, item: dict[str, Any]) -> None:
        if self._test(item):
            key = Key(item["kind"], item["metadata"]["name"])
            self._shown.add(key)
            version = item["metadata"]["resourceVersion"]
            await stream.send(type_, {"type": type_, "object": item}, id_=version)

    async def go_on(self, stream: Stream, at: int) -> int:
        """Tell what has changed after a version; the newest one that was told of."""
        for found in await versions.since(self._the.store, at):
            if self._kind in ("", found.key.kind):
                await self._tell(stream, found, at)
            at = found.version
        return at

    async def _tell(self, stream: Stream, found: Version, at: int) -> None:
        item = None if found.gone else await world.one(self._the.store, found.key)
        known = found.key in self._shown or found.born <= at
        if item is not None and self._test(item):
            await self.show(stream, "MODIFIED" if known else "ADDED", item)
        elif known:
            self._shown.discard(found.key)
            told = {"type": "DELETED", "object": item or shapes.gone(found.key, found.version)}
            await stream.send("DELETED", told, id_=str(found.version))


async def follow_log(the: World, call: Call, name: str, text: str) -> web.StreamResponse:
    """Lines as they are written."""
    before = text.splitlines()
    async with the.streams.opened(call.request) as stream:
        for line in before:
            await stream.send("line", {"line": line})
        quiet_s, rights = 0.0, _Rights(call)
        while not the.streams.ended:
            await the.streams.until(asyncio.Event(), LOG_EVERY_S)
            await rights.still()
            now = (await the.logs(name, LOG_LINES)).splitlines()
            fresh = fresh_lines(before, now)
            for line in fresh:
                await stream.send("line", {"line": line})
            before = now
            quiet_s = 0.0 if fresh else quiet_s + LOG_EVERY_S
            if quiet_s >= HEARTBEAT_S:
                quiet_s = 0.0
                await stream.send("BOOKMARK", {})
    return stream.response


def fresh_lines(before: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """Lines of a log's end that were not in the end that was seen before."""
    for start in range(len(before)):
        seen = before[start:]
        if seen == now[: len(seen)]:
            return now[len(seen) :]
    return now


async def follow_command(
    the: World, call: Call, obey: Callable[[Callable[[str], None]], Awaitable[dict[str, Any]]]
) -> web.StreamResponse:
    """How far a command is, then its answer."""
    news, shown = asyncio.Event(), [""]

    def progress(text: str) -> None:
        if text != shown[-1]:
            shown[-1] = text
            news.set()

    async with the.streams.opened(call.request) as stream:
        work = asyncio.ensure_future(obey(progress))
        work.add_done_callback(lambda _: news.set())
        try:
            while not work.done() and not the.streams.ended:
                if not await the.streams.until(news):
                    await stream.send("BOOKMARK", {})
                elif not work.done():
                    await stream.send("progress", {"text": shown[-1]})
                news.clear()
            if work.done():
                await stream.send("answer", await work)
        finally:
            work.cancel()
    return stream.response


def _bookmark(kind: str, at: int) -> dict[str, Any]:
    return {"type": "BOOKMARK", "object": {"kind": kind, "metadata": {"resourceVersion": str(at)}}}
