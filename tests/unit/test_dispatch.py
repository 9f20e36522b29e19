"""From the inbox to the handler: nothing before its time, nothing twice, nothing dropped because somebody is away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mautrix.errors import MatrixConnectionError

from appservice.errors import Unavailable
from appservice.homeserver import patience
from appservice.homeserver.dispatch import TRIES, Dispatcher, Effect
from appservice.homeserver.events import Event
from appservice.store import inbox, meta
from appservice.store.database import Connection, Database
from tests.support.store import fill, free

Handler = Callable[[Event], Awaitable[Effect | None]]


def raw(name: str, sender: str = "@a:hs", kind: str = "m.room.message") -> dict[str, Any]:
    return {"event_id": name, "room_id": "!r", "type": kind, "sender": sender, "content": {}}


def dispatcher(store: Database, handler: Handler) -> Dispatcher:
    return Dispatcher(store, handler, is_ours=lambda user: user == "@bot:hs")


class Handled:
    """Remembers what it is given; raises the errors it was told to, one a call."""

    def __init__(self, *errors: Exception) -> None:
        self.seen: list[str] = []
        self._errors = list(errors)

    async def __call__(self, event: Event) -> Effect | None:
        if self._errors:
            raise self._errors.pop(0)
        self.seen.append(event.id)
        return None


async def test_what_comes_before_the_start_is_over_is_kept_and_handled_once_after_it(store: Database) -> None:
    handled = Handled()
    first = dispatcher(store, handled)
    await first.receive([raw("$1"), raw("$2")])
    await first.idle()
    assert handled.seen == []

    assert await first.resume() == 2
    await first.receive([raw("$2"), raw("$3")])
    await first.idle()

    assert handled.seen == ["$1", "$2", "$3"]
    assert await inbox.count_open(store) == 0


async def test_an_event_that_is_committed_while_the_start_ends_is_neither_lost_nor_doubled(store: Database) -> None:
    for round_ in range(30):
        handled = Handled()
        one = dispatcher(store, handled)
        early = asyncio.create_task(one.receive([raw(f"${round_}")]))
        for _ in range(round_ % 6):
            await asyncio.sleep(0)
        await one.resume()
        await early
        await one.idle()
        assert handled.seen == [f"${round_}"]


async def test_an_event_outlasts_a_homeserver_that_is_away(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_S", 0.001)
    handled = Handled(*[MatrixConnectionError("away"), Unavailable("away")] * 5)
    one = dispatcher(store, handled)
    await one.resume()

    await one.receive([raw("$1")])
    await one.idle()

    assert handled.seen == ["$1"]


async def test_a_full_disk_is_waited_for_and_nothing_that_came_is_lost_or_changes_its_place(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_S", 0.001)
    monkeypatch.setattr(patience, "LONGEST_S", 0.001)
    tried: list[str] = []

    async def handler(event: Event) -> Effect:
        if not tried:
            await fill(store)

        async def write(db: Connection) -> None:
            tried.append(event.id)
            if len(tried) == TRIES + 4:
                await free(db)
            await meta.put(db, event.id, "x" * 100_000)

        return Effect(write=write)

    one = dispatcher(store, handler)
    await one.resume()
    await one.receive([raw("$1"), raw("$2")])
    await one.idle()

    assert tried == ["$1"] * (TRIES + 4) + ["$2"]
    assert [len(await meta.get(store, event)) for event in ("$1", "$2")] == [100_000] * 2
    assert await inbox.count_open(store) == 0


async def test_what_opsrooms_users_say_is_no_news_but_their_membership_is(store: Database) -> None:
    handled = Handled()
    one = dispatcher(store, handled)
    await one.resume()

    await one.receive([raw("$1", "@bot:hs"), raw("$2", "@bot:hs", "m.room.member")])
    await one.idle()

    assert handled.seen == ["$2"]
