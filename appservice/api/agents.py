"""What agents reach through the gateway: their storage key, the models they may use, the offline demo model.

Who asks is what Envoy read from the verified token and put into `x-opsroom-consumer`; never an argument.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time

from aiohttp import web

from appservice.errors import OpsroomError
from appservice.gateway import demo
from appservice.storage.protocol import AccessKey, Users

CONSUMER = "x-opsroom-consumer"
KEY_LIFE_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    key: AccessKey
    until: float


class StorageKeys:
    """Keys of at most an hour, in memory only; a new one retires all but the one before it."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._held: dict[str, _Held] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def of(self, name: str) -> tuple[AccessKey, float]:
        """The agent's key and when it ends (seconds since the epoch)."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            held = self._held.get(name)
            if held is None or held.until - time() < KEY_LIFE_S / 2:
                fresh = _Held(key=await self._users.issue_key(name), until=time() + KEY_LIFE_S)
                before = [held.key.key_id] if held else []
                await self._users.retire_keys(name, keep=[fresh.key.key_id, *before])
                self._held[name] = held = fresh
            return held.key, held.until

    def forget(self, name: str) -> None:
        """The agent's storage user was deleted."""
        self._held.pop(name, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """`prefix` of an agent's files, its `models` (none: it is no agent of ours), and the bucket they are in."""

    prefix: Callable[[str], str]
    models: Callable[[str], Awaitable[list[str] | None]]
    bucket: str
    region: str


def app(keys: StorageKeys, facts: AgentFacts) -> web.Application:
    async def storage_key(request: web.Request) -> web.Response:
        name = request.headers.get(CONSUMER, "")
        if not name or await facts.models(name) is None:
            return _refuse(403, "no agent of that name")
        try:
            key, until = await keys.of(name)
        except OpsroomError as error:
            return _refuse(503, str(error))
        return web.json_response(
            {
                "access_key": key.key_id,
                "secret_key": key.secret,
                "bucket": facts.bucket,
                "prefix": facts.prefix(name),
                "region": facts.region,
                "expires_at": until,
            }
        )

    async def models(request: web.Request) -> web.Response:
        found = await facts.models(request.headers.get(CONSUMER, ""))
        if found is None:
            return _refuse(403, "no agent of that name")
        data = [{"id": model, "object": "model", "created": 0, "owned_by": "opsroom"} for model in found]
        return web.json_response({"object": "list", "data": data})

    made = web.Application()
    made.add_routes(
        [web.post("/opsroom/v1/storage-key", storage_key), web.get("/opsroom/v1/models", models), *demo.routes()]
    )
    return made


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "permission_error"}}, status=status)
