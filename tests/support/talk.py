"""Conversations without a stack: what people and agents say in rooms, and whom that asks.

The store and the calls to the homeserver are real; the homeserver answers what a test says of its rooms.
"""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pytest

from appservice.conversations.router import Router
from appservice.conversations.runner import Runner
from appservice.conversations.running import Agents
from appservice.homeserver.client import Homeserver
from appservice.homeserver.dispatch import Effect
from appservice.homeserver.events import Event
from appservice.homeserver.live import Pace
from appservice.homeserver.members import Members
from appservice.homeserver.registration import Registration
from appservice.homeserver.sender import Sender
from appservice.ops.hands import checked
from appservice.reconcile.desk import Desk
from appservice.rooms.declared import Declared
from appservice.store import rooms, turns
from appservice.store.changes import Changes
from appservice.store.database import Database
from appservice.store.declaring import Author
from appservice.store.outbox import Outgoing
from appservice.store.rooms import Purpose, Room
from tests.support.recorder import Request, recording
from tests.support.rosters import NAMES, OPERATORS

ROOM = "!room"
REGISTRATION = Registration(id="opsroom", url="", as_token="a", hs_token="h", sender_localpart="x", namespaces={})
Content = dict[str, Any]
_API = "/_matrix/client/v3/"


@dataclass(slots=True, kw_only=True)
class Rooms:
    """A homeserver as far as conversations go: it has rooms with members and takes what is sent. `away`: how many
    requests that end like this it does not answer."""

    members: dict[str, dict[str, str]] = field(default_factory=dict)  # room -> Matrix id -> membership
    state: dict[str, list[Content]] = field(default_factory=dict)  # room -> state events beside its members
    sent: list[Content] = field(default_factory=list)  # contents of messages, oldest first
    senders: list[str] = field(default_factory=list)  # of these
    away: dict[str, int] = field(default_factory=dict)

    def respond(self, request: Request) -> tuple[int, bytes]:
        end = request.path.rpartition("/")[2]
        if self.away.get(end):
            self.away[end] -= 1
            return 502, b"{}"
        status, answer = self._answer(request)
        return status, json.dumps(answer).encode()

    def _answer(self, request: Request) -> tuple[int, object]:
        user, parts = request.query["user_id"], [unquote(part) for part in request.path.removeprefix(_API).split("/")]
        there = self.members.setdefault(parts[1], {}) if len(parts) > 1 else {}
        match request.method, *parts:
            case "POST", "join", _:
                there[user] = "join"
            case "POST", "rooms", _, "leave":
                there[user] = "leave"
            case "GET", "rooms", _, "joined_members":
                if there.get(user) != "join":
                    return 403, {"errcode": "M_FORBIDDEN", "error": "not in the room"}
                return 200, {"joined": {each: _profile(each) for each in there if there[each] == "join"}}
            case "GET", "rooms", room, "state":
                if there.get(user) not in ("join", "leave"):
                    return 403, {"errcode": "M_FORBIDDEN", "error": "not in the room"}
                return 200, [*self.state.get(room, ()), *(_member(each, there[each]) for each in there)]
            case "POST", *_, "upload":
                return 200, {"content_uri": f"mxc://{NAMES.server_name}/file"}
            case "PUT", "rooms", _, "send", "m.room.message", _:
                self.sent.append(json.loads(request.body))
                self.senders.append(user)
                return 200, {"event_id": f"$sent{len(self.sent)}"}
        return 200, {}


def _profile(user: str) -> Content:
    return {"display_name": f"{agent} (agent)"} if (agent := NAMES.agent(user)) else {}


def _member(user: str, membership: str) -> Content:
    return {"type": "m.room.member", "state_key": user, "sender": user, "content": {"membership": membership}}


