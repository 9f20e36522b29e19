"""Verbs that change what is declared or what runs. Each writes its outcome together with its effect, so that a repeat
after a crash changes nothing more, then waits until the world follows."""

import argparse
from collections.abc import Mapping, Sequence
from time import time
from typing import Any

from appservice.errors import Invalid, NotFound, OpsroomError
from appservice.homeserver.events import Event
from appservice.homeserver.members import short
from appservice.ops import render
from appservice.ops.answer import Answer
from appservice.ops.hands import HISTORY, Hands, Progress, checked, reference
from appservice.ops.uploads import Uploads
from appservice.resources import registry, setting
from appservice.resources.document import Document
from appservice.resources.printing import to_yaml
from appservice.store import commands, meta, objects, turns
from appservice.store.changes import Key
from appservice.store.database import Connection
from appservice.store.objects import Declared, Revision, Stored
from appservice.workspace.names import prefix

WAIT_S = 120.0
OWN_FOLDER = ".opsroom/"


class Changing:
    def __init__(self, hands: Hands, uploads: Uploads) -> None:
        self._h = hands
        self._uploads = uploads

    async def apply(self, event: Event, _given: argparse.Namespace, progress: Progress) -> Answer:
        if await self._outcome(event) is None:
            data, source = await self._uploads.find(event)
            try:
                documents = checked(data, source)
            except OpsroomError as error:
                return Answer(text=render.problems(error, source=source), ok=False)
            await self._accept(event, documents)
        return await self._settle(await self._outcome(event) or {}, progress)

    async def set(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        key = Key(*reference(given.object))
        if await self._outcome(event) is None:
            stored = await self._h.stored(key)
            text = to_yaml(setting.with_fields(stored.document, given.fields))
            documents = checked(text.encode(), str(key))
            if [(document.kind, document.name) for document in documents] != [key]:
                raise Invalid(f"`{key}` cannot be renamed.", fix="Declare another object, and delete this one.")
            await self._accept(event, documents)
        return await self._settle(await self._outcome(event) or {}, progress)

    async def rollback(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        key = Key(*reference(given.object))
        if await self._outcome(event) is None:
            earlier = _earlier(key, await objects.history(self._h.store, key, HISTORY), given.revision)
            await self._accept(event, checked(earlier.text.encode(), f"revision {earlier.revision}"))
        return await self._settle(await self._outcome(event) or {}, progress)

    async def _accept(self, event: Event, documents: Sequence[Document]) -> None:
        self._wake_all(await self._h.store.write(lambda db: self._declare(db, event, documents)))

    async def _declare(self, db: Connection, event: Event, documents: Sequence[Document]) -> dict[str, Any]:
        results = []
        for document in documents:
            declared = Declared(
                kind=document.kind,
                name=document.name,
                api_version=document.api_version,
                document=registry.canonical(document),
                text=document.text,
            )
            action = await objects.declare(db, declared, author=event.sender, cause=event.id, now=time())
            results.append([document.kind, document.name, action])
        outcome = {"results": results}
        await commands.settle(db, event.id, outcome)
        return outcome

    async def _settle(self, outcome: Mapping[str, Any], progress: Progress) -> Answer:
        """Wait until what was changed is so, showing how far it is; each object, and "ready" or why not."""
        results = [(Key(kind, name), action) for kind, name, action in outcome["results"]]
        if all(action == "unchanged" for _, action in results):
            return await self._unchanged([key for key, _ in results])

        async def settled() -> bool:
            pairs = [await self._h.pair(key) for key, _ in results]
            progress(render.progress(pairs))
            return all(s is None or render.is_settled(s, state) or render.is_stuck(s, state) for s, state in pairs)

        await self._h.changes.until(settled, WAIT_S)
        pairs = [await self._h.pair(key) for key, _ in results]
        ok = all(stored is None or render.is_settled(stored, state) for stored, state in pairs)
        lines = [render.outcome_line(action, *(await self._h.pair(key))) for key, action in results]
        text = render.lines(lines)
        return Answer(text=text if ok else f"{text}\n\nOpsroom goes on trying. See how far it is: `!status`", ok=ok)

    async def _unchanged(self, keys: Sequence[Key]) -> Answer:
        """Nothing new was declared; say so, and what is not as declared yet."""
        pairs = [await self._h.pair(key) for key in keys]
        behind = [pair for pair in pairs if pair[0] is not None and not render.is_settled(pair[0], pair[1])]
        count = f"{len(keys)} object{'s are' if len(keys) > 1 else ' is'} declared like this already."
        lines = [render.outcome_line("", *pair) for pair in behind]
        return Answer(text="\n\n".join([f"No changes. {count}", *([render.lines(lines)] if lines else [])]))

    async def delete(self, event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        key = Key(*reference(given.object, given.name))
        if await self._outcome(event) is None:
            stored = await self._h.stored(key)
            await self._ask_about_files(stored, given.files)
            await self._h.store.write(lambda db: self._begin_delete(db, event, key, keep=given.files == "keep"))
            self._h.changes.publish(key)
            self._h.wake(key)

        async def gone() -> bool:
            return await objects.get(self._h.store, key) is None

        if await self._h.changes.until(gone, WAIT_S):
            return Answer(text=f"Deleted `{key}`: its sandbox, token, storage user and room are gone.")
        return Answer(text=f"`{key}` is being deleted and is not gone yet. See why: `!describe {key}`", ok=False)

    async def _ask_about_files(self, stored: Stored, choice: str) -> None:
        """Files are somebody's work: what becomes of them must be said."""
        if choice:
            return
        start = prefix(stored.name)
        managed = await self._h.managed(stored.name)
        found = [item for item in await self._h.objects.list(start) if item.key.removeprefix(start) not in managed]
        own = [item for item in found if not item.key.removeprefix(start).startswith(OWN_FOLDER)]
        if own:
            what = f"{len(own)} file{'s' if len(own) > 1 else ''} ({render.size(sum(item.size for item in own))})"
            raise Invalid(
                f"`{stored.key}` has {what} of its own. Nothing was changed.",
                fix=f"Say what becomes of them: `!delete {stored.key} --files keep` or `--files delete`",
            )

    async def _begin_delete(self, db: Connection, event: Event, key: Key, *, keep: bool) -> None:
        await objects.begin_delete(db, key, author=event.sender, cause=event.id, now=time())
        if keep:
            await meta.put(db, meta.KEEP_FILES + key.name, event.id)
        await commands.settle(db, event.id, {"results": [[*key, "deleted"]]})

    async def restart(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        key = Key(*reference(given.object))
        if await self._outcome(event) is None:
            await self._h.stored(key)

            async def unit(db: Connection) -> None:
                await objects.mark_restart(db, key, event.id)
                await commands.settle(db, event.id, {"results": [[*key, "restarted"]]})

            await self._h.store.write(unit)
            self._h.changes.publish(key)
            self._h.wake(key)
        return await self._settle({"results": [[*key, "restarted"]]}, progress)

    async def stop(self, event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        key = Key(*reference(given.object))
        await self._h.stored(key)
        found = [turn for turn in await turns.open_turns(self._h.store) if turn.agent == key.name]
        for turn in found:
            self._h.stop_turn(turn.id, short(event.sender))
        if not found:
            return Answer(text=f"{key.name} is not answering anything.")
        return Answer(text=f"Stopped {len(found)} turn{'s' if len(found) > 1 else ''} of {key.name}.")

    async def _outcome(self, event: Event) -> dict[str, Any] | None:
        """What this command has done already, in a run that a crash ended."""
        command = await commands.get(self._h.store, event.id)
        return command.outcome if command else None

    def _wake_all(self, outcome: Mapping[str, Any]) -> None:
        for kind, name, action in outcome["results"]:
            if action != "unchanged":
                self._h.changes.publish(Key(kind, name))
                self._h.wake(Key(kind, name))


def _earlier(key: Key, found: Sequence[Revision], number: int) -> Revision:
    """The revision of that number; for 0 the last one before the newest that declared something."""
    hint = f"`!history {key}` lists them."
    if not found:
        raise NotFound(f"nothing is known of `{key}`", fix="`!get workers` lists what there is.")
    fits = [one for one in found if one.revision == number] if number else [one for one in found[1:] if one.text]
    if not fits:
        what = f"`{key}` has no revision {number}" if number else f"`{key}` has only one revision"
        raise NotFound(what, fix=hint)
    if not fits[0].text:
        raise Invalid(f"revision {number} of `{key}` deleted it.", fix=f"Use `!delete {key}` for that. {hint}")
    return fits[0]
