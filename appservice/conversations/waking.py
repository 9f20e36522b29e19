"""Before a turn: is the agent there? One that sleeps, starts or was lost is woken and waited for."""

import asyncio
from collections.abc import Callable
from time import time

from appservice.errors import NotFound, Unavailable
from appservice.runtimes.a2a import Agent, Socket
from appservice.store import meta, objects, status
from appservice.store.changes import Key
from appservice.store.database import Connection, Database

LIMIT_S = 120.0


class Waking:
    """`look` asks for a reconcile pass at once; `awake_s`: how long a sleeping agent stays up after its last turn."""

    def __init__(
        self, store: Database, *, door: Callable[[str], Agent], look: Callable[[Key], None], awake_s: float
    ) -> None:
        self._store = store
        self._door = door
        self._look = look
        self._awake_s = awake_s
        self._took_turns: dict[str, Socket] = {}

    def awake(self, name: str) -> bool:
        """Whether the agent has not been started again since it took turns."""
        socket = self._door(name).socket()
        return socket is not None and socket == self._took_turns.get(name)

    async def wanted(self, db: Connection, name: str) -> None:
        """Raise with a sentence when it is declared not to run; keep one up that sleeps otherwise."""
        stored = await objects.get(db, Key("Worker", name))
        if stored is None or stored.deleting:
            raise NotFound(f"{name} was deleted.")
        state = stored.document["spec"].get("state", "Running")
        if state == "Stopped":
            raise Unavailable(f"{name} is stopped, as declared.", fix="An operator can set its `state` to Running.")
        if state == "Sleeping":
            until = str(time() + self._awake_s)
            await meta.put(db, meta.AWAKE_UNTIL + name, until)

    async def wake(self, name: str) -> None:
        """Return when the agent takes turns. Raises with a sentence when it does not come up."""
        await self._store.write(lambda db: self.wanted(db, name))
        if await self._door(name).ready() is None:
            await self._wait(Key("Worker", name))
        if (socket := self._door(name).socket()) is not None:
            self._took_turns[name] = socket

    async def _wait(self, key: Key) -> None:
        self._look(key)
        door = self._door(key.name)
        deadline = time() + LIMIT_S
        while await door.ready() is None:
            if time() > deadline:
                raise Unavailable(await self._why(key), fix="Ask again once it runs.")
            await asyncio.sleep(0.05)

    async def _why(self, key: Key) -> str:
        found = await status.get(self._store, key)
        bad = [c for c in found.conditions if c.status != "True" and c.type != "FieldsEffective" and c.message]
        reason = next((c.message for c in bad if c.reason != "Waiting"), "it did not start in time")
        return f"{key.name} does not run: {reason}"
