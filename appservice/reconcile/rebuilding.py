"""From the journal to an empty store: what was declared is declared again, with the numbers it had."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any

from appservice.errors import Conflict, Invalid, NotFound, OpsroomError, Problem
from appservice.homeserver.client import ERRORS, Homeserver, is_gone, localpart, quote, readable
from appservice.homeserver.events import JOURNAL
from appservice.policy.roster import Names
from appservice.reconcile import journal_events
from appservice.reconcile.journal import ours
from appservice.resources import registry
from appservice.resources.document import Document
from appservice.resources.source import MAX_BYTES
from appservice.rooms import desired
from appservice.store import declaring, journal, meta, objects, rooms
from appservice.store.changes import Key
from appservice.store.database import Connection, Database
from appservice.store.declaring import Author
from appservice.store.journal import Change
from appservice.store.rooms import Room

PARALLEL = 8


@dataclass(slots=True, kw_only=True)
class Rebuilt:
    """`objects`: how many are back; `rooms`: how many the journal has; `problems`: what could not be read, by key;
    `later`: keys under which somebody else wrote last, which is handled at the next start."""

    objects: int = 0
    rooms: int = 0
    problems: list[Problem] = field(default_factory=list)
    later: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Rooms that the homeserver has: the ops room, those of the journal, those in which somebody is alone with an agent
    or the bot, and those of objects whose deletion had perhaps not come to its end."""

    ops_room: str
    journal: tuple[Room, ...]
    direct: tuple[Room, ...]
    left: tuple[Room, ...]


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
        changes, journals = await _read(homeserver, prefix, done)
        documents = _documents(changes, done)
        found = Found(
            ops_room=await homeserver.resolve(f"#{prefix}ops:{homeserver.server_name}") or "",
            journal=journals,
            direct=await _direct_rooms(homeserver, documents.values(), prefix, names),
            left=await _left(homeserver, [change.key for change in changes if not change.text], prefix),
        )
    except (*ERRORS, ExceptionGroup) as error:
        raise readable(error, "read the journal") from error
    await store.write(
        partial(_declare, changes=changes, documents=documents, found=found, done=done, names=names),
    )
    return done


async def _read(homeserver: Homeserver, prefix: str, done: Rebuilt) -> tuple[list[Change], tuple[Room, ...]]:
    """The newest change of each object, the oldest first, and the rooms they are in."""
    found: dict[str, Change] = {}
    journals: list[Room] = []
    for number in count(1):
        name = desired.journal_alias(number, prefix=prefix)
        alias = f"#{name}:{homeserver.server_name}"
        room_id = await homeserver.resolve(alias)
        state = await homeserver.state(room_id) if room_id else []
        if not state:
            if number == 1:
                raise NotFound(f"the homeserver has no journal `{alias}` that Opsroom is in.")
            break
        done.rooms = number
        journals.append(Room(room_id=str(room_id), purpose="journal", alias=name))
        for event in state:
            if event["type"] != JOURNAL:
                continue
            key = str(event["state_key"])
            if event["sender"] != homeserver.bot:
                done.later.append(key)
            said, _ = await ours(homeserver, str(room_id), event)
            change = await _change(homeserver, key, said, done) if said else None
            if change is not None and (key not in found or _is_newer(change, found[key])):
                found[key] = change
    return sorted(found.values(), key=lambda change: change.revision), tuple(journals)


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


async def _direct_rooms(
    homeserver: Homeserver, documents: Iterable[Document], prefix: str, names: Names
) -> tuple[Room, ...]:
    """Rooms that agents, or the bot, were asked into: the bot is in all others, and these hang under our space."""
    bots = set(await homeserver.joined_rooms(user=homeserver.bot))
    agents = {agent for document in documents for agent in _agents(document)}
    gate = asyncio.Semaphore(PARALLEL)
    async with asyncio.TaskGroup() as group:
        tasks = {
            user: group.create_task(_rooms_of(homeserver, user, gate))
            for user in sorted(names.user(agent) for agent in agents)
        }
    found = [(room_id, user) for user, task in tasks.items() for room_id in task.result() if room_id not in bots]
    space = await homeserver.resolve(f"#{prefix}space:{homeserver.server_name}")
    if space is not None:
        found += [(room_id, homeserver.bot) for room_id in sorted(bots - (await _below(homeserver, space)).keys())]
    return tuple([await _direct_room(homeserver, room_id, user) for room_id, user in found])


