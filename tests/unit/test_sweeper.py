"""What a change means for others, from the first change after a start on."""

import asyncio

from appservice.reconcile.sweeper import Sweeper
from appservice.resources import registry
from appservice.rooms.declared import Declared
from appservice.store import declaring
from appservice.store.changes import Changes, Key
from appservice.store.database import Database
from appservice.store.declaring import Author
from tests.support.rosters import NAMES, OPERATORS, team, worker

DEV = team("dev", "lena", "ben")


async def test_the_first_change_after_a_start_reaches_whom_it_concerns_and_nobody_else(store: Database) -> None:
    changes, found = Changes(), asyncio.Queue[Key]()

    async def operators() -> frozenset[str]:
        return frozenset(OPERATORS)

    async def gone(_name: str) -> None: ...

    async def declare(text: str) -> None:
        documents = registry.parse(text.encode(), source="all.yaml")
        author = Author(user="@op:hs", cause=text, now=1.0)
        await store.write(lambda db: declaring.declare(db, documents, author, is_ours=NAMES.is_ours))

    await declare(DEV + worker("alice"))
    declared = Declared(store, NAMES, operators, prefix="")
    sweeper = Sweeper(store, changes, declared, wake=found.put_nowait, refresh=found.put_nowait, gone=gone)
    await sweeper.begin()
    await declare(team("dev", "lena", "ben", "carla"))
    changes.publish(Key("Team", "dev"))

    running = asyncio.create_task(sweeper.run())
    first = await found.get()
    running.cancel()
    told = {str(first)} | {str(found.get_nowait()) for _ in range(found.qsize())}

    assert {"worker/lena", "worker/ben", "room/team-dev", "room/worker-carla"} <= told
    assert not told & {"worker/alice", "room/worker-alice", "room/worker-lena"}
