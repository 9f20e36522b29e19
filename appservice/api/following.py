"""What readers follow: objects, a log, a command on its way."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Final

from aiohttp import web

from appservice.api import world
from appservice.api.routing import Call
from appservice.api.selecting import Test, by_name
from appservice.api.streaming import HEARTBEAT_S, Stream, resumed
from appservice.api.world import World
from appservice.store import versions
from appservice.store.changes import Key
from appservice.store.database import Connection
from appservice.store.versions import Version

LOG_EVERY_S: Final = 1.0
LOG_LINES: Final = 1_000
NOWHERE: Final = -1  # before every version


async def follow_objects(the: World, call: Call, kind: str, test: Test, steady: Test) -> web.StreamResponse:
    """ADDED, MODIFIED and DELETED from a version on; without one, everything there is comes as ADDED first. `steady`:
    the part of the test that is about labels and owners.

    A reader that is slow sees each object once, as it is by then, and not each of its changes.
    """
    given = call.query["Last-Event-ID"] or call.query["resourceVersion"]
    newest = await versions.newest(the.store)
    start = resumed(given, newest=newest, horizon=await versions.horizon(the.store)) if given else NOWHERE
    watch = _Watch(the, kind, test, steady, by_name(call.query["fieldSelector"]), start)
    with the.changes.listen() as changed:
        async with the.streams.opened(call.request, call.id) as stream:
            at = await watch.begin(stream) if start == NOWHERE else start
            rights = _Rights(call)
            while not the.streams.ended:
                await rights.still()
                changed.clear()
                at = await watch.go_on(stream, at)
                if not stream.due_s:  # what changes may be no business of this reader
                    await stream.send("BOOKMARK", _bookmark(kind, at), id_=str(at))
                await the.streams.until(changed, stream.due_s)
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
    """What this reader has: it is told when that is none of its business any more. Whether it has what is older than
    its `start` follows from names, and from labels that are still the same; else nobody knows, and it is told."""

    def __init__(
        self, the: World, kind: str, test: Test, steady: Test, named: Callable[[str], bool], start: int
    ) -> None:
        self._the = the
        self._kind = kind
        self._test = test
        self._steady = steady
        self._named = named
        self._start = start
        self._has: dict[Key, bool] = {}

    async def begin(self, stream: Stream) -> int:
        """Tell everything there is; the version it is of. Nobody can resume from within: only the end has an id."""

        async def everything(db: Connection) -> tuple[int, list[dict[str, Any]]]:
            return await versions.newest(db), await world.every(db, self._kind)

        at, items = await self._the.store.look(everything)
        for item in items:
            if self._test(item):
                self._has[Key(item["kind"], item["metadata"]["name"])] = True
                await stream.send("ADDED", {"type": "ADDED", "object": item})
        await stream.send("BOOKMARK", _bookmark(self._kind, at), id_=str(at))
        return at

    async def go_on(self, stream: Stream, at: int) -> int:
        """Tell what has changed after a version; the newest one that was told of."""

        async def news(db: Connection) -> list[tuple[Version, dict[str, Any] | None]]:
            return [(found, await world.last(db, found)) for found in await versions.since(db, at)]

        for found, item in await self._the.store.look(news):
            if item is not None and self._kind in ("", found.key.kind) and self._named(found.key.name):
                await self._tell(stream, found, item)
            at = found.version
        return at

    async def _tell(self, stream: Stream, found: Version, item: dict[str, Any]) -> None:
        had = found.born <= self._start and (found.labelled > self._start or self._steady(item))
        has = self._has.get(found.key, had)
        fits = self._has[found.key] = found.last is None and self._test(item)
        if fits or has:
            type_ = "DELETED" if not fits else "MODIFIED" if has else "ADDED"
            await stream.send(type_, {"type": type_, "object": item}, id_=str(found.version))


async def follow_log(the: World, call: Call, name: str, lines: int) -> web.StreamResponse:
    """The last lines, then others as they are written. As much is read each time, for each to be compared with all."""
    most = max(lines, LOG_LINES)
    before = (await the.logs(name, most)).splitlines()
    async with the.streams.opened(call.request, call.id) as stream:
        for line in before[-lines:]:
            await stream.send("line", {"line": line})
        rights = _Rights(call)
        while not the.streams.ended:
            await the.streams.until(asyncio.Event(), LOG_EVERY_S)
            await rights.still()
            now = (await the.logs(name, most)).splitlines()
            fresh = fresh_lines(before, now)
            for line in fresh:
                await stream.send("line", {"line": line})
            before = now
            if stream.due_s < LOG_EVERY_S:
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

    async with the.streams.opened(call.request, call.id, "commands run") as stream:
        work = asyncio.ensure_future(obey(progress))
        work.add_done_callback(lambda _: news.set())
        try:
            while not work.done() and not the.streams.ended:
                if not await the.streams.until(news, stream.due_s):
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
