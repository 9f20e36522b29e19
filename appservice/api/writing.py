"""Changing. Every change goes the way a command of the ops room goes: read, checked, declared at the desk, kept with
its author and its cause, and written into the audit."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any, Final

from aiohttp import web

from appservice.api import bodies, shapes, world
from appservice.api.bodies import Written
from appservice.api.following import follow_command
from appservice.api.merging import merged
from appservice.api.problems import Malformed
from appservice.api.routing import Call
from appservice.api.world import World, answered, key_of, nothing, shown
from appservice.errors import Conflict, Invalid
from appservice.reconcile import plan as planning
from appservice.reconcile.desk import Also, First
from appservice.reconcile.plan import Step
from appservice.resources import setting
from appservice.resources.document import Document
from appservice.resources.kind import Kind
from appservice.resources.printing import to_yaml
from appservice.store import declaring, objects, versions
from appservice.store.changes import Key, parse
from appservice.store.database import Connection
from appservice.store.declaring import Accepted, Author
from appservice.store.objects import Stored

TRIES: Final = 5


class _Undone(Exception):
    """A dry run ends its unit with this: nothing of it is kept."""

    def __init__(self, done: Accepted, views: list[dict[str, Any]]) -> None:
        self.done = done
        self.views = views
        super().__init__()


class _Moved(Exception):
    """What a patch was made for is another one now."""


class Writing:
    """Handlers that change something."""

    def __init__(self, world: World) -> None:
        self._w = world

    async def create(self, call: Call, sent: tuple[bytes, str]) -> web.Response:
        kind = call.kind
        written = await asyncio.to_thread(bodies.written, *sent, kind)
        document = await self._document(written, kind, "")
        if written.version:
            raise Invalid(
                "A new object has no resourceVersion yet.", where="metadata.resourceVersion", fix="Remove it."
            )

        async def first(db: Connection) -> None:
            if await objects.get(db, key):
                raise Conflict(f"`{key}` exists already.", fix="Change it with PUT or PATCH, or choose another name.")

        key = Key(document.kind, document.name)
        return await self._declared(call, document, first, made=201)

    async def put(self, call: Call, sent: tuple[bytes, str]) -> web.Response:
        kind = call.kind
        written = await asyncio.to_thread(bodies.written, *sent, kind, call.name)
        document = await self._document(written, kind, call.name)
        seen = _seen(call, written.version)

        async def first(db: Connection) -> None:
            await self._unchanged(db, key_of(call), seen, missing_is_fine=not seen)

        return await self._declared(call, document, first, made=201)

    async def patch(self, call: Call, sent: tuple[bytes, str]) -> web.Response:
        patch = bodies.read_map(sent[0])
        return await self._patched(call, patch)

    async def wake(self, call: Call) -> web.Response:
        return await self._to_state(call, "Running")

    async def sleep(self, call: Call) -> web.Response:
        return await self._to_state(call, "Sleeping")

    async def delete(self, call: Call) -> web.Response:
        stored = await world.stored(self._w.store, key_of(call))
        _not_a_part(stored)
        files = call.query["files"]
        if not files:
            count, size = await self._w.own_files(stored)
            if count:
                what = f"{count} file{'s' if count > 1 else ''} ({size:,} bytes)"
                raise Conflict(
                    f"`{stored.key}` has {what} of its own. Nothing was changed.",
                    fix="Say what becomes of them: files=keep or files=delete.",
                )
        seen = _seen(call, "")
        keep_files = files == "keep"
        steps = planning.deletion(stored, await self._known(), keep_files=keep_files)

        async def first(db: Connection) -> None:
            await self._unchanged(db, stored.key, seen)

        views, _ = await self._done(
            call,
            lambda also: self._w.desk.delete(stored, _author(call), keep_files=keep_files, also=also, first=first),
        )
        return answered(views[0] | _plan(call, steps), status=202)

    async def restart(self, call: Call) -> web.Response:
        stored = await world.stored(self._w.store, key_of(call))
        agents = [stored] if stored.kind == "Worker" else await objects.owned_by(self._w.store, str(stored.key))
        if not agents:
            raise Conflict(f"`{stored.key}` has no sandbox.", fix="Only agents, and what is made of them, have one.")
        await self._done(call, lambda also: self._w.desk.restart(agents, _author(call), also=also))
        found = await self._w.store.look(lambda db: shown(db, stored.key))
        steps = [Step(key=one.key, action="change", note="its sandbox is made anew") for one in agents]
        return answered(found | _plan(call, steps), status=202)

    async def apply(self, call: Call, sent: tuple[bytes, str]) -> web.Response:
        data, given = await asyncio.to_thread(bodies.several, *sent)
        documents = await asyncio.to_thread(self._w.read, data, bodies.SOURCE)
        seen = [(Key(one.kind, one.name), version) for one, version in zip(documents, given, strict=True)]
        prune, expected = call.query["prune"], call.query["planDigest"]
        known = await self._known()
        steps = planning.plan(documents, known, prune=prune)

        async def first(db: Connection) -> None:
            for key, version in seen:
                await self._fresh(db, key, version)

        views, done = await self._done(
            call,
            lambda also: self._w.desk.declare(
                documents, _author(call), prune=prune, expected=expected, also=also, first=first
            ),
        )
        results = [
            {"kind": key.kind, "name": key.name, "action": action, "object": view}
            for (key, action), view in zip(done.documents, views, strict=True)
        ]
        digest = {"planDigest": planning.digest(steps, known)} if call.query["dryRun"] else {}
        return web.json_response({"results": results} | _plan(call, steps) | digest)

    async def command(self, call: Call, sent: tuple[bytes, str]) -> web.StreamResponse:
        asked = _Asked.read(bodies.read_map(sent[0]))

        async def obey(progress: Callable[[str], None]) -> dict[str, Any]:
            told = await self._w.obey(
                asked.words, user=call.user, cause=call.cause, given=asked.given, source=asked.source, progress=progress
            )
            file = {"name": told.file[0], "text": told.file[1]} if told.file else None
            return {"ok": told.ok, "text": told.text, "file": file, "code": told.code}

        if "text/event-stream" not in call.request.headers.get("Accept", ""):
            return web.json_response(await obey(lambda _text: None))
        return await follow_command(self._w, call, obey)

    async def _document(self, written: Written, kind: Kind, name: str) -> Document:
        """The one document that was sent, of the kind and name that the address says."""
        [document, *more] = await asyncio.to_thread(self._w.read, written.data, bodies.SOURCE)
        if more:
            raise Malformed("The body has several documents.", fix="Send one here; /api/v1/apply takes several.")
        if document.kind != kind.name:
            raise Invalid(
                f"The body declares a {document.kind}, and the address is that of {kind.plural}.",
                where="kind",
                fix=f"Send it to the address of its kind, or to /api/v1/apply, or write `kind: {kind.name}`.",
            )
        if name and document.name != name:
            raise Invalid(
                f"The body declares {document.name}, and the address says {name}.",
                where="metadata.name",
                fix="Nothing can be renamed: declare another object, and delete this one.",
            )
        return document

    async def _patched(self, call: Call, patch: Mapping[str, Any]) -> web.Response:
        """A patch is made for what there is; when that is another thing meanwhile, it is made again."""
        kind, key = call.kind, key_of(call)
        for _ in range(TRIES):
            base = await world.stored(self._w.store, key_of(call))
            _not_a_part(base)
            declaring.check_stays(base)
            written = await asyncio.to_thread(bodies.as_yaml, merged(base.document, patch))
            document = await self._document(written, kind, call.name)
            seen = _seen(call, written.version)

            async def first(db: Connection, base: Stored = base, seen: str = seen) -> None:
                stored = await self._unchanged(db, key, seen)
                if stored is None or stored.generation != base.generation:
                    raise _Moved

            try:
                return await self._declared(call, document, first)
            except _Moved:
                continue
        raise _restless(key)

    async def _to_state(self, call: Call, state: str) -> web.Response:
        """Where the agent is declared: in its own document, or in that of what it is part of."""
        key, seen = key_of(call), _seen(call, "")
        for _ in range(TRIES):
            agent = await world.stored(self._w.store, key)
            holder = await world.stored(self._w.store, parse(agent.owner)) if agent.owner else agent
            declaring.check_stays(agent, holder)
            [declared] = await asyncio.to_thread(self._w.read, holder.text.encode(), str(holder.key))
            path = next((part.path for part in declaring.parts(declared) if part.name == agent.name), ())
            field = ".".join(str(part) for part in path) if path[:1] == ("spec",) else "spec"
            text = to_yaml(setting.with_fields(holder.document, [f"{field}.state={state}"]))
            [document] = await asyncio.to_thread(self._w.read, text.encode(), str(holder.key))

            async def first(db: Connection, holder: Stored = holder) -> None:
                await self._fresh(db, key, seen)
                stored = await objects.get(db, holder.key)
                if stored is None or stored.generation != holder.generation:
                    raise _Moved

            try:
                return await self._declared(call, document, first, about=key)
            except _Moved:
                continue
        raise _restless(key)

    async def _declared(
        self, call: Call, document: Document, first: First, *, made: int = 200, about: Key | None = None
    ) -> web.Response:
        """Declare one document; the answer is the object that it, or `about`, names."""
        steps = planning.plan([document], await self._known())
        views, done = await self._done(
            call,
            lambda also: self._w.desk.declare([document], _author(call), also=also, first=first),
            about=about,
        )
        [(_, action)] = done.documents
        return answered(views[-1] | _plan(call, steps), status=made if action == "created" else 200)

    async def _done(
        self, call: Call, work: Callable[[Also], Awaitable[Accepted]], *, about: Key | None = None
    ) -> tuple[list[dict[str, Any]], Accepted]:
        """Do it; a dry run does all of it and takes it back."""
        views: list[dict[str, Any]] = []

        async def also(db: Connection, done: Accepted) -> None:
            keys = [*(key for key, _ in done.documents), *([about] if about else [])]
            views[:] = [await shown(db, key) for key in keys]
            if call.query.get("dryRun"):
                raise _Undone(done, views)

        try:
            return views, await work(also)
        except _Undone as undone:
            return undone.views, undone.done

    async def _unchanged(self, db: Connection, key: Key, seen: str, *, missing_is_fine: bool = False) -> Stored | None:
        """That an object may be written, and is what its writer has seen."""
        stored = await objects.get(db, key)
        if stored is None:
            if missing_is_fine:
                return None
            raise nothing(key)
        _not_a_part(stored)
        await self._fresh(db, key, seen)
        return stored

    async def _fresh(self, db: Connection, key: Key, seen: str) -> None:
        if seen and seen != str(await versions.of(db, key)):
            raise Conflict(
                f"`{key}` has changed since you read it.", fix="Read it again, and write what you want then."
            )

    async def _known(self) -> dict[Key, Stored]:
        return {stored.key: stored for stored in await objects.every(self._w.store)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A command as it was sent."""

    words: tuple[str, ...]
    given: str = ""
    source: str = "the input"

    @classmethod
    def read(cls, sent: Mapping[str, Any]) -> "_Asked":
        words, given, source = sent.get("words"), sent.get("input", ""), sent.get("source", "the input")
        fix = 'Send {"words": ["get", "workers"]}, and the text it is about as `input`.'
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise Malformed("`words` is a list of texts: the command and what follows it.", fix=fix)
        if not isinstance(given, str) or not isinstance(source, str):
            raise Malformed("`input` and `source` are texts.", fix=fix)
        if unknown := sorted(sent.keys() - {"words", "input", "source"}):
            raise Malformed(f"{len(unknown)} fields of the body are not known here.", fix=fix)
        return cls(words=tuple(words), given=given, source=source)


def _author(call: Call) -> Author:
    return Author(user=call.user, cause=call.cause, now=time())


def _not_a_part(stored: Stored) -> None:
    if stored.owner:
        raise Conflict(f"`{stored.key}` is part of `{stored.owner}`.", fix=f"Change it there: `!edit {stored.owner}`.")


def _seen(call: Call, version: str) -> str:
    """The resourceVersion that the writer has seen. Raises Malformed when they name two."""
    given: str = call.query.get("If-Match", "").strip().removeprefix("W/").strip('"')
    if given and given != "*" and version and given != version:
        raise Malformed("If-Match and metadata.resourceVersion differ.", fix="Send one of them.")
    return version or given.replace("*", "")


def _restless(key: Key) -> Conflict:
    return Conflict(f"`{key}` is changed all the time.", fix="Try it again.")


def _plan(call: Call, steps: Sequence[Step]) -> dict[str, Any]:
    return {"plan": [shapes.step(one) for one in steps]} if call.query.get("dryRun") else {}
