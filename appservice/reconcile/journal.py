"""The one writer of the journal: each accepted change becomes a state event, in order, exactly once.

    revisions after the position -> state event -> position            docs/journal.md

A state event has no transaction id. So what the rooms hold is read once at the start, before anything is sent, and
known from then on: the newest change whose event is there already, because a crash came before the position was
written, tells how far the last run came. The same look mends what is not as it should be: what is lost, and what
somebody else left there.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import structlog

from appservice.errors import OpsroomError, Problem
from appservice.homeserver.client import ERRORS, Homeserver, quote, readable
from appservice.homeserver.events import JOURNAL, map_of, text_of
from appservice.homeserver.transactions import wanted
from appservice.reconcile import journal_events
from appservice.reconcile.rooms import RoomKeeper
from appservice.rooms import desired
from appservice.store import inbox, journal
from appservice.store.changes import Changes
from appservice.store.database import Database
from appservice.store.journal import Change

BATCH = 100
LONGEST_PAUSE_S = 30.0
_HOPS = 50  # events of others over one of ours
_PAGES = 50  # back in a timeline

log = structlog.get_logger()

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an object stands in the journal, and our newest event there: what it says as a sum, whether it declares
    something, where its document is if not inside. `over`: id of somebody else's event that came after it; `dropped`:
    that one is empty."""

    room_id: str
    mark: str
    live: bool
    url: str = ""
    over: str = ""
    dropped: bool = False


