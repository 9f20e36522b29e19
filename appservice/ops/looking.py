"""Verbs that look at the store and the world, and change nothing."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from time import time

from appservice import __version__
from appservice.errors import Invalid, NotFound, OpsroomError
from appservice.homeserver.events import Event
from appservice.ops import edited, grammar, plan, render
from appservice.ops.answer import Answer, failed
from appservice.ops.describe import describe
from appservice.ops.grammar import Asks
from appservice.ops.hands import HISTORY, Hands, Progress, checked, reference
from appservice.ops.uploads import Uploads
from appservice.policy.triggers import Decision
from appservice.resources import registry
from appservice.resources.compose import compose
from appservice.resources.printing import to_yaml
from appservice.resources.source import decode
from appservice.store import audit, inbox, objects, outbox, turns
from appservice.store.changes import Key, parse
from appservice.store.database import Reader
from appservice.store.objects import Stored
from appservice.store.status import Status

NEWS_S = 86_400.0  # a dead letter is something to look at for a day


class Looking:
    def __init__(self, hands: Hands, uploads: Uploads) -> None:
        self._h = hands
        self._uploads = uploads

    async def help(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        if not given.verb:
            return Answer(text=render.help_text())
        return Answer(text=render.help_for(grammar.find(given.verb)))

    async def version(self, _event: Event, _given: argparse.Namespace, _progress: Progress) -> Answer:
        return Answer(text=f"Opsroom {__version__}")

    async def doctor(self, _event: Event, _given: argparse.Namespace, _progress: Progress) -> Answer:
        found = await self._h.checks()
        return Answer(text=render.checks(found), ok=all(check.level != "fail" for check in found))

    async def status(self, _event: Event, _given: argparse.Namespace, _progress: Progress) -> Answer:
        pairs = await self._h.pairs()
        letters = await outbox.dead(self._h.store, since=time() - NEWS_S)
        running = await turns.open_turns(self._h.store)
        waiting = await inbox.count_open(self._h.store)
        return Answer(
            text=render.overview(
                pairs,
                checks=[check for check in await self._h.checks() if check.level != "ok"],
                letters=letters,
                running=len(running),
                waiting=waiting,
                backend=f"{self._h.backend.name}: {self._h.backend.isolation}",
                now=time(),
            )
        )

    async def get(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        if given.object.lower() == "all":
            found = await objects.every(self._h.store)
        else:
            kind, name = reference(given.object)
            if name:
                stored = await self._h.find(given.object)
                return _shown([stored], given.output, await self._h.pairs([stored]))
            found = await objects.every(self._h.store, kind)
        if not found:
            word = "objects" if given.object.lower() == "all" else registry.KINDS[kind].plural
            return Answer(text=f"There are no {word} yet. Drop a `.yaml` file here to make one.")
        return _shown(found, given.output, await self._h.pairs(found))

    async def describe(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        stored = await self._h.find(given.object)
        agents = [agent.name for agent in await self._h.agents_of(stored)]
        return Answer(text=await describe(self._h.store, stored, agents, self._h.tries(stored.key), now=time()))

    async def explain(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        asked, _, decision = await self.decide(grammar.asks(given.words))
        return Answer(text=render.decision(asked, decision, await self._source(decision)))

    async def decide(self, typed: Asks) -> tuple[Asks, Stored, Decision]:
        """What was asked with the user's whole id, the agent that is meant, and what decides. Raises OpsroomError."""
        stored = await self._h.find(typed.agent)
        asked = replace(typed, user=await self._user(typed.user))
        return asked, stored, await self._h.explain(asked.user, stored.name, await self.room(asked.room))

    async def audit(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        key = await self._h.called(given.object) if given.object else None
        target = "" if key is None else key.name if key.kind == "Worker" else str(key)
        found = await audit.newest(self._h.store, target=target, limit=max(1, min(given.last, 200)))
        return Answer(text=render.audit(found, now=time()))

    async def _user(self, word: str) -> str:
        """`bob` is the agent of that name, else the user of the Human, else the person; a full Matrix id is itself."""
        name = word.removeprefix("@")
        if ":" in name:
            return f"@{name}"
        if await objects.get(self._h.store, Key("Worker", name)):
            return self._h.names.user(name)
        human = await objects.get(self._h.store, Key("Human", name))
        return self._h.names.person((human.document["spec"].get("username") if human else "") or name)

    async def _source(self, found: Decision) -> str:
        """Where a rule stands: line and text of what was declared."""
        if not found.document:
            return ""
        stored = await objects.get(self._h.store, parse(found.document))
        if stored is None:
            return ""
        [document] = registry.parse(stored.text.encode(), source=str(stored.key))
        line = document.tree.mark(found.field).line
        return f"`{stored.key}`, line {line}: `{stored.text.splitlines()[line - 1].strip()}`"

    async def room(self, word: str) -> str:
        if word in ("", "dm") or word.startswith("!"):
            return word
        word = word if word.startswith("#") else f"#{word}"
        word = word if ":" in word else f"{word}:{self._h.settings.server_name}"
        found = await self._h.resolve(word)
        if found is None:
            raise NotFound(f"there is no room {word} on this homeserver", fix="Write its `#alias:server` or its `!id`.")
        return found

    async def edit(self, event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        key = (await self._h.own(given.object)).key

        async def unit(db: Reader) -> tuple[str, int]:
            stored = await objects.get(db, key)
            return stored.text if stored else "", await objects.newest(db, key)

        text, revision = await self._h.store.look(unit)
        # Who edits in a shell is not long about it, and the object is compared at the end.
        shown = edited.told(text, key, revision) if event.room_id else edited.without(text)
        told = "Change the file and upload it here; try it before with `!plan` as the upload's caption."
        return Answer(text=told, file=(f"{key.name}.yaml", shown))

    async def export(self, _event: Event, _given: argparse.Namespace, _progress: Progress) -> Answer:
        return exported(await objects.every(self._h.store))

    async def history(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        key = await self._h.called(given.object)
        found = await objects.history(self._h.store, key, HISTORY)
        return Answer(text=render.history(key, plan.with_fields(found), now=time()))

    async def logs(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        stored = await self._h.agent_of(await self._h.find(given.object))
        lines = max(1, min(given.lines, 5_000))
        text = (await self._h.backend.logs(stored.name, lines=lines)).rstrip()
        if not text:
            return Answer(text=f"{stored.name} has written nothing.")
        if len(text.encode()) > render.INLINE_LOG:
            tail = "\n".join(text.splitlines()[-12:])
            body = f"The last lines of {stored.name}; all {lines} are in the file.\n\n```\n{tail}\n```"
            return Answer(text=body, file=(f"{stored.name}.log", text))
        return Answer(text=f"```\n{text}\n```")

    async def plan(self, event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        data, source = await self._uploads.find(event)
        try:
            documents, seen = edited.read(checked(data, source))
            await edited.check_newest(seen, self._h.store)
            steps, _ = await self._h.desk.plan(documents, prune=given.prune)
        except OpsroomError as error:
            return failed(error, source)
        return Answer(text=plan.told(steps))


def exported(found: Sequence[Stored]) -> Answer:
    """All that is declared as one file; whether an upload may be as large."""
    declared = [stored for stored in found if not stored.deleting and not stored.owner]
    if not declared:
        return Answer(text="Nothing is declared yet.")
    text = "---\n".join(f"{edited.without(stored.text).rstrip()}\n" for stored in declared)
    try:
        fits = not compose(decode(text.encode(), source="the export")).faults
    except Invalid:
        fits = False
    again = "An upload declares them again." if fits else "That is more than one upload takes: split it into several."
    count = f"{len(declared):,} object{'s' if len(declared) > 1 else ''}"
    return Answer(text=f"{count}, as they were written. {again}", file=("opsroom.yaml", text))


def _shown(found: Sequence[Stored], output: str, pairs: Sequence[tuple[Stored, Status]]) -> Answer:
    if output == "table":
        return Answer(text=render.listing(pairs, time()))
    if output == "yaml":
        text = "---\n".join(to_yaml(s.document) for s in found)
        return Answer(text=f"```yaml\n{text}```")
    return Answer(text=f"```json\n{json.dumps([s.document for s in found], indent=2, ensure_ascii=False)}\n```")
