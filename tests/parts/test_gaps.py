"""What a homeserver did not push is fetched from it, once, from where reading stood."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from appservice.homeserver import content
from appservice.homeserver import gaps as gap_closing
from appservice.homeserver.client import Homeserver
from appservice.homeserver.gaps import Gaps
from appservice.store import inbox, meta, rooms
from appservice.store.database import Database
from appservice.store.rooms import Room
from tests.support.bed import BOT, Bed
from tests.support.synapse import SERVER_NAME


class Found(list[str]):
    """Ids of the events that were read."""

    async def receive(self, events: Sequence[dict[str, Any]]) -> None:
        self.extend(str(event["event_id"]) for event in events)


@asynccontextmanager
async def through(bed: Bed, met: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[Homeserver]:
    """The homeserver through a proxy, which does with each connection what is said and no more."""
    held: list[asyncio.StreamWriter] = []

    async def meet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        met(writer)

    async with await asyncio.start_server(meet, "127.0.0.1", 0) as proxy:
        address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        behind = Homeserver(address, bed.homeserver.registration, server_name=SERVER_NAME, bot=BOT)
        try:
            yield behind
        finally:
            await behind.close()
            for writer in held:
                writer.close()


async def test_a_gap_is_closed_to_its_beginning_though_newer_events_have_come_already(
    bed: Bed, store: Database
) -> None:
    found = Found()
    gaps = Gaps(store, bed.homeserver, found.receive)
    await gaps.close()
    sent = [
        await bed.homeserver.send(bed.room, "m.room.message", content.message(f"{n}"), f"gap.{n}", user=BOT)
        for n in range(130)
    ]
    pushed = [
        {"event_id": event, "room_id": bed.room, "type": "m.room.message", "sender": BOT} for event in sent[10:20]
    ]
    await store.write(lambda db: inbox.add(db, pushed, now=1))

    await gaps.close()

    assert found == sent


async def test_a_store_that_knows_no_position_begins_with_now_however_soon_after_another(
    bed: Bed, store: Database
) -> None:
    found = Found()

    async def say(name: str) -> str:
        return await bed.homeserver.send(bed.room, "m.room.message", content.message(name), f"now.{name}.0", user=BOT)

    gaps = Gaps(store, bed.homeserver, found.receive)
    for round_ in ("first", "again"):
        await store.write(lambda db: meta.drop(db, meta.SYNC_SINCE))
        await gaps.close()
        assert found == []
        after = await say(f"after {round_}")
        await gaps.close()
        assert found == [after]
        found.clear()


async def test_a_direct_room_of_a_restored_store_is_read_from_then_on(bed: Bed, store: Database) -> None:
    found: list[str] = []  # in that room
    agent = f"@agent-dm{secrets.token_hex(3)}:{SERVER_NAME}"
    await bed.homeserver.ensure_user(agent)
    direct = await bed.homeserver.create_room({"preset": "private_chat"}, user=agent)

    async def receive(events: Sequence[dict[str, Any]]) -> None:
        found.extend(str(event["event_id"]) for event in events if event["room_id"] == direct)

    async def say(name: str) -> str:
        return await bed.homeserver.send(direct, "m.room.message", content.message(name), f"dm.{name}.0", user=agent)

    await say("before")
    await store.write(lambda db: rooms.put(db, Room(room_id=direct, purpose="direct", owner=agent)))
    gaps = Gaps(store, bed.homeserver, receive)
    await gaps.close()
    assert found == []

    after = await say("after")
    await gaps.close()
    assert found == [after]


async def test_a_proxy_that_takes_connections_and_drops_them_is_a_homeserver_that_is_away(
    bed: Bed, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_closing, "CUT_PAUSE_S", 0.0)
    async with through(bed, lambda writer: writer.close()) as behind, asyncio.timeout(30):
        gaps = Gaps(store, behind, Found().receive)
        assert [await gaps._away_or_time() for _ in range(3)] == [False, False, True]


async def test_what_was_said_is_looked_for_when_a_homeserver_is_back_at_once_after_a_cut(
    bed: Bed, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[asyncio.StreamWriter] = []

    def drop_the_first(writer: asyncio.StreamWriter) -> None:
        if not cut:
            cut.append(writer)
            writer.close()

    monkeypatch.setattr(gap_closing, "CUT_PAUSE_S", 0.0)
    async with through(bed, drop_the_first) as back, asyncio.timeout(30):
        assert not await Gaps(store, back, Found().receive)._away_or_time()
