"""What each verb does. Reading verbs look at the store and the world; changing verbs write their outcome together
with their effect, then wait until the world follows."""

import argparse
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any

from appservice import __version__
from appservice.backends.protocol import Backend
from appservice.config import Settings
from appservice.errors import Invalid, NotFound, OpsroomError
from appservice.health import Health
from appservice.homeserver.events import Event
from appservice.homeserver.members import short
from appservice.ops import grammar, plan, render
from appservice.ops.answer import Answer
from appservice.ops.describe import describe
from appservice.ops.uploads import Uploads
from appservice.policy.triggers import Decision
from appservice.resources import registry, setting
from appservice.resources.document import Document
from appservice.resources.printing import to_yaml
from appservice.resources.source import FieldPath
from appservice.resources.suggest import nearest
from appservice.resources.worker import WorkerSpec
from appservice.storage.protocol import Objects
from appservice.store import commands, inbox, meta, objects, outbox, status, turns
from appservice.store.changes import Changes, Key
from appservice.store.database import Connection, Database
from appservice.store.objects import Declared, Revision, Stored
from appservice.store.status import Status
from appservice.workspace import skills
from appservice.workspace.names import prefix

WAIT_S = 120.0
NEWS_S = 86_400.0  # a dead letter is something to look at for a day
OWN_FOLDER = ".opsroom/"
HISTORY = 50  # revisions that a command looks back

_KINDS_TO_COME = frozenset(word for kind in registry.NOT_YET for word in (kind.lower(), f"{kind.lower()}s"))

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What verbs work with. `wake` a key's reconciliation at once, `stop_turn` by id and name, `checks` for the
    doctor, `managed` the paths in an agent's prefix that are not its own work, `explain` who may ask whom in which
    room, `resolve` an alias to a room's id."""

    settings: Settings
    store: Database
    changes: Changes
    backend: Backend
    objects: Objects
    wake: Callable[[Key], None]
    stop_turn: Callable[[str, str], None]
    checks: Callable[[], Awaitable[Sequence[Health]]]
    managed: Callable[[str], Awaitable[frozenset[str]]]
    explain: Callable[[str, str, str], Awaitable[Decision]]
    resolve: Callable[[str], Awaitable[str | None]]


