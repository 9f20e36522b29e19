"""The homeserver's door of a running Opsroom: who may knock, what is stored, and that nothing malformed does harm."""

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from appservice import config
from appservice.embedded.world import registration_path
from appservice.homeserver import registration
from tests.support import faults
from tests.support.stack import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The application service's port, with the token that opens it."""

    stack: Stack
    http: aiohttp.ClientSession
    token: str

    async def push(self, *events: Any, txn: str = "", **headers: str) -> int:
        """The status of a transaction with these events."""
        sent = headers or {"Authorization": f"Bearer {self.token}"}
        path = f"/_matrix/app/v1/transactions/{txn or secrets.token_hex(6)}"
        async with self.http.put(path, json={"events": list(events)}, headers=sent) as answer:
            await answer.read()
            return answer.status

    def event(self, body: Any = "hello", **more: Any) -> dict[str, Any]:
        """A message of the operator in the ops room that nobody has sent there."""
        return {
            "event_id": f"${secrets.token_urlsafe(32)}",
            "room_id": self.stack.ops_room,
            "type": "m.room.message",
            "sender": self.stack.op.user,
            "origin_server_ts": 1,
            "content": {"msgtype": "m.text", "body": body},
        } | more

    def stored(self, event: dict[str, Any]) -> int:
        """How often the inbox has it."""
        db = sqlite3.connect(f"file:{self.stack.data_dir / 'opsroom.db'}?mode=ro", uri=True)
        try:
            sql = "SELECT count(*) FROM inbox WHERE event_id = ?"
            return int(db.execute(sql, (event["event_id"],)).fetchone()[0])
        finally:
            db.close()


@pytest.fixture
async def as_door(stack: Stack) -> AsyncIterator[Door]:
    settings = config.load(stack.data_dir)
    token = registration.load(registration_path(settings)).hs_token
    base = f"http://127.0.0.1:{settings.homeserver.listen_port}"
    async with aiohttp.ClientSession(base) as http:
        yield Door(stack=stack, http=http, token=token)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Nothing": ""}, 401),
        ({"Authorization": "Basic abc"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer wrong"}, 403),
        ({"Authorization": "Bearer ÄÖ"}, 403),
    ],
)
async def test_who_has_not_the_token_is_refused_and_nothing_is_stored(
    as_door: Door, headers: dict[str, str], status: int
) -> None:
    event = as_door.event()

    assert await as_door.push(event, **headers) == status

    assert as_door.stored(event) == 0


async def test_a_token_in_the_address_opens_nothing(as_door: Door) -> None:
    path = f"/_matrix/app/v1/transactions/1?access_token={as_door.token}"
    async with as_door.http.put(path, json={"events": [as_door.event()]}) as answer:
        assert answer.status == 401


async def test_an_event_is_stored_once_however_often_it_comes(as_door: Door) -> None:
    event = as_door.event()

    first = await asyncio.gather(*(as_door.push(event, txn="same") for _ in range(5)))
    again = [await as_door.push(event, txn="another"), await as_door.push(event, event)]

    assert set(first) | set(again) == {200}
    assert as_door.stored(event) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"events": 3', b"{}"])
async def test_a_transaction_that_is_none_is_refused(as_door: Door, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {as_door.token}"}
    async with as_door.http.put("/_matrix/app/v1/transactions/x", data=body, headers=headers) as answer:
        assert answer.status == 400


async def test_malformed_events_are_dropped_and_the_good_one_beside_them_is_not(as_door: Door) -> None:
    good = as_door.event()
    bad: list[Any] = [
        *(None, 7, "text", [], {}),
        as_door.event() | {"event_id": 5},
        as_door.event() | {"room_id": None},
        {key: value for key, value in as_door.event().items() if key != "sender"},
    ]

    assert await as_door.push(*bad, good) == 200
    assert await as_door.push({"not": "a list"}) == 200

    assert as_door.stored(good) == 1
    await faults.all_done(as_door.stack, 30)


ODD: tuple[dict[str, Any], ...] = (
    {"content": {"msgtype": "m.text", "body": {"a": "dict"}}},
    {"content": {"msgtype": 4, "body": "!help"}},
    {"content": "text"},
    {"content": None},
    {"content": {"msgtype": "m.text", "body": "!version\0 with\0 NUL"}},
    {"content": {"msgtype": "m.text", "body": "x" * 60_000}},
    {"content": {"msgtype": "m.text", "body": "hi", "m.relates_to": "thread"}},
    {"content": {"msgtype": "m.text", "body": "hi", "m.relates_to": {"rel_type": "m.thread", "event_id": 3}}},
    {"content": {"msgtype": "m.text", "body": "hi", "m.relates_to": {"m.in_reply_to": "$x"}}},
    {"content": {"msgtype": "m.text", "body": "* x", "m.relates_to": {"rel_type": "m.replace", "event_id": []}}},
    {"content": {"msgtype": "m.text", "body": "hi", "m.mentions": {"user_ids": [1, None, {}]}}},
    {"content": {"msgtype": "m.text", "body": "hi", "m.mentions": [], "formatted_body": 9}},
    {"content": {"msgtype": "m.file", "body": "x.yaml", "filename": ["x"], "url": 12}},
    {"content": {"msgtype": "m.text", "body": "\ud800 lone"}},
    {"type": "m.reaction", "content": {"m.relates_to": {"rel_type": "m.annotation", "event_id": {}, "key": []}}},
    {"type": "m.room.member", "state_key": 9, "content": {"membership": []}},
    {"type": "m.room.member", "content": {"membership": "join"}},
    {"type": "m.room.power_levels", "state_key": "", "content": {"users": "everyone"}},
    {"type": "m.room.redaction", "redacts": 8, "content": {}},
    {"type": "m.room.encrypted", "content": {"algorithm": None}},
    {"origin_server_ts": "yesterday"},
    {"sender": "nobody"},
    {"room_id": "!nowhere:else"},
)


async def test_events_with_odd_contents_do_no_harm(as_door: Door) -> None:
    stack = as_door.stack
    room = await stack.worker("steady")
    lines = len(stack.log().splitlines())
    odd = [as_door.event() | more for more in ODD]
    odd += [as_door.event() | {"room_id": room} | more for more in ODD if "room_id" not in more]

    assert await as_door.push(*odd) == 200
    await faults.all_done(stack, 60)

    broke = [line for line in stack.log().splitlines()[lines:] if "Traceback" in line or '"event failed"' in line]
    assert broke == []
    answer = await stack.op.answer_to(await stack.ask(room, "steady", "still there?"), "You said")
    assert answer.text.endswith("still there?")
    assert (await stack.command("!version")).text.startswith("Opsroom ")
