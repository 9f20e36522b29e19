"""A real Synapse on a free port, with the settings that `opsroom up` gives it, and people who use it by its API."""

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest_asyncio
import yaml
from signedjson.key import generate_signing_key, write_signing_keys

from appservice.embedded.synapse import homeserver_yaml
from tests.support.children import free_port

Event = dict[str, Any]
SERVER_NAME = "ops.test"
_START_S = 60.0
SHARED_SECRET = secrets.token_hex()


class MatrixError(Exception):
    """The homeserver said no."""

    def __init__(self, status: int, answer: dict[str, Any]) -> None:
        super().__init__(f"{status} {answer.get('errcode', '')} {answer.get('error', '')}")
        self.status = status
        self.errcode = str(answer.get("errcode", ""))


@dataclass(kw_only=True)
class Synapse:
    """One homeserver. `start`, `stop` and `kill` may follow each other: the data stays."""

    root: Path
    registrations: Sequence[Path] = ()
    server_name: str = SERVER_NAME
    more: Mapping[str, object] = field(default_factory=dict)  # settings of its own
    port: int = field(default_factory=free_port)
    session: aiohttp.ClientSession = field(default_factory=aiohttp.ClientSession, repr=False)
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.root / "synapse.log"

    def configure(self) -> Path:
        """Write its files; secrets only the first time."""
        config, key = self.root / "homeserver.yaml", self.root / "signing.key"
        (self.root / "media").mkdir(parents=True, exist_ok=True)
        if not key.exists():
            with key.open("w") as file:
                write_signing_keys(file, [generate_signing_key("a_test")])
        (self.root / "log.yaml").write_text(yaml.safe_dump({"version": 1, "root": {"level": "WARNING"}}))
        settings = homeserver_yaml(self.server_name, self.root, self.root / "none.yaml", self.port)
        settings |= {
            "app_service_config_files": [str(path) for path in self.registrations],
            "registration_shared_secret": SHARED_SECRET,
            "macaroon_secret_key": SHARED_SECRET,
            "form_secret": SHARED_SECRET,
            "bcrypt_rounds": 4,
            **self.more,
        }
        config.write_text(yaml.safe_dump(settings))
        return config

    async def start(self) -> None:
        config = await asyncio.to_thread(self.configure)
        command = (sys.executable, "-m", "synapse.app.homeserver", "-c", str(config))
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, start_new_session=True, cwd=self.root
            )
        deadline = monotonic() + _START_S
        while not await self._answers():
            said = self.log.read_text()[-2000:]
            assert self.process.returncode is None, f"Synapse ended with {self.process.returncode}: {said}"
            assert monotonic() < deadline, f"Synapse does not answer: {said}"
            await asyncio.sleep(0.1)

    async def _answers(self) -> bool:
        try:
            async with self.session.get(f"{self.url}/_matrix/client/versions") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is None:
            return
        if self.process.returncode is None:
            os.killpg(self.process.pid, how)
        await self.process.wait()
        self.process = None

    async def kill(self) -> None:
        await self.stop(signal.SIGKILL)

    async def person(self, name: str, *, admin: bool = False) -> "Person":
        """Make an account and log in."""
        password, register = secrets.token_urlsafe(12), "/_synapse/admin/v1/register"
        nonce = (await self.call("GET", register))["nonce"]
        words = "\0".join((nonce, name, password, "admin" if admin else "notadmin"))
        body = {
            "nonce": nonce,
            "username": name,
            "password": password,
            "admin": admin,
            "mac": hmac.new(SHARED_SECRET.encode(), words.encode(), hashlib.sha1).hexdigest(),
        }
        account = await self.call("POST", register, body)
        return Person(server=self, user_id=account["user_id"], password=password, token=account["access_token"])

    async def call(
        self, method: str, path: str, body: object = None, *, token: str = "", query: dict[str, str] | None = None
    ) -> Any:
        """Make one JSON request. Raises MatrixError."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.request(
            method, self.url + path, json=body, params=query or {}, headers=headers
        ) as answer:
            return await _content(answer)


async def _content(answer: aiohttp.ClientResponse) -> Any:
    content = await answer.json(content_type=None)
    if answer.status != 200:
        raise MatrixError(answer.status, content)
    return content


@dataclass(kw_only=True)
class Person:
    """Somebody with an account, or a bot: all that a client does, by the client-server API."""

    server: Synapse
    user_id: str
    password: str = field(repr=False)
    token: str = field(repr=False)
    seen: dict[str, list[Event]] = field(default_factory=dict, repr=False)
    _since: str = ""
    _numbers: Any = field(default_factory=count, repr=False)

    async def call(self, method: str, path: str, body: object = None, **query: str) -> Any:
        return await self.server.call(method, f"/_matrix/client/v3{path}", body, token=self.token, query=query)

    async def create_room(self, **options: Any) -> str:
        """`name=`, `invite=[...]`, `room_alias_name=` and all else that createRoom takes."""
        return str((await self.call("POST", "/createRoom", {"preset": "private_chat"} | options))["room_id"])

    async def send(self, room: str, content: Event, kind: str = "m.room.message") -> str:
        path = f"/rooms/{quote(room)}/send/{kind}/t{next(self._numbers)}-{secrets.token_hex(4)}"
        return str((await self.call("PUT", path, content))["event_id"])

    async def say(self, room: str, body: str, html: str = "", **more: Any) -> str:
        return await self.send(room, text(body, html) | more)

    async def answer(self, room: str, root: str, body: str, html: str = "") -> str:
        """Send into the thread of `root`."""
        relation = {
            "rel_type": "m.thread",
            "event_id": root,
            "is_falling_back": True,
            "m.in_reply_to": {"event_id": root},
        }
        return await self.send(room, text(body, html) | {"m.relates_to": relation})

    async def edit(self, room: str, event: str, body: str, html: str = "") -> str:
        new = text(body, html)
        relation = {"rel_type": "m.replace", "event_id": event}
        return await self.send(room, new | {"body": f"* {body}", "m.new_content": new, "m.relates_to": relation})

    async def react(self, room: str, event: str, key: str) -> str:
        relation = {"rel_type": "m.annotation", "event_id": event, "key": key}
        return await self.send(room, {"m.relates_to": relation}, "m.reaction")

    async def upload(self, data: bytes, name: str, kind: str) -> str:
        """Answer the file's mxc address."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        address = f"{self.server.url}/_matrix/media/v3/upload"
        async with self.server.session.post(address, data=data, params={"filename": name}, headers=headers) as answer:
            return str((await _content(answer))["content_uri"])

    async def download(self, mxc: str) -> bytes:
        address = f"{self.server.url}/_matrix/client/v1/media/download/{mxc.removeprefix('mxc://')}"
        async with self.server.session.get(address, headers={"Authorization": f"Bearer {self.token}"}) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.read()

    async def event(self, room: str, wanted: Callable[[Event], object], *, seconds: float = 20) -> Event:
        """Wait for an event of a room, in the order of its timeline; those seen before count too."""
        deadline = monotonic() + seconds
        while True:
            for event in self.seen.get(room, ()):
                if wanted(event):
                    return event
            assert monotonic() < deadline, f"no such event within {seconds} s; seen: {self.seen.get(room)}"
            await self._sync()

    async def _sync(self) -> None:
        query = {"timeout": "1000"} | ({"since": self._since} if self._since else {})
        answer = await self.call("GET", "/sync", **query)
        self._since = answer["next_batch"]
        for room, changes in answer.get("rooms", {}).get("join", {}).items():
            self.seen.setdefault(room, []).extend(changes["timeline"]["events"])


def text(body: str, html: str = "") -> Event:
    """Content of a text message."""
    content: Event = {"msgtype": "m.text", "body": body}
    return content | ({"format": "org.matrix.custom.html", "formatted_body": html} if html else {})


@contextlib.asynccontextmanager
async def running_synapse(
    root: Path, *registrations: Path, port: int = 0, more: Mapping[str, object] | None = None
) -> AsyncIterator[Synapse]:
    """A homeserver with these application services, gone at the end. `more`: settings of its own."""
    server = Synapse(root=root, registrations=registrations, port=port or free_port(), more=more or {})
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
        await server.session.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def synapse(tmp_path_factory: Any) -> AsyncIterator[Synapse]:
    """One homeserver without application services for the whole run. Tests make their own people and rooms."""
    async with running_synapse(tmp_path_factory.mktemp("synapse")) as server:
        yield server
