"""Verbs that change what is declared or what runs. Each writes its outcome together with its effect, so that a repeat
after a crash changes nothing more, then waits until the world follows."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from time import time
from typing import Any

from appservice.errors import Conflict, Invalid, OpsroomError, Unavailable
from appservice.homeserver.events import Event
from appservice.homeserver.members import short
from appservice.ops import earlier, edited, plan, render
from appservice.ops.answer import Answer, failed
from appservice.ops.hands import Hands, Progress, checked
from appservice.ops.uploads import Uploads
from appservice.reconcile import plan as planning
from appservice.reconcile.desk import Also, OtherPlan
from appservice.reconcile.plan import Step
from appservice.resources import setting
from appservice.resources.document import Document
from appservice.resources.printing import to_yaml
from appservice.storage.protocol import StoredObject
from appservice.store import commands, declaring, objects, turns
from appservice.store.changes import Key, parse
from appservice.store.database import Connection, Reader
from appservice.store.declaring import Accepted, Author
from appservice.store.objects import Stored
from appservice.store.status import Status
from appservice.workspace.names import prefix

Check = Callable[[Reader], Awaitable[None]]
Outcome = dict[str, Any]  # `results`: kind, name and what became of it

WAIT_S = 120.0
UPLOAD_S, FILES_S = 300.0, 20.0  # others wait for their turn meanwhile
TRIES = 10
OWN_FOLDER = ".opsroom/"
GONE = {
    "Worker": "its sandbox, token, storage user and room are gone.",
    "Team": "its agents and rooms are gone; the team's common files stay in the bucket.",
    "Manager": "its agent is gone.",
    "Human": "out of all rooms that follow from it; the account stays.",
}


class Changing:
    def __init__(self, hands: Hands, uploads: Uploads) -> None:
        self._h = hands
        self._uploads = uploads

    async def apply(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        source = ""

        async def work() -> Outcome:
            nonlocal source
            data, source = await self._upload(event)
            documents, seen = edited.read(checked(data, source))
            first = partial(edited.check_newest, seen)
            return await self._declare(event, documents, given, prune=given.prune, first=first)

        try:
            outcome = await self._once(event, work)
        except OpsroomError as error:
            return failed(error, source)
        return await self._settle(outcome, progress)

    async def _upload(self, event: Event) -> tuple[bytes, str]:
        try:
            async with asyncio.timeout(UPLOAD_S):
                return await self._uploads.find(event)
        except TimeoutError:
            what = f"the upload could not be read within {UPLOAD_S / 60:.0f} minutes. Nothing was changed."
            raise Unavailable(what, fix="Reply `!apply` to it to try it again.") from None

    async def set(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        async def work() -> Outcome:
            stored = await self._h.own(given.object)
            declaring.check_stays(stored)
            text = to_yaml(setting.with_fields(stored.document, given.fields))
            documents = checked(text.encode(), str(stored.key))
            if [(document.kind, document.name) for document in documents] != [stored.key]:
                raise Invalid(f"`{stored.key}` cannot be renamed.", fix="Declare another object, and delete this one.")
            return await self._declare(event, documents, given, first=partial(_still, stored))

        return await self._settle(await self._once(event, work), progress)

    async def sleep(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        return await self._to_state(event, given, progress, "Sleeping")

    async def wake(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        return await self._to_state(event, given, progress, "Running")

    async def _to_state(self, event: Event, given: argparse.Namespace, progress: Progress, state: str) -> Answer:
        """Where the agent is declared: in its own document, or in that of what it is part of."""

        async def work() -> Outcome:
            agent = await self._h.find(given.object)
            base = (await objects.get(self._h.store, parse(agent.owner)) if agent.owner else None) or agent
            declaring.check_stays(agent, base)
            [document] = checked(base.text.encode(), str(base.key))
            path = next((part.path for part in declaring.parts(document) if part.name == agent.name), ("spec",))
            field = ".".join(str(part) for part in (path if path[0] == "spec" else ("spec",)))
            text = to_yaml(setting.with_fields(base.document, [f"{field}.state={state}"]))
            return await self._declare(event, checked(text.encode(), str(base.key)), given, first=partial(_still, base))

        return await self._settle(await self._once(event, work), progress)

    async def rollback(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        async def work() -> Outcome:
            found = await earlier.wanted(self._h, given.object, given.revision)
            first = partial(_newest, found.newest)
            return await self._declare(event, found.documents, given, joining=found.joining, first=first)

        return await self._settle(await self._once(event, work), progress)

    async def _once(self, event: Event, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """What a command does in its turn, unless an earlier run that a crash ended has done it already. It is done
        again when what it was made for is another thing meanwhile: REST and the journal wait for nobody's turn."""
        await self._h.order.turn(event.id)
        try:
            command = await commands.get(self._h.store, event.id)
            if command is not None and command.outcome is not None:
                return command.outcome
            for _ in range(TRIES):
                try:
                    return await work()
                except _Moved:
                    continue
            raise Conflict("others change the same all the time. Nothing was done.", fix="Try it again.")
        finally:
            self._h.order.leave(event.id)

    async def _declare(
        self,
        event: Event,
        documents: Sequence[Document],
        given: argparse.Namespace,
        *,
        prune: bool = False,
        joining: Collection[Key] = (),
        first: Check | None = None,
    ) -> Outcome:
        """`first`: what must hold of the store. Raises what that does, and _Moved when something else would happen than
        was planned, which may have to be asked about."""
        first = first or _anything
        await first(self._h.store)  # before somebody is asked
        steps, known = await self._h.desk.plan(documents, prune=prune, joining=joining)
        asked = await self._agreed(event, steps, known, given)
        expected = "" if given.yes else planning.digest(steps, known)

        try:
            done = await self._h.desk.declare(
                documents,
                _author(event),
                prune=prune,
                joining=joining,
                expected=expected,
                also=_settled_by(event),
                first=first,
            )
        except OtherPlan as error:
            if asked:
                raise
            raise _Moved from error
        return _outcome(done)

    async def _agreed(
        self, event: Event, steps: Sequence[Step], known: Mapping[Key, Stored], given: argparse.Namespace
    ) -> str:
        """The digest of a plan that destroys something, once an operator has agreed to it; '' for another one. Raises
        Conflict when a question is open already, from before a crash or a change by others, and was another one."""
        if given.yes or not planning.destroys(steps):
            return ""
        digest = planning.digest(steps, known)
        if await self._h.store.write(lambda db: commands.ask(db, event.id, digest)) != digest:
            raise Conflict(
                "what was asked here is not what would happen now: something has changed meanwhile. Nothing was done.",
                fix="Say it again.",
            )
        await self._h.confirm(event, plan.to_agree(steps))
        return digest

    async def _settle(self, outcome: Outcome, progress: Progress) -> Answer:
        """Wait until what was changed is so, showing how far it is; each object, and "ready" or why not."""
        results = [(Key(kind, name), action) for kind, name, action in outcome["results"]]
        if all(action == "unchanged" for _, action in results):
            return await self._unchanged([key for key, _ in results])

        async def settled() -> bool:
            pairs = [await self._h.pair(key) for key, _ in results]
            progress(render.progress(pairs))
            return all(_is_so(stored, state) or (stored and render.is_stuck(stored, state)) for stored, state in pairs)

        await self._h.changes.until(settled, WAIT_S)
        pairs = [await self._h.pair(key) for key, _ in results]
        ok = all(_is_so(*pair) for pair in pairs)
        lines = [render.outcome_line(action, *(await self._h.pair(key)), key) for key, action in results]
        text = render.lines(lines)
        return Answer(text=text if ok else f"{text}\n\nOpsroom goes on trying. See how far it is: `!status`", ok=ok)

    async def _unchanged(self, keys: Sequence[Key]) -> Answer:
        """Nothing new was declared; say so, and what is not as declared yet."""
        pairs = [await self._h.pair(key) for key in keys]
        behind = [pair for pair in pairs if pair[0] is not None and not render.is_settled(pair[0], pair[1])]
        count = f"{len(keys)} object{'s are' if len(keys) > 1 else ' is'} like this already."
        lines = [render.outcome_line("", *pair) for pair in behind]
        return Answer(text="\n\n".join([f"No changes. {count}", *([render.lines(lines)] if lines else [])]))

    async def delete(self, event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        async def work() -> Outcome:
            stored = await self._h.own(given.object)
            await self._ask_about_files(stored, given.files)
            known, keep = await self._h.known(), given.files == "keep"
            steps = planning.deletion(stored, known, keep_files=keep)
            expected = await self._agreed(event, steps, known, given)
            if expected:  # it may have made some while somebody was asked
                await self._ask_about_files(stored, given.files)
            return _outcome(
                await self._h.desk.delete(
                    stored, _author(event), keep_files=keep, expected=expected, also=_settled_by(event)
                )
            )

        [[kind, name, _]] = (await self._once(event, work))["results"]
        key = Key(kind, name)

        async def gone() -> bool:
            return await objects.get(self._h.store, key) is None

        if await self._h.changes.until(gone, WAIT_S):
            return Answer(text=f"Deleted `{key}`: {GONE[kind]}")
        return Answer(text=f"`{key}` is being deleted and is not gone yet. See why: `!describe {key}`", ok=False)

    async def _ask_about_files(self, stored: Stored, choice: str) -> None:
        """Files are somebody's work: what becomes of them must be said."""
        if choice:
            return
        fix = f"Say what becomes of them: `!delete {stored.key} --files keep` or `--files delete`"
        try:
            async with asyncio.timeout(FILES_S):
                own = await self.own_files(stored)
        except TimeoutError:
            what = f"storage did not say within {FILES_S:.0f} seconds which files `{stored.key}` has."
            raise Unavailable(f"{what} Nothing was changed.", fix=fix) from None
        if own:
            what = f"{len(own)} file{'s' if len(own) > 1 else ''} ({render.size(sum(item.size for item in own))})"
            raise Invalid(
                f"`{stored.key}` has {what} of its own. Nothing was changed.",
                fix=fix,
            )

    async def own_files(self, stored: Stored) -> list[StoredObject]:
        """What an agent, or the agents of an object, made themselves."""
        agents = await self._h.agents_of(stored)
        return [item for agent in agents for item in await self._files_of(agent.name)]

    async def _files_of(self, agent: str) -> list[StoredObject]:
        start = prefix(agent)
        managed = await self._h.managed(agent)
        found = [item for item in await self._h.objects.list(start) if item.key.removeprefix(start) not in managed]
        return [item for item in found if not item.key.removeprefix(start).startswith(OWN_FOLDER)]

    async def restart(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        """Of an agent, or of all agents that an object is made of."""

        async def work() -> Outcome:
            stored = await self._h.find(given.object)
            agents = await self._h.agents_of(stored)
            if not agents:
                raise Invalid(f"`{stored.key}` has no sandbox.", fix="`!get workers` lists what has.")
            return _outcome(await self._h.desk.restart(agents, _author(event), also=_settled_by(event)))

        return await self._settle(await self._once(event, work), progress)

    async def pause(self, event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        outcome = await self._once(event, lambda: self._set_paused(event, given, paused=True))
        [[kind, name, action]] = outcome["results"]
        key = Key(kind, name)
        if action == "unchanged":
            return Answer(text=f"`{key}` is paused already. Go on with `!resume {key}`")
        text = f"Paused `{key}`: Opsroom leaves it as it is, whatever is declared. Agents that run go on running."
        return Answer(text=f"{text} Go on with `!resume {key}`")

    async def resume(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        outcome = await self._once(event, lambda: self._set_paused(event, given, paused=False))
        return await self._settle(outcome, progress)

    async def _set_paused(self, event: Event, given: argparse.Namespace, *, paused: bool) -> Outcome:
        stored = await self._h.own(given.object)
        return _outcome(await self._h.desk.set_paused(stored, _author(event), paused=paused, also=_settled_by(event)))

    async def stop(self, event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        stored = await self._h.find(given.object)
        agents = {agent.name for agent in await self._h.agents_of(stored)}
        found = [turn for turn in await turns.open_turns(self._h.store) if turn.agent in agents]
        for turn in found:
            self._h.stop_turn(turn.id, short(event.sender))
        if not found:
            return Answer(text=f"{stored.name} is not answering anything.")
        return Answer(text=f"Stopped {len(found)} turn{'s' if len(found) > 1 else ''} of {stored.name}.")


def _is_so(stored: Stored | None, state: Status) -> bool:
    """Whether an object is as declared, or is not to become so now."""
    return stored is None or stored.held_by != "" or render.is_settled(stored, state)


class _Moved(Exception):
    """What a change was made for is another thing by now."""


async def _anything(_store: Reader) -> None: ...


async def _still(base: Stored, store: Reader) -> None:
    """That an object is what documents were made from."""
    now = await objects.get(store, base.key)
    if now is None or now.generation != base.generation:
        raise _Moved


async def _newest(seen: Mapping[Key, int], store: Reader) -> None:
    """That nothing was done to objects since it was found out what they were before: it would go unseen."""
    for key, number in seen.items():
        if await objects.newest(store, key) != number:
            fix = f"See what it was with `!history {key}`, and say it again if it is to be taken back."
            raise Conflict(f"`{key}` was changed by somebody just now. Nothing was done.", fix=fix)


def _outcome(done: Accepted) -> Outcome:
    return {"results": [[*key, action] for key, action in done.documents]}


def _settled_by(event: Event) -> Also:
    """Keep with the effect that this command had it."""

    async def unit(db: Connection, done: Accepted) -> None:
        await commands.settle(db, event.id, _outcome(done))

    return unit


def _author(event: Event) -> Author:
    return Author(user=event.sender, cause=event.id, now=time())