class Journal:
    """Run with `await run()`. `receive` takes events that nobody has handed on, `tell` keys that are in the journal and
    that the store has never heard of; `limit`: live keys in one room."""

    def __init__(
        self,
        *,
        store: Database,
        changes: Changes,
        homeserver: Homeserver,
        rooms: RoomKeeper,
        prefix: str,
        receive: Callable[[Sequence[dict[str, Any]]], Awaitable[None]],
        tell: Callable[[Sequence[str]], Awaitable[None]],
        limit: int,
    ) -> None:
        self._store = store
        self._homeserver = homeserver
        self._rooms = rooms
        self._prefix = prefix
        self._receive = receive
        self._tell = tell
        self._limit = limit
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._caught_up = False
        self._looked = False  # whether what follows is known
        self._numbers: dict[int, str] = {}
        self._places: dict[str, Place] = {}
        self.trouble: Problem | None = None  # why the last try failed
        changes.hook(lambda _: self._news.set())

    # -- doors --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever: what is accepted is published. What goes wrong is tried again, from a fresh look."""
        seen, pause = -1, 0.0
        while True:
            self._news.clear()
            now = self._store.version("resources")
            try:
                if now != seen or not self._looked:
                    await self.publish()
                    seen, pause, self.trouble = now, 0.0, None
            except (OpsroomError, *ERRORS) as error:
                pause = self._later(pause)
                self.trouble = readable(error, "publish what is accepted").problems[0]
                log.warning("journal delayed", error=str(error) or type(error).__name__)
            except Exception as error:
                pause = self._later(pause)
                self.trouble = Problem(what=f"it broke ({type(error).__name__})", fix="The log says where.")
                log.exception("journal broke")
            if pause:
                await asyncio.sleep(pause)
            else:
                await self._news.wait()

    async def publish(self) -> None:
        """All that is accepted by now is in the journal. Raises OpsroomError and what the homeserver refuses."""
        async with self._lock:
            await self._publish()

    def caught_up(self) -> None:
        """What was said while nobody listened has been received. Only from now on can what stands in the rooms be
        handed on: before, it would come before what was written earlier."""
        self._caught_up = True
        if not self._looked or any(place.over for place in self._places.values()):
            self.look_again()

    def look_again(self) -> None:
        """What is known of the rooms may not be so any more."""
        self._looked = False
        self._news.set()

    async def unheard(self) -> frozenset[str] | None:
        """Keys of objects in the journal that the store has never heard of; None while the rooms were not read."""
        async with self._lock:
            declared = {str(change.key) for change in await journal.latest(self._store)}
            return self._only_here(declared) if self._looked else None

    async def mend(self, room_id: str, state_key: str, said: Raw) -> None:
        """Let what is declared stand where somebody wrote something that is handled now, once everything is published.
        What somebody wrote over it since then has its own turn."""
        async with self._lock:
            await self._publish()
            now = map_of(await self._homeserver.state_event(room_id, JOURNAL, state_key))
            if dict(now) != dict(said):
                return
            change = await self._declared(state_key)
            place = self._places.get(state_key)
            here = place is not None and place.room_id == room_id
            if change is not None and here:
                await self._put(change)
            elif place is not None and here and place.live:
                await self._leave(room_id, state_key, keep=bool(now))
            elif now:
                await self._send(room_id, state_key, {})

    # -- one pass -----------------------------------------------------------------------------------------------

    def _later(self, pause: float) -> float:
        """A call that failed may have had its effect: the rooms are read again."""
        self._looked = False
        return min(pause * 2 or 0.5, LONGEST_PAUSE_S)

    async def _publish(self) -> None:
        if self._looked:
            await self._drain()
            return
        self._looked = True
        try:
            await self._look()
            await self._catch_up()
            await self._drain()
            await self._heal()
        except BaseException:
            self._looked = False
            raise

    async def _catch_up(self) -> None:
        """Take the position from the rooms: what was said there last, and all before it, was sent by a run that was
        killed. The timeline tells; what stands there may be somebody else's."""
        if not (waiting := await journal.waiting(self._store)):
            return
        marks: set[str] = set()
        for room_id in self._numbers.values():
            page, _ = await _said(self._homeserver, room_id)
            marks |= {journal_events.mark(map_of(event.get("content"))) for event in page}
        if reached := [change.revision for change in waiting if _mark(change) in marks]:
            await self._store.write(partial(journal.published, revision=reached[-1]))

    async def _drain(self) -> None:
        while waiting := await journal.waiting(self._store, limit=BATCH):
            for change in waiting:
                await self._put(change)
                # Not durable: what a power cut takes back is found in the rooms.
                await self._store.write(partial(journal.published, revision=change.revision), durable=False)

    async def _put(self, change: Change) -> None:
        key = str(change.key)
        place = self._places.get(key)
        room_id = place.room_id if place and (place.live or not change.text) else await self._room()
        url = "" if journal_events.fits(change) else await self._upload(change)
        await self._send(room_id, key, journal_events.content(change, url))
        self._places[key] = Place(room_id=room_id, mark=_mark(change), live=bool(change.text), url=url)
        log.info("published", key=key, revision=change.revision)

    async def _send(self, room_id: str, state_key: str, said: Raw) -> None:
        """Once: a repeat could be a second event."""
        path = f"rooms/{quote(room_id)}/state/{JOURNAL}/{quote(state_key)}"
        try:
            await self._homeserver.call("PUT", path, dict(said), tries=1)
        except BaseException:
            self._looked = False  # perhaps it is there, perhaps not
            raise

    async def _leave(self, room_id: str, state_key: str, *, keep: bool) -> None:
        """An object that is in the journal only: it stays as it was, until somebody lets go of it."""
        if not keep:
            del self._places[state_key]
            return
        for event in await self._homeserver.state(room_id):
            if (event["type"], event["state_key"]) == (JOURNAL, state_key):
                said, _ = await ours(self._homeserver, room_id, event)
                await self._send(room_id, state_key, said)

    async def _upload(self, change: Change) -> str:
        data = change.text.encode()
        return await self._homeserver.upload(data, name=f"{change.key.name}.yaml", mimetype="application/x-yaml")

    async def _declared(self, state_key: str) -> Change | None:
        with suppress(OpsroomError):
            return await journal.latest_of(self._store, journal_events.key_of(state_key))
        return None

    # -- the rooms ----------------------------------------------------------------------------------------------

    async def _room(self) -> str:
        """A room that takes one more object; a further one is opened when all are full."""
        live = Counter(place.room_id for place in self._places.values() if place.live)
        for number in count(1):
            if number > await journal.rooms(self._store):
                await self._store.write(partial(journal.open_rooms, count=number))
            room_id = self._numbers.get(number) or await self._read(number)
            if live[room_id] < self._limit:
                return room_id
        raise AssertionError("unreachable")

    async def _look(self) -> None:
        """Read what all rooms hold. What others wrote there and nobody has handed on is handed on."""
        self._numbers.clear()
        self._places.clear()
        for number in range(1, await journal.rooms(self._store) + 1):
            await self._read(number)

    async def _read(self, number: int) -> str:
        room_id = await self._rooms.bring(desired.journal_alias(number, prefix=self._prefix))
        foreign: list[dict[str, Any]] = []
        for event in await self._homeserver.state(room_id):
            if event["type"] != JOURNAL:
                continue
            key = str(event["state_key"])
            said, others = await ours(self._homeserver, room_id, event)
            foreign += others
            place = Place(
                room_id=room_id,
                mark=journal_events.mark(said),
                live=journal_events.is_live(said),
                url=text_of(said.get("document_url")),
                over="" if event["sender"] == self._homeserver.bot else str(event["event_id"]),
                dropped=not event["content"],
            )
            if place.live or key not in self._places or not self._places[key].live:
                self._places[key] = place
        self._numbers[number] = room_id
        if foreign and self._caught_up:
            await self._receive(wanted(foreign))
        return room_id

    async def _heal(self) -> None:
        """Put right what is published and not there. An event of somebody else is left to whoever handles it."""
        upto = await journal.position(self._store)
        waiting = frozenset(str(event["event_id"]) for event in await inbox.unfinished(self._store))
        declared = {str(change.key): change for change in await journal.latest(self._store)}
        for key, change in declared.items():
            place = self._places.get(key)
            if change.revision > upto or (place and not self._is_settled(place, waiting)):
                continue
            wrong = place is None or bool(place.over) or place.mark != _mark(change)
            if wrong and (change.text or (place and (place.live or place.over))):
                await self._put(change)
        unknown = [(key, place) for key, place in self._places.items() if key not in declared]
        for key, place in unknown:
            if place.over and self._is_settled(place, waiting) and (place.dropped or not place.live):
                await self._send(place.room_id, key, {})
                del self._places[key]
        if left := sorted(self._only_here(declared)):
            await self._tell(left)

    def _only_here(self, declared: Collection[str]) -> frozenset[str]:
        return frozenset(
            key for key, place in self._places.items() if key not in declared and place.live and not place.dropped
        )

    def _is_settled(self, place: Place, waiting: frozenset[str]) -> bool:
        """Whether nothing of somebody else's stands there that has still to be handled."""
        return not place.over or (self._caught_up and place.over not in waiting)


