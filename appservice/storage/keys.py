"""The storage keys agents hold: an hour at most, in memory only, the last two of each agent valid."""

import asyncio
from dataclasses import dataclass
from time import time

from appservice.storage.protocol import AccessKey, Users

LIFE_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """A key and when it ends, in seconds since the epoch."""

    key: AccessKey
    until: float


class Keys:
    def __init__(self, users: Users) -> None:
        self._users = users
        self._lent: dict[str, Lent] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def lend(self, name: str, *, refused: str = "") -> Lent:
        """The agent's key; a new one when half its time is over, or when storage `refused` that key."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            lent = self._lent.get(name)
            if lent is not None and lent.until - time() > LIFE_S / 2 and lent.key.key_id != refused:
                return lent
            fresh = Lent(key=await self._users.issue_key(name), until=time() + LIFE_S)
            before = [lent.key.key_id] if lent is not None else []
            await self._users.retire_keys(name, keep=[fresh.key.key_id, *before])
            self._lent[name] = fresh
            return fresh

    async def delete_user(self, name: str) -> None:
        """End the user and what it was lent."""
        self._lent.pop(name, None)
        await self._users.delete(name)
