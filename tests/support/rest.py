"""The REST API in this process, with a real store and server; nothing runs what is declared."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import time
from typing import Any

from aiohttp import web

from appservice.api import identity, server
from appservice.api.world import World
from appservice.policy.triggers import Decision
from appservice.reconcile.desk import Desk
from appservice.resources import registry
from appservice.store import objects, status
from appservice.store.changes import Changes, Key
from appservice.store.database import Database
from appservice.store.declaring import Author
from appservice.store.objects import Stored
from appservice.store.status import Status
from tests.support.api import Api, api
from tests.support.rosters import NAMES
from tests.support.stack import worker_yaml


class Ours(World):
    """The API's world, and what a test does in it."""

    async def declare(self, *names: str, labels: str = "{}", **spec: str) -> None:
        made = [worker_yaml(name, **spec).replace("metadata:", f"metadata:\n  labels: {labels}") for name in names]
        text = "---\n".join(made)
        documents = registry.parse(text.encode(), source="test")
        await self.desk.declare(documents, Author(user="@op:hs", cause="$1", now=time()))

    async def pause(self, kind: str, name: str, *, paused: bool = True) -> None:
        stored = await objects.get(self.store, Key(kind, name))
        assert stored
        await self.desk.set_paused(stored, Author(user="@op:hs", cause="$3", now=time()), paused=paused)

    async def become(self, name: str, phase: str) -> None:
        await self.store.write(lambda db: status.put(db, Key("Worker", name), Status(phase=phase)))
        self.changes.publish(Key("Worker", name))

    async def forget(self, name: str) -> None:
        key = Key("Worker", name)
        await self.store.write(partial(objects.begin_delete, key=key, author="@op:hs", cause="$2", now=time()))
        await self.store.write(partial(objects.forget, key=key))
        self.changes.publish(key)


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[Ours]:
    store, changes = await Database.open(tmp_path / "opsroom.db"), Changes()

    async def logs(name: str, lines: int) -> str:
        return "\n".join((tmp_path / name).read_text().splitlines()[-lines:])

    async def own_files(_stored: Stored) -> tuple[int, int]:
        return 0, 0

    async def explain(_user: str, _agent: str, _room: str) -> tuple[str, str, Decision]:
        raise LookupError

    async def obey(*_words: Any, **_more: Any) -> Any:
        raise LookupError

    yield Ours(
        store=store,
        changes=changes,
        desk=Desk(store, changes, lambda _key: None, NAMES),
        read=lambda data, source: registry.parse(data, source=source),
        logs=logs,
        own_files=own_files,
        explain=explain,
        obey=obey,
        not_ready=lambda: "",
        facts=dict,
    )
    await store.close()


@asynccontextmanager
async def served(world: Ours) -> AsyncIterator[Api]:
    runner = web.AppRunner(server.app(world, identity.always("@op:hs")))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        [(host, port)] = runner.addresses
        async with api(f"http://{host}:{port}", "") as found:
            yield found
    finally:
        await world.streams.end()
        await runner.cleanup()