async def ours(homeserver: Homeserver, room_id: str, event: Raw) -> tuple[Raw, list[dict[str, Any]]]:
    """Content of our newest event under the key of this state event: its own, or that of one it came after; and the
    events of others since then, the oldest first."""
    others: list[dict[str, Any]] = []
    for _ in range(_HOPS):
        if event.get("sender") == homeserver.bot:
            return map_of(event.get("content")), others[::-1]
        others.append(dict(event, room_id=room_id))
        before = text_of(map_of(event.get("unsigned")).get("replaces_state"))
        found = await homeserver.event(room_id, before) if before else None
        if found is None:
            break
        event = found
    return await _said_of(homeserver, room_id, str(others[0]["state_key"])), others[::-1]


async def _said_of(homeserver: Homeserver, room_id: str, state_key: str) -> Raw:
    """Content of our newest event under a key, from the timeline: of two that were written at the same moment, the one
    that stands there does not lead to the other."""
    start = ""
    for _ in range(_PAGES):
        page, start = await _said(homeserver, room_id, start)
        for event in page:
            if event.get("state_key") == state_key:
                return map_of(event.get("content"))
        if not start:
            break
    return {}


async def _said(homeserver: Homeserver, room_id: str, start: str = "") -> tuple[list[Raw], str]:
    """A page of our own events in a room of the journal, newest first, and where the next one begins."""
    wanted = {"types": [JOURNAL], "senders": [homeserver.bot]}
    query = {"dir": "b", "limit": str(BATCH), "filter": json.dumps(wanted)} | ({"from": start} if start else {})
    page = await homeserver.call("GET", f"rooms/{quote(room_id)}/messages", query=query)
    return list(page["chunk"]), str(page.get("end", ""))


def _mark(change: Change) -> str:
    return journal_events.mark(journal_events.content(change))
