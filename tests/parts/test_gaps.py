"""What a homeserver did not push is fetched from it, once, from where reading stood."""

import asyncio
import secrets
from collections.abc import Sequence
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


async def test_a_gap_is_closed_to_its_beginning_though_newer_events_have_come_already(
    bed: Bed, store: Database
) -> None:
    found: list[str] = []

    async def receive(events: Sequence[dict[str, Any]]) -> None:
        found.extend(str(event["event_id"]) for event in events)

    gaps = Gaps(store, bed.homeserver, receive)
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
    found: list[str] = []

    async def receive(events: Sequence[dict[str, Any]]) -> None:
        found.extend(str(event["event_id"]) for event in events)

    async def say(name: str) -> str:
        return await bed.homeserver.send(bed.room, "m.room.message", content.message(name), f"now.{name}.0", user=BOT)

    gaps = Gaps(store, bed.homeserver, receive)
    for round_ in ("first", "again"):
        await store.write(lambda db: meta.drop(db, meta.SYNC_SINCE))
        await gaps.close()
        assert found == []
        after = await say(f"after {round_}")
        await gaps.close()
        assert found == [after]
        found.clear()


async def test_a_direct_room_of_a_restored_store_is_read_from_then_on(bed: Bed, store: Database) -> None:
    found: list[str] = []
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
    async def drop(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def receive(_events: Sequence[dict[str, Any]]) -> None: ...

    monkeypatch.setattr(gap_closing, "CUT_PAUSE_S", 0.0)
    async with await asyncio.start_server(drop, "127.0.0.1", 0) as proxy:
        address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        behind = Homeserver(address, bed.homeserver.registration, server_name=SERVER_NAME, bot=BOT)
        try:
            gaps = Gaps(store, behind, receive)
            async with asyncio.timeout(30):
                assert [await gaps._away_or_time() for _ in range(3)] == [False, False, True]
        finally:
            await behind.close()


async def test_what_was_said_is_looked_for_when_a_homeserver_is_back_at_once_after_a_cut(
    bed: Bed, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[asyncio.StreamWriter] = []

    async def drop_the_first(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        if len(held) == 1:
            writer.close()

    async def receive(_events: Sequence[dict[str, Any]]) -> None: ...

    monkeypatch.setattr(gap_closing, "CUT_PAUSE_S", 0.0)
    async with await asyncio.start_server(drop_the_first, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        back = Homeserver(address, bed.homeserver.registration, server_name=SERVER_NAME, bot=BOT)
        try:
            async with asyncio.timeout(30):
                assert not await Gaps(store, back, receive)._away_or_time()
        finally:
            await back.close()
            for writer in held:
                writer.close()
