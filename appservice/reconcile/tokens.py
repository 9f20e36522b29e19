"""The token of an agent: issued, renewed at half of its life, ended. Its file is there while the agent has one."""

import asyncio
from time import time

from appservice.backends.door import door
from appservice.backends.inside import write_token
from appservice.errors import OpsroomError
from appservice.reconcile.world import World
from appservice.store import consumers


class Tokens:
    def __init__(self, world: World) -> None:
        self._w = world

    @property
    def look_s(self) -> float:
        """How often to look, to renew each in time."""
        return self._ttl_s / 3

    async def ensure(self, name: str) -> None:
        """Have one that lives for at least half of its time."""
        if await self._is_good(name):
            return
        fresh = self._w.gateway.issue(name, now=int(time()), ttl_s=self._ttl_s)
        await self._w.store.write(lambda db: consumers.issued(db, fresh.jti, name, fresh.expires_at))
        await write_token(door(self._w.settings, name).secrets_dir, fresh.text)

    async def keep(self, name: str) -> None:
        """Let one who has a token go on having one."""
        if await asyncio.to_thread(door(self._w.settings, name).token.exists):
            await self.ensure(name)

    async def end(self, name: str) -> None:
        """Revoke what was issued; the gateway learns of it with its next state."""
        if name in await consumers.holders(self._w.store):
            await self._w.store.write(lambda db: consumers.revoke(db, name))
        await asyncio.to_thread(door(self._w.settings, name).token.unlink, missing_ok=True)

    @property
    def _ttl_s(self) -> int:
        return self._w.settings.gateway.token_ttl_s

    async def _is_good(self, name: str) -> bool:
        try:
            text = await asyncio.to_thread(door(self._w.settings, name).token.read_text)
            token = self._w.gateway.read(text)
        except (OSError, OpsroomError):
            return False
        if token.consumer != name or token.expires_at - time() < self._ttl_s / 2:
            return False
        return not await consumers.is_revoked(self._w.store, token.jti)