def _agents(document: Document) -> Iterable[str]:
    own = [document.name] if document.kind == "Worker" else []
    return [*own, *(part.name for part in declaring.parts(document))]


async def _rooms_of(homeserver: Homeserver, user: str, gate: asyncio.Semaphore) -> list[str]:
    async with gate:
        try:
            return await homeserver.joined_rooms(user=user)
        except ERRORS as error:
            if not is_gone(error):
                raise
            return []  # there is no such user yet


async def _left(homeserver: Homeserver, deleted: Iterable[Key], prefix: str) -> tuple[Room, ...]:
    """Rooms that are called after a deleted object, and those of its agents. If somebody declares one of them all the
    same, its keeper knows."""
    inside = await homeserver.joined_rooms(user=homeserver.bot)
    gate = asyncio.Semaphore(PARALLEL)

    async def called(alias: str) -> dict[str, str]:
        async with gate:
            room_id = await homeserver.resolve(f"#{alias}:{homeserver.server_name}")
            if room_id not in inside:
                return {}
            below = await _below(homeserver, room_id)
        parts = {each: name for each, name in below.items() if desired.is_of_a_part(name, prefix=prefix)}
        return parts | {room_id: alias}

    async with asyncio.TaskGroup() as group:
        wanted = [alias for key in deleted for alias in desired.aliases(*key, prefix=prefix)]
        tasks = [group.create_task(called(alias)) for alias in wanted]
    found = {room_id: alias for task in tasks for room_id, alias in task.result().items()}
    return tuple(Room(room_id=room_id, purpose="worker", alias=alias) for room_id, alias in found.items())


async def _below(homeserver: Homeserver, space: str) -> dict[str, str]:
    """A space, and all rooms and spaces under it, with the alias that they show ('' for none)."""
    found: dict[str, str] = {}
    query = {"limit": "50"}
    while True:
        path = f"_matrix/client/v1/rooms/{quote(space)}/hierarchy"
        page = await homeserver.call("GET", path, query=query)
        found |= {str(room["room_id"]): localpart(str(room.get("canonical_alias") or "")) for room in page["rooms"]}
        if not page.get("next_batch"):
            return found
        query["from"] = str(page["next_batch"])


async def _direct_room(homeserver: Homeserver, room_id: str, user: str) -> Room:
    """As it is now: what was said there before is not asked again."""
    page, _ = await homeserver.messages(room_id, user=user, limit=1)
    return Room(room_id=room_id, purpose="direct", owner=user, seen=str(page[0]["event_id"]) if page else "")


def _documents(changes: Sequence[Change], done: Rebuilt) -> dict[Key, Document]:
    found = {}
    for change in changes:
        if change.text:
            try:
                found[change.key] = _document(change)
            except Invalid as error:
                done.problems += _told(str(change.key), error)
    return found


async def _declare(
    db: Connection,
    *,
    changes: Sequence[Change],
    documents: Mapping[Key, Document],
    found: Found,
    done: Rebuilt,
    names: Names,
) -> None:
    newest = max((change.revision for change in changes), default=0)
    await journal.begin(db, newest)
    await journal.remember(db, [change for change in changes if not change.text])
    for change in changes:
        if (document := documents.get(change.key)) is None:
            continue
        author = Author(user=change.author, cause=change.cause, now=change.at)
        try:
            await declaring.declare(db, [document], author, is_ours=lambda word: names.is_ours(names.person(word)))
        except (Conflict, Invalid) as error:
            done.problems += _told(str(change.key), error)
        else:
            await journal.number(db, change)
            done.objects += 1
    await journal.published(db, await journal.newest(db))
    await journal.open_rooms(db, done.rooms)
    if found.ops_room:
        await meta.put(db, meta.GREETED, found.ops_room)
    left = () if done.problems else found.left  # one that could not be read may declare them
    for room in (*found.direct, *found.journal, *left):  # one that is half ended looks like a direct one
        await rooms.put(db, room)


def _document(change: Change) -> Document:
    documents = registry.parse(change.text.encode(errors="replace"), source=f"{change.key} in the journal")
    return journal_events.only(change.key, documents)


def _told(key: str, error: OpsroomError) -> list[Problem]:
    return [replace(problem, where=problem.where or f"{key} in the journal") for problem in error.problems]
