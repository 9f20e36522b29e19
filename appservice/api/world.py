"""What the API works with, and what its handlers have in common."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any, Protocol

from aiohttp import web

from appservice.api import shapes
from appservice.api.routing import Call
from appservice.api.streaming import Streams
from appservice.errors import NotFound
from appservice.policy.triggers import Decision
from appservice.reconcile.desk import Desk
from appservice.resources.document import Document
from appservice.store import objects, status, versions
from appservice.store.audit import Entry
from appservice.store.changes import Changes, Key, parse
from appservice.store.database import Database, Reader
from appservice.store.objects import Stored
from appservice.store.versions import Version


class Told(Protocol):
    """The end of a command. `file`: name and text; `code`: of the error that ended it."""

    @property
    def text(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def file(self) -> tuple[str, str] | None: ...
    @property
    def code(self) -> str: ...


class Obey(Protocol):
    """Run a command of the ops room for somebody; `given` is the upload it is about."""

    async def __call__(
        self, words: Sequence[str], *, user: str, cause: str, given: str, source: str, progress: Callable[[str], None]
    ) -> Told: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the API works with. `read` checks documents, `own_files` says how many files of its own an object would
    lose and how many bytes that is, `explain` takes user, agent and room as people write them."""

    store: Database
    changes: Changes
    desk: Desk
    read: Callable[[bytes, str], tuple[Document, ...]]
    logs: Callable[[str, int], Awaitable[str]]
    own_files: Callable[[Stored], Awaitable[tuple[int, int]]]
    explain: Callable[[str, str, str], Awaitable[tuple[str, str, Decision]]]
    obey: Obey
    not_ready: Callable[[], str]
    facts: Callable[[], Mapping[str, str]]
    streams: Streams = field(default_factory=Streams)


async def one(store: Reader, key: Key) -> dict[str, Any] | None:
    """An object as it is shown; None when there is none."""
    stored = await objects.get(store, key)
    if stored is None:
        return None
    owner = await objects.get(store, parse(stored.owner)) if stored.owner else None
    return shapes.shown(stored, await status.get(store, key), await versions.of(store, key), owner)


async def last(store: Reader, found: Version) -> dict[str, Any] | None:
    """An object that changed, as it is; one that is gone as it was."""
    if found.last is None:
        return await one(store, found.key)
    stored, kept = objects.stored(found.last["resource"]), found.last["status"]
    owner = await objects.get(store, parse(stored.owner)) if stored.owner else None
    return shapes.shown(stored, status.load(kept) if kept else status.Status(), found.version, owner)


async def every(store: Reader, kind: str = "") -> list[dict[str, Any]]:
    """All objects of a kind by name, as they are shown."""
    known, numbers = await status.every(store), await versions.every(store)
    everything = {stored.key: stored for stored in await objects.every(store)}
    return [
        shapes.shown(
            stored,
            known.get(stored.key, status.Status()),
            numbers.get(stored.key, 0),
            everything.get(parse(stored.owner)) if stored.owner else None,
        )
        for stored in everything.values()
        if kind in ("", stored.kind)
    ]


async def shown(store: Reader, key: Key) -> dict[str, Any]:
    """Raises NotFound."""
    found = await one(store, key)
    if found is None:
        raise nothing(key)
    return found


async def stored(store: Reader, key: Key) -> Stored:
    """Raises NotFound."""
    found = await objects.get(store, key)
    if found is None:
        raise nothing(key)
    return found


def nothing(key: Key) -> NotFound:
    return NotFound(f"There is no `{key}`.", fix="A list of its kind says what there is.")


def key_of(call: Call) -> Key:
    return Key(call.kind.name, call.name)


def entry(call: Call, action: str, target: str, verdict: str, rule: str) -> Entry:
    """A line of the audit."""
    return Entry(
        at=time(),
        actor=call.user,
        action=action,
        target=target,
        room_id="",
        verdict=verdict,
        rule=rule,
        cause=call.cause,
    )


def target(call: Call) -> str:
    """What a request is about, for the audit."""
    if call.route.kind is None:
        return call.route.id
    return str(key_of(call)) if call.name else call.kind.plural


def answered(found: Mapping[str, Any], *, status: int = 200) -> web.Response:
    etag = {"ETag": f'"{found["metadata"]["resourceVersion"]}"'}
    return web.json_response(found, status=status, headers=etag, dumps=dumps)


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
