"""A person at a Matrix client: logs in, says things, uploads files, reacts, and waits for what others say.

Waiting follows one `/sync` loop; nothing is polled and nothing sleeps.
"""

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import quote

import aiohttp

WAIT_S = 60.0
_FILTER = json.dumps({"room": {"timeline": {"limit": 500}}})  # a burst must not leave a gap


@dataclass(slots=True)
class Message:
    """One message as people see it: the first event with its newest edit."""

    id: str
    room: str
    sender: str
    text: str
    html: str
    thread: str
    raw: dict[str, Any]
    edits: int = 0


@dataclass(slots=True)
class Person:
    url: str
    user: str
    token: str
    http: aiohttp.ClientSession
    events: list[dict[str, Any]] = field(default_factory=list)
    messages: dict[str, Message] = field(default_factory=dict)
    reactions: list[tuple[str, str, str]] = field(default_factory=list)  # (event, key, sender)
    typing: dict[str, list[str]] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)  # event id -> monotonic time
    rooms: dict[str, dict[str, str]] = field(default_factory=dict)  # joined: id -> name, alias
    invited: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    since: str = ""
    _txn: Any = field(default_factory=lambda: itertools.count())

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """One client-server call; raises with the server's words."""
        async with self.http.request(
            method,
            f"{self.url}/_matrix/client/v3/{path}",
            json=body,
            params=query,
            headers={"Authorization": f"Bearer {self.token}"},
        ) as answer:
            found = await answer.json()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {found}")
            return found

    async def say(self, room: str, text: str, *, thread: str = "", mention: str = "", **content: Any) -> str:
        """Send a text; `mention` makes it a pill for that user, as Element does."""
        body: dict[str, Any] = {"msgtype": "m.text", "body": text, **content}
        if mention:
            name = mention[1:].split(":")[0]
            body |= {
                "body": f"{name} {text}",
                "format": "org.matrix.custom.html",
                "formatted_body": f'<a href="https://matrix.to/#/{mention}">{name}</a> {text}',
                "m.mentions": {"user_ids": [mention]},
            }
        if thread:
            body["m.relates_to"] = {
                "rel_type": "m.thread",
                "event_id": thread,
                "is_falling_back": True,
                "m.in_reply_to": {"event_id": thread},
            }
        return await self.send(room, "m.room.message", body)

    async def send(self, room: str, kind: str, body: dict[str, Any]) -> str:
        """Send; while the homeserver is away it is tried again under the same transaction id, as clients do."""
        path = f"rooms/{quote(room)}/send/{kind}/{uuid.uuid4().hex}{next(self._txn)}"

        async def put() -> str:
            return str((await self.call("PUT", path, body))["event_id"])

        return await self._persist(put)

    async def _persist(self, work: Callable[[], Awaitable[str]]) -> str:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                return await work()
            except aiohttp.ClientError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def edit(self, room: str, event: str, text: str) -> str:
        relation = {"rel_type": "m.replace", "event_id": event}
        new = {"msgtype": "m.text", "body": text}
        more: dict[str, Any] = {"m.new_content": new, "m.relates_to": relation}
        return await self.say(room, f"* {text}", **more)

    async def reply(self, room: str, event: str, text: str) -> str:
        more: dict[str, Any] = {"m.relates_to": {"m.in_reply_to": {"event_id": event}}}
        return await self.say(room, text, **more)

    async def react(self, room: str, event: str, key: str) -> str:
        relation = {"rel_type": "m.annotation", "event_id": event, "key": key}
        return await self.send(room, "m.reaction", {"m.relates_to": relation})

    async def redact(self, room: str, event: str) -> None:
        await self.call("PUT", f"rooms/{quote(room)}/redact/{quote(event)}/{uuid.uuid4().hex}", {})

    async def upload(self, room: str, name: str, data: bytes) -> str:
        """Send a file, as a client does."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/x-yaml"}
        url = f"{self.url}/_matrix/media/v3/upload"

        async def store() -> str:
            async with self.http.post(url, params={"filename": name}, data=BytesIO(data), headers=headers) as answer:
                return str((await answer.json())["content_uri"])

        address = await self._persist(store)
        info = {"mimetype": "application/x-yaml", "size": len(data)}
        return await self.send(
            room, "m.room.message", {"msgtype": "m.file", "body": name, "filename": name, "url": address, "info": info}
        )

    async def download(self, address: str) -> bytes:
        url = f"{self.url}/_matrix/client/v1/media/download/{address.removeprefix('mxc://')}"
        async with self.http.get(url, headers={"Authorization": f"Bearer {self.token}"}) as answer:
            answer.raise_for_status()
            return await answer.read()

    async def file(self, event: str) -> tuple[str, bytes]:
        """Wait for a file in the thread of an event; its name and content."""
        found = await self.until(lambda: [m.raw for m in self.answers(event) if m.raw["msgtype"] == "m.file"], "a file")
        return str(found[0]["body"]), await self.download(found[0]["url"])

    async def resolve(self, alias: str) -> str:
        return str((await self.call("GET", f"directory/room/{quote(alias, safe='')}"))["room_id"])

    async def create_direct(self, other: str) -> str:
        body = {"preset": "trusted_private_chat", "is_direct": True, "invite": [other]}
        return str((await self.call("POST", "createRoom", body))["room_id"])

    async def until(self, condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
        """Wait for news until the condition gives something true; that."""
        try:
            async with asyncio.timeout(timeout_s), self.news:
                while not (found := condition()):
                    await self.news.wait()
                return found
        except TimeoutError:
            last = [f"{m.sender}: {m.text[:200]!r}" for m in list(self.messages.values())[-6:]]
            raise AssertionError(f"waited {timeout_s:.0f} s for {what}; last messages: {last}") from None

    def states(self, room: str, kind: str, key: str = "") -> list[dict[str, Any]]:
        """The events of one piece of a room's state that this client was told, oldest first."""
        return [e for e in self.events if (e["room_id"], e["type"], e.get("state_key")) == (room, kind, key)]

    def seen(self, room: str, kind: str, key: str = "") -> dict[str, Any]:
        """The newest content of one piece of a room's state that this client was told."""
        found = self.states(room, kind, key)
        return dict(found[-1]["content"]) if found else {}

    async def undone(self, room: str, kind: str, body: dict[str, Any], key: str = "") -> dict[str, Any]:
        """Set a piece of a room's state by hand; the content that somebody puts in its place."""
        path = f"rooms/{quote(room)}/state/{kind}/{quote(key)}"
        mine = str((await self.call("PUT", path, body))["event_id"])

        def after() -> list[dict[str, Any]]:
            told = self.states(room, kind, key)
            ids = [e["event_id"] for e in told]
            return told[ids.index(mine) + 1 :] if mine in ids else []

        return dict((await self.until(after, f"{kind} put right"))[-1]["content"])

    def answers(self, event: str) -> list[Message]:
        """Messages of others in the thread of an event, oldest first."""
        return [m for m in self.messages.values() if m.thread == event and m.sender != self.user]

    def reaction_keys(self, event: str) -> set[str]:
        return {key for target, key, _ in self.reactions if target == event}

    async def answer_to(self, event: str, text: str = "", timeout_s: float = WAIT_S) -> Message:
        """The first answer in the event's thread that contains the text; it may still grow after that."""
        found: Message = await self.until(
            lambda: next((m for m in self.answers(event) if text in m.text), None),
            f"an answer with {text!r}",
            timeout_s,
        )
        return found

    async def command(self, room: str, text: str, timeout_s: float = WAIT_S) -> Message:
        """Type a command and wait for its end: ✅ or ❌, and the answer as it stays."""
        return await self.ended(await self.say(room, text), timeout_s)

    async def ended(self, event: str, timeout_s: float = WAIT_S) -> Message:
        await self.until(lambda: self.reaction_keys(event) & {"✅", "❌"}, "✅ or ❌", timeout_s)
        return await self.answer_to(event)

    async def _follow(self) -> None:
        while True:
            query = {"timeout": "20000", "set_presence": "offline", "filter": _FILTER} | (
                {"since": self.since} if self.since else {}
            )
            try:
                answer = await self.call("GET", "sync", **query)
            except (aiohttp.ClientError, RuntimeError):  # the homeserver is away: that is what some tests are about
                await asyncio.sleep(0.2)
                continue
            async with self.news:
                self._take(answer)
                self.since = answer["next_batch"]
                self.news.notify_all()

    def _take(self, answer: dict[str, Any]) -> None:
        self.invited = set(answer["rooms"].get("invite", {})) if answer.get("rooms") else set()
        self.left |= set(answer.get("rooms", {}).get("leave", {}))
        for room, found in answer.get("rooms", {}).get("join", {}).items():
            self.left.discard(room)
            facts = self.rooms.setdefault(room, {})
            for event in [*found.get("state", {}).get("events", []), *found["timeline"]["events"]]:
                if event["type"] == "m.room.name":
                    facts["name"] = event["content"].get("name", "")
                if event["type"] == "m.room.canonical_alias":
                    facts["alias"] = event["content"].get("alias", "")
            for event in found["timeline"]["events"]:
                self._event(room, event)
            for event in found.get("ephemeral", {}).get("events", []):
                if event["type"] == "m.typing":
                    self.typing[room] = event["content"]["user_ids"]

    def _event(self, room: str, event: dict[str, Any]) -> None:
        self.events.append(event | {"room_id": room})
        self.arrived.setdefault(event["event_id"], time.monotonic())
        content = event["content"]
        relation = content.get("m.relates_to", {})
        if event["type"] == "m.reaction" and relation:
            self.reactions.append((relation["event_id"], relation["key"].replace("\ufe0f", ""), event["sender"]))
        if event["type"] != "m.room.message" or "body" not in content:
            return
        if relation.get("rel_type") == "m.replace":
            if (target := self.messages.get(relation["event_id"])) is not None:
                new = content["m.new_content"]
                target.text, target.html = new["body"], new.get("formatted_body", "")
                target.edits += 1
            return
        thread = relation["event_id"] if relation.get("rel_type") == "m.thread" else ""
        self.messages[event["event_id"]] = Message(
            event["event_id"],
            room,
            event["sender"],
            content["body"],
            content.get("formatted_body", ""),
            thread,
            content,
        )


@asynccontextmanager
async def person(url: str, name: str, password: str) -> AsyncIterator[Person]:
    """Log in and follow the rooms for as long as the context lasts."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        login = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": name},
            "password": password,
        }
        async with http.post(f"{url}/_matrix/client/v3/login", json=login) as answer:
            found = await answer.json()
        someone = Person(url, found["user_id"], found["access_token"], http)
        follower = asyncio.create_task(someone._follow())
        try:
            yield someone
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
