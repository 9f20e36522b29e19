"""From the outbox to the homeserver, as far as no homeserver is needed for it."""

from typing import Any

import pytest

from appservice.homeserver import sender as sending
from appservice.homeserver.sender import GIVE_UP_S, Sender
from appservice.store import outbox
from appservice.store.database import Database
from appservice.store.outbox import Outgoing

ITEM = Outgoing(
    txn_id="turn.a.0", room_id="!r", sender="@a:hs", type="m.room.message", content={"body": "hi"}, cause="$"
)
NOW = 1_000_000.0


class Taking:
    """A homeserver that takes everything."""

    def __init__(self) -> None:
        self.asked = 0

    async def send(self, *_: Any, **__: Any) -> str:
        self.asked += 1
        return "$sent"


async def outcome(store: Database, *, age_s: float, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, list[str]]:
    """What an item that an earlier process has kept so long ago comes to: tries, event, what is told of a dead one."""
    told: list[str] = []

    async def on_dead(_item: Outgoing, reason: str) -> None:
        told.append(reason)

    monkeypatch.setattr(sending, "time", lambda: NOW)
    await store.write(lambda db: outbox.add(db, ITEM, now=NOW - age_s))
    homeserver = Taking()
    sender = Sender(store, homeserver, on_dead=on_dead)  # type: ignore[arg-type]
    assert await sender.resume() == 1
    await sender.flush(20)
    kept = await outbox.get(store, ITEM.txn_id)
    assert kept is not None
    return homeserver.asked, kept.event_id, told


async def test_what_an_earlier_process_has_kept_for_too_long_is_not_sent_a_second_time(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, event, told = await outcome(store, age_s=GIVE_UP_S + 1, monkeypatch=monkeypatch)
    assert (asked, event) == (0, "")
    assert told == ["it could not be sent within 23 hours"]
    assert [letter.content for letter in await outbox.dead(store)] == [ITEM.content]


async def test_what_an_earlier_process_has_left_is_sent_while_a_repeat_would_be_recognised(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, event, told = await outcome(store, age_s=GIVE_UP_S - 1, monkeypatch=monkeypatch)
    assert (asked, event, told) == (1, "$sent", [])
