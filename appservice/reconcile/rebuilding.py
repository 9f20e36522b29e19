"""From the journal to an empty store: what was declared is declared again, with the numbers it had."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any

from appservice.errors import Conflict, Invalid, NotFound, OpsroomError, Problem
from appservice.homeserver.client import ERRORS, Homeserver, readable
from appservice.homeserver.events import JOURNAL
from appservice.policy.roster import Names
from appservice.reconcile import journal_events
from appservice.reconcile.journal import ours
from appservice.resources import registry
from appservice.resources.document import Document
from appservice.resources.source import MAX_BYTES
from appservice.rooms import desired
from appservice.store import declaring, journal, meta, objects
from appservice.store.database import Connection, Database
from appservice.store.declaring import Author
from appservice.store.journal import Change


@dataclass(slots=True, kw_only=True)
class Rebuilt:
    """`objects`: how many are back; `rooms`: how many the journal has; `problems`: what could not be read, by key;
    `later`: keys under which somebody else wrote last, which is handled at the next start."""

    objects: int = 0
    rooms: int = 0
    problems: list[Problem] = field(default_factory=list)
    later: list[str] = field(default_factory=list)


async def rebuild(store: Database, homeserver: Homeserver, *, prefix: str, names: Names) -> Rebuilt:
    """Fill an empty store. What cannot be read is left out and told; the rest is declared in one unit.

    Raises Conflict when the store is not empty, NotFound when there is no journal, Unavailable when it cannot be read.
    """
    if there := len(await objects.every(store)):
        raise Conflict(
            f"the store has {there} object{'s' * (there > 1)} already. Nothing was changed.",
            fix="Only an empty one is rebuilt from the journal: move `opsroom.db` away first.",
        )
    done = Rebuilt()
    try:
        changes = await _read(homeserver, prefix, done)
        ops_room = await homeserver.resolve(f"#{prefix}ops:{homeserver.server_name}") or ""
    except ERRORS as error:
        raise readable(error, "read the journal") from error
    await store.write(partial(_declare, changes=changes, done=done, names=names, ops_room=ops_room))
    return done


async def _read(homeserver: Homeserver, prefix: str, done: Rebuilt) -> list[Change]:
    """The newest change of each object, the oldest first."""
    found: dict[str, Change] = {}
    for number in count(1):
        alias = f"#{desired.journal_alias(number, prefix=prefix)}:{homeserver.server_name}"
        room_id = await homeserver.resolve(alias)
        state = await homeserver.state(room_id) if room_id else []
        if not state:
            if number == 1:
                raise NotFound(f"the homeserver has no journal `{alias}` that Opsroom is in.")
            break
        done.rooms = number
        for event in state:
            if event["type"] != JOURNAL:
                continue
            key = str(event["state_key"])
            if event["sender"] != homeserver.bot:
                done.later.append(key)
            said = await ours(homeserver, str(room_id), event)
            change = await _change(homeserver, key, said, done) if said else None
            if change is not None and (key not in found or _is_newer(change, found[key])):
                found[key] = change
    return sorted(found.values(), key=lambda change: change.revision)


def _is_newer(one: Change, other: Change) -> bool:
    """In two rooms there are two only when the object was deleted in one of them."""
    return (bool(one.text), one.revision) > (bool(other.text), other.revision)


async def _change(homeserver: Homeserver, key: str, said: Mapping[str, Any], done: Rebuilt) -> Change | None:
    try:
        change, media = journal_events.read(key, said)
        if media is None:
            return change
        return replace(change, text=media.text(await homeserver.download(media.url, limit=MAX_BYTES)))
    except OpsroomError as error:
        done.problems += _told(key, error)
        return None


async def _declare(db: Connection, *, changes: list[Change], done: Rebuilt, names: Names, ops_room: str) -> None:
    done.objects = 0
    newest = max((change.revision for change in changes), default=0)
    await journal.begin(db, newest)
    await journal.remember(db, [change for change in changes if not change.text])
    for change in changes:
        if not change.text:
            continue
        try:
            document = _document(change)
            author = Author(user=change.author, cause=change.cause, now=change.at)
            await declaring.declare(db, [document], author, is_ours=lambda word: names.is_ours(names.person(word)))
        except Invalid as error:
            done.problems += _told(str(change.key), error)
        else:
            await journal.number(db, change)
            done.objects += 1
    await journal.published(db, await journal.newest(db))
    await journal.open_rooms(db, done.rooms)
    if ops_room:
        await meta.put(db, meta.GREETED, ops_room)


def _document(change: Change) -> Document:
    documents = registry.parse(change.text.encode(errors="replace"), source=f"{change.key} in the journal")
    return journal_events.only(change.key, documents)


def _told(key: str, error: OpsroomError) -> list[Problem]:
    return [replace(problem, where=problem.where or f"{key} in the journal") for problem in error.problems]
