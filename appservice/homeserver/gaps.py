"""Close the gaps: the push of a homeserver is a doorbell, the rooms are the truth.

After a restart of either side a homeserver can be silent for minutes, and what it was pushing when it stopped is lost
(element-hq/synapse#11637). So, at start and whenever the homeserver was away:

    boot event -> pause -> ping -> one incremental /sync of the bot -> inbox (repeats are dropped there)

Rooms without the bot (direct rooms of agents) are paged back to the last event that was read here. That newer events
have come already says nothing: what was pushed may be newer than what was lost. A store that knows no position, as a
new or a restored one, begins with now.
"""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog
from mautrix.errors import MatrixRequestError

from appservice.errors import OpsroomError
from appservice.homeserver import events
from appservice.homeserver.client import ERRORS, Homeserver
from appservice.homeserver.transactions import wanted
from appservice.store import meta, rooms
from appservice.store.database import Connection, Database

EVERY_S = 300.0
PAGES = 50
LONGEST_PAUSE_S = 5.0
QUICK_S = 1.0  # a connection that is cut earlier is none: somebody else took it, with the homeserver away behind
QUICK_CUTS = 3
CUT_PAUSE_S = 1.0
LONGEST_CUT_PAUSE_S = 60.0
_FILTER = json.dumps(
    {
        "presence": {"types": []},
        "account_data": {"types": []},
        "room": {
            "account_data": {"types": []},
            "ephemeral": {"types": []},
            "timeline": {"limit": 100, "types": list(events.TYPES)},
            "state": {"types": [], "lazy_load_members": True},
        },
    },
    separators=(",", ":"),
)

log = structlog.get_logger()

Receive = Callable[[Sequence[dict[str, Any]]], Awaitable[None]]


class Gaps:
    def __init__(self, store: Database, homeserver: Homeserver, receive: Receive) -> None:
        self._store = store
        self._homeserver = homeserver
        self._receive = receive
        self._cuts = 0  # quick ones in a row

    async def close(self, *, ops_room: str = "") -> int:
        """Fetch what the push did not bring; how many events were read. `ops_room` wakes the push first."""
        if ops_room:
            await self._knock(ops_room)
        since = await meta.get(self._store, meta.SYNC_SINCE)
        answer = await self._homeserver.sync(since=since, filter_=_FILTER)
        found = 0
        if since:
            for room_id, room in answer.get("rooms", {}).get("join", {}).items():
                found += await self._take(room_id, room["timeline"], since)
        found += await self._direct_rooms()
        await self._store.write(lambda db: meta.put(db, meta.SYNC_SINCE, str(answer["next_batch"])))
        if found:
            log.info("gap closed", events=found)
        return found

    async def watch(self, ops_room: Callable[[], str]) -> None:
        """Close the gap whenever the homeserver was or may have been away, and every few minutes. Endless."""
        while True:
            away = await self._away_or_time()
            attempt = 0
            while True:
                try:
                    await self.close(ops_room=ops_room() if away else "")
                    break
                except (OpsroomError, *ERRORS) as error:
                    away = True
                    log.warning("homeserver away", error=type(error).__name__, attempt=attempt)
                    await asyncio.sleep(min(0.2 * 2 ** min(attempt, 10), LONGEST_PAUSE_S))
                    attempt += 1

    async def _away_or_time(self) -> bool:
        """Hold an idle connection to the homeserver: True as soon as it is cut and cannot be made again (an idle one
        is cut now and then, and can), or is cut at once again and again; False when it was cut at once (a homeserver
        may be back in the pause after that), or when it is time to look anyway."""
        address = urlsplit(self._homeserver.url)
        host, port = str(address.hostname), address.port or (443 if address.scheme == "https" else 80)
        try:
            async with asyncio.timeout(EVERY_S):
                while await self._held(host, port):
                    self._cuts = 0
        except TimeoutError:
            return False
        except OSError:
            return True
        self._cuts += 1
        await asyncio.sleep(min(CUT_PAUSE_S * 2 ** min(max(0, self._cuts - QUICK_CUTS), 10), LONGEST_CUT_PAUSE_S))
        return self._cuts >= QUICK_CUTS

    async def _held(self, host: str, port: int) -> bool:
        """Hold one connection until it is cut; whether that took a while. Where no idle connection is held at all, a
        pause follows, a longer one each time: the homeserver is not asked without end."""
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection(host, port)
        begun = loop.time()
        try:
            await reader.read(1)
        finally:
            writer.close()
        return loop.time() - begun >= QUICK_S

    async def _knock(self, ops_room: str) -> None:
        """One fresh event makes a restarted homeserver remember us; the ping makes it deliver at once."""
        boot = uuid.uuid4().hex
        await self._homeserver.send(
            ops_room, "org.opsroom.boot", {"boot": boot}, f"boot.{boot}", user=self._homeserver.bot
        )
        await asyncio.sleep(0.1)
        try:
            await self._homeserver.ping(f"boot-{boot}")
        except MatrixRequestError as error:
            log.warning("ping failed", error=str(error))

    async def _take(self, room_id: str, timeline: dict[str, Any], since: str) -> int:
        batch = [dict(event, room_id=room_id) for event in timeline["events"]]
        if timeline.get("limited"):
            batch = await self._back(room_id, start=timeline["prev_batch"], end=since) + batch
        await self._receive(wanted(batch))
        return len(batch)

    async def _back(
        self, room_id: str, *, start: str = "", end: str = "", user: str = "", until: str = ""
    ) -> list[dict[str, Any]]:
        """Earlier events back to the moment `end` or the event `until`, oldest first."""
        found: list[dict[str, Any]] = []
        for _ in range(PAGES):
            page, start = await self._homeserver.messages(room_id, user=user, start=start, end=end)
            for event in page:
                if event["event_id"] == until:
                    return found[::-1]
                found.append(dict(event, room_id=room_id))
            if not start or not page:
                break
        return found[::-1]

    async def _direct_rooms(self) -> int:
        found = 0
        for room in await rooms.every(self._store):
            if room.purpose != "direct":
                continue
            try:
                missed = await self._missed(room)
            except MatrixRequestError as error:
                log.warning("direct room unreadable", room_id=room.room_id, error=str(error))
                continue
            if missed and room.seen:
                await self._receive(wanted(missed))
                found += len(missed)
            if missed:
                await self._store.write(partial(_mark_seen, room.room_id, str(missed[-1]["event_id"])))
        return found

    async def _missed(self, room: rooms.Room) -> list[dict[str, Any]]:
        """What came after the last event that was read, oldest first; where none was, the newest one alone."""
        if room.seen:
            return await self._back(room.room_id, user=room.owner, until=room.seen)
        page, _ = await self._homeserver.messages(room.room_id, user=room.owner, limit=1)
        return [dict(event) for event in page]


async def _mark_seen(room_id: str, event_id: str, db: Connection) -> None:
    await rooms.seen(db, room_id, event_id)