class Verbs:
    def __init__(self, hands: Hands, uploads: Uploads) -> None:
        self._h = hands
        self._uploads = uploads
        self._verbs: Mapping[str, Callable[[Event, argparse.Namespace, Progress], Awaitable[Answer]]] = {
            "help": self._help,
            "status": self._status,
            "get": self._get,
            "describe": self._describe,
            "explain": self._explain,
            "logs": self._logs,
            "restart": self._restart,
            "stop": self._stop,
            "delete": self._delete,
            "doctor": self._doctor,
            "version": self._version,
            "apply": self._apply,
            "plan": self._plan,
            "set": self._set,
            "edit": self._edit,
            "export": self._export,
            "history": self._history,
            "rollback": self._rollback,
        }

    async def run(self, text: str, event: Event, progress: Progress) -> Answer:
        """Run what was typed. Raises OpsroomError for the person who typed it."""
        request = grammar.parse(text)
        return await self._verbs[request.command.name](event, request.arguments, progress)

    # -- looking ------------------------------------------------------------------------------------------------

    async def _help(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        if not given.verb:
            return Answer(text=render.help_text())
        return Answer(text=render.help_for(grammar.find(given.verb)))

    async def _version(self, _event: Event, _given: argparse.Namespace, _progress: Progress) -> Answer:
        return Answer(text=f"Opsroom {__version__}")

    async def _doctor(self, _event: Event, _given: argparse.Namespace, _progress: Progress) -> Answer:
        found = await self._h.checks()
        return Answer(text=render.checks(found), ok=all(check.level != "fail" for check in found))

    async def _status(self, _event: Event, _given: argparse.Namespace, _progress: Progress) -> Answer:
        pairs = await self._pairs()
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

    async def _get(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        kind, name = _reference(given.object, given.name)
        if name:
            stored = await self._stored(Key(kind, name))
            return _shown([stored], given.output, await self._pairs([stored]))
        found = await objects.every(self._h.store, kind)
        if not found:
            return Answer(text="There are no workers yet. Drop a `.yaml` file here to make one.")
        return _shown(found, given.output, await self._pairs(found))

    async def _describe(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        stored = await self._stored(Key(*_reference(given.object, given.name)))
        return Answer(text=await describe(self._h.store, stored, now=time()))

    async def _explain(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        asked = grammar.asks(given.words, server_name=self._h.settings.server_name)
        stored = await self._stored(Key(*_reference(asked.agent)))
        decision = await self._h.explain(asked.user, stored.name, await self._room(asked.room))
        return Answer(text=render.decision(asked, decision, _source(stored, decision.field)))

    async def _room(self, word: str) -> str:
        if not word.startswith("#"):
            return word
        found = await self._h.resolve(word)
        if found is None:
            raise NotFound(f"there is no room {word} on this homeserver", fix="Write its `#alias:server` or its `!id`.")
        return found

    async def _edit(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        stored = await self._stored(Key(*_reference(given.object, given.name)))
        text = "Change the file and upload it here; try it before with `!plan` as the upload's caption."
        return Answer(text=text, file=(f"{stored.name}.yaml", stored.text))

    async def _export(self, _event: Event, _given: argparse.Namespace, _progress: Progress) -> Answer:
        found = await objects.every(self._h.store)
        declared = [stored for stored in found if not stored.deleting]
        if not declared:
            return Answer(text="Nothing is declared yet.")
        text = "---\n".join(f"{stored.text.rstrip()}\n" for stored in declared)
        count = f"{len(declared)} object{'s' if len(declared) > 1 else ''}"
        return Answer(
            text=f"{count}, as they were written. An upload declares them again.", file=("opsroom.yaml", text)
        )

    async def _history(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        key = Key(*_reference(given.object, given.name))
        found = await objects.history(self._h.store, key, HISTORY)
        if not found:
            await self._stored(key)  # says what there is instead
        return Answer(text=render.history(key, plan.with_fields(found), now=time()))

    async def _logs(self, _event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        stored = await self._stored(Key(*_reference(given.object)))
        lines = max(1, min(given.lines, 5_000))
        text = (await self._h.backend.logs(stored.name, lines=lines)).rstrip()
        if not text:
            return Answer(text=f"{stored.name} has written nothing.")
        if len(text.encode()) > render.INLINE_LOG:
            tail = "\n".join(text.splitlines()[-12:])
            body = f"The last lines of {stored.name}; all {lines} are in the file.\n\n```\n{tail}\n```"
            return Answer(text=body, file=(f"{stored.name}.log", text))
        return Answer(text=f"```\n{text}\n```")

    # -- changing -----------------------------------------------------------------------------------------------

    async def _apply(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        if given.dry_run:
            return await self._plan(event, given, progress)
        if await self._outcome(event) is None:
            data, source = await self._uploads.find(event)
            try:
                documents = _checked(data, source)
            except OpsroomError as error:
                return Answer(text=render.problems(error, source=source), ok=False)
            await self._accept(event, documents)
        return await self._settle(await self._outcome(event) or {}, progress)

    async def _plan(self, event: Event, _given: argparse.Namespace, _progress: Progress) -> Answer:
        data, source = await self._uploads.find(event)
        try:
            documents = _checked(data, source)
        except OpsroomError as error:
            return Answer(text=render.problems(error, source=source), ok=False)
        known = {stored.key: stored for stored in await objects.every(self._h.store)}
        return Answer(text=plan.told(plan.plan(documents, known)))

    async def _set(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        key = Key(*_reference(given.object))
        if await self._outcome(event) is None:
            stored = await self._stored(key)
            text = to_yaml(setting.with_fields(stored.document, given.fields))
            documents = _checked(text.encode(), str(key))
            if [(document.kind, document.name) for document in documents] != [key]:
                raise Invalid(f"`{key}` cannot be renamed.", fix="Declare another object, and delete this one.")
            await self._accept(event, documents)
        return await self._settle(await self._outcome(event) or {}, progress)

    async def _rollback(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        key = Key(*_reference(given.object))
        if await self._outcome(event) is None:
            earlier = _earlier(key, await objects.history(self._h.store, key, HISTORY), given.revision)
            await self._accept(event, _checked(earlier.text.encode(), f"revision {earlier.revision}"))
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
            pairs = [await self._pair(key) for key, _ in results]
            progress(render.progress(pairs))
            return all(s is None or render.is_settled(s, state) or render.is_stuck(s, state) for s, state in pairs)

        await self._h.changes.until(settled, WAIT_S)
        pairs = [await self._pair(key) for key, _ in results]
        ok = all(stored is None or render.is_settled(stored, state) for stored, state in pairs)
        lines = [render.outcome_line(action, *(await self._pair(key))) for key, action in results]
        text = render.lines(lines)
        return Answer(text=text if ok else f"{text}\n\nOpsroom goes on trying. See how far it is: `!status`", ok=ok)

    async def _unchanged(self, keys: Sequence[Key]) -> Answer:
        """Nothing new was declared; say so, and what is not as declared yet."""
        pairs = [await self._pair(key) for key in keys]
        behind = [pair for pair in pairs if pair[0] is not None and not render.is_settled(pair[0], pair[1])]
        count = f"{len(keys)} object{'s are' if len(keys) > 1 else ' is'} declared like this already."
        lines = [render.outcome_line("", *pair) for pair in behind]
        return Answer(text="\n\n".join([f"No changes. {count}", *([render.lines(lines)] if lines else [])]))

    async def _delete(self, event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        key = Key(*_reference(given.object, given.name))
        if await self._outcome(event) is None:
            stored = await self._stored(key)
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

    async def _restart(self, event: Event, given: argparse.Namespace, progress: Progress) -> Answer:
        key = Key(*_reference(given.object))
        if await self._outcome(event) is None:
            await self._stored(key)

            async def unit(db: Connection) -> None:
                await objects.mark_restart(db, key, event.id)
                await commands.settle(db, event.id, {"results": [[*key, "restarted"]]})

            await self._h.store.write(unit)
            self._h.changes.publish(key)
            self._h.wake(key)
        return await self._settle({"results": [[*key, "restarted"]]}, progress)

    async def _stop(self, event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        key = Key(*_reference(given.object))
        await self._stored(key)
        found = [turn for turn in await turns.open_turns(self._h.store) if turn.agent == key.name]
        for turn in found:
            self._h.stop_turn(turn.id, short(event.sender))
        if not found:
            return Answer(text=f"{key.name} is not answering anything.")
        return Answer(text=f"Stopped {len(found)} turn{'s' if len(found) > 1 else ''} of {key.name}.")

    # -- small --------------------------------------------------------------------------------------------------

    async def _outcome(self, event: Event) -> dict[str, Any] | None:
        """What this command has done already, in a run that a crash ended."""
        command = await commands.get(self._h.store, event.id)
        return command.outcome if command else None

    def _wake_all(self, outcome: Mapping[str, Any]) -> None:
        for kind, name, action in outcome["results"]:
            if action != "unchanged":
                self._h.changes.publish(Key(kind, name))
                self._h.wake(Key(kind, name))

    async def _stored(self, key: Key) -> Stored:
        stored = await objects.get(self._h.store, key)
        if stored is not None:
            return stored
        known = [other.name for other in await objects.every(self._h.store, key.kind)]
        near = nearest(key.name, known)
        hint = f"Did you mean `{near}`?" if near else "`!get workers` lists what there is."
        raise NotFound(f"there is no {key.kind.lower()} called `{key.name}`", fix=hint)

    async def _pair(self, key: Key) -> tuple[Stored | None, Status]:
        return await objects.get(self._h.store, key), await status.get(self._h.store, key)

    async def _pairs(self, found: Sequence[Stored] | None = None) -> list[tuple[Stored, Status]]:
        known = await status.every(self._h.store)
        return [(s, known.get(s.key, Status())) for s in found or await objects.every(self._h.store)]


def _reference(text: str, name: str = "") -> tuple[str, str]:
    """`worker/alice`, `worker alice`, `workers` or `alice` as (kind, name). Raises Invalid for an unknown kind."""
    word, _, rest = text.partition("/")
    kind = registry.find_kind(word)
    if kind is not None:
        return kind.name, rest or name
    if rest or name:
        known = ", ".join(kind.plural for kind in registry.KINDS.values())
        raise Invalid(f"`{word}` is not a kind.", fix=f"Known kinds: {known}.")
    if word.lower() in _KINDS_TO_COME:
        raise Invalid(f"`{word}` is a kind that is not supported yet.", fix="`!get workers` lists what there is.")
    return "Worker", text.removeprefix("@").split(":")[0]


def _source(stored: Stored, field: FieldPath) -> str:
    """Where a rule stands: line and text of what was declared."""
    if not field:
        return ""
    [document] = registry.parse(stored.text.encode(), source=str(stored.key))
    line = document.tree.mark(field).line
    return f"`{stored.key}`, line {line}: `{stored.text.splitlines()[line - 1].strip()}`"


def _checked(data: bytes, source: str) -> tuple[Document, ...]:
    """Read documents. That skills exist is known only outside of the pure part that reads them."""
    documents = registry.parse(data, source=source)
    for document in documents:
        if isinstance(document.spec, WorkerSpec):
            skills.chosen(document.spec.skills)
    return documents


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


def _shown(found: Sequence[Stored], output: str, pairs: Sequence[tuple[Stored, Status]]) -> Answer:
    if output == "table":
        head = ("NAME", "STATE", "MODEL", "AGE")
        return Answer(text=render.table(head, render.worker_rows(pairs, time())))
    if output == "yaml":
        text = "---\n".join(to_yaml(s.document) for s in found)
        return Answer(text=f"```yaml\n{text}```")
    return Answer(text=f"```json\n{json.dumps([s.document for s in found], indent=2, ensure_ascii=False)}\n```")