@dataclass(slots=True, kw_only=True)
class Talk:
    """The router on a store of its own. Nothing is delivered: what was asked are the turns."""

    store: Database
    homeserver: Homeserver
    house: Rooms
    desk: Desk
    members: Members
    declared: Declared
    sender: Sender
    dead: list[Outgoing]
    hop_limit: int = 8
    _said: int = 0

    async def declare(self, text: str) -> None:
        await self.desk.declare(checked(text.encode(), "test"), Author(user="@op:hs", cause="$", now=0.0))

    async def room(self, purpose: Purpose, *users: str, owner: str = "", bot: bool = True, room: str = ROOM) -> None:
        """Make a room that Opsroom knows, with these in it and the bot."""
        self.house.members[room] = dict.fromkeys((*users, *([NAMES.bot] if bot else [])), "join")
        known = Room(room_id=room, purpose=purpose, owner=owner)
        await self.store.write(lambda db: rooms.put(db, known))

    def router(self) -> Router:
        runner = Runner(
            store=self.store,
            homeserver=self.homeserver,
            sender=self.sender,
            pace=Pace(),
            agents=_asleep(),
            limit_s=60.0,
        )
        return Router(
            store=self.store,
            homeserver=self.homeserver,
            members=self.members,
            sender=self.sender,
            runner=runner,
            names=NAMES,
            declared=self.declared,
            hop_limit=self.hop_limit,
        )

    async def say(
        self, user: str, text: str, *mention: str, thread: str = "", room: str = ROOM, **content: Any
    ) -> tuple[str, dict[str, str]]:
        """Somebody says something; the event's id, and the question of each agent that it asks."""
        body: Content = {"msgtype": "m.text", "body": text, "m.mentions": {"user_ids": list(mention)}} | content
        if thread:
            body["m.relates_to"] = {"rel_type": "m.thread", "event_id": thread, "is_falling_back": True}
        return await self.reads(user, body, room=room)

    async def reads(self, user: str, content: Content, *, room: str = ROOM) -> tuple[str, dict[str, str]]:
        """The router reads a message of this content; as `say`."""
        event = await self.event(user, "m.room.message", content, room=room)
        return event, {turn.agent: turn.question for turn in await turns.of_event(self.store, event)}

    async def member(self, user: str, membership: str, *, by: str, room: str = ROOM) -> None:
        """Somebody's place in a room changes."""
        self.house.members.setdefault(room, {})[user] = membership
        self.members.changed(room)
        await self.event(by, "m.room.member", {"membership": membership}, state_key=user, room=room)

    async def event(
        self, user: str, type_: str, content: Mapping[str, Any], *, state_key: str | None = None, room: str = ROOM
    ) -> str:
        self._said += 1
        event = Event(id=f"$e{self._said}", room_id=room, type=type_, sender=user, content=content, state_key=state_key)
        effect = await self.router().handle(event, await rooms.get(self.store, room)) or Effect()
        if effect.write:
            await self.store.write(effect.write)
        return event.id


def _asleep() -> Agents:
    async def nothing(*_: Any) -> Any:
        raise AssertionError("nothing is delivered here")

    return Agents(
        door=nothing,  # type: ignore[arg-type]
        user=NAMES.user,
        awake=lambda _name: False,
        wake=nothing,
        brief=nothing,
        calls=nothing,
    )


@pytest.fixture
async def talk(store: Database) -> AsyncIterator[Talk]:
    async def operators() -> frozenset[str]:
        return frozenset(OPERATORS)

    house = Rooms()
    dead: list[Outgoing] = []

    async def on_dead(item: Outgoing, _reason: str) -> None:
        dead.append(item)

    with recording(house.respond) as recorder:
        homeserver = Homeserver(recorder.endpoint, REGISTRATION, server_name=NAMES.server_name, bot=NAMES.bot)
        sender = Sender(store, homeserver, on_dead=on_dead)
        yield Talk(
            store=store,
            homeserver=homeserver,
            house=house,
            desk=Desk(store, Changes(), lambda _key: None, NAMES),
            members=Members(homeserver),
            declared=Declared(store, NAMES, operators, prefix="opsroom-"),
            sender=sender,
            dead=dead,
        )
        await sender.close()
        await homeserver.close()
