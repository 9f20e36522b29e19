"""What nobody declares any more: removed at the next start and written down; what people and agents made stays."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from time import monotonic

import pytest

from appservice import config
from appservice.errors import Unavailable
from appservice.storage.connect import connect
from appservice.storage.protocol import Access
from appservice.workspace.names import prefix
from tests.support import faults
from tests.support.away import another, away, end, held_off
from tests.support.stack import Stack, opened

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
async def tidied() -> AsyncIterator[Stack]:
    """A stack of our own, because things are taken from its database."""
    async with opened() as stack:
        yield stack


async def only(stack: Stack, *names: str) -> None:
    """Wait until exactly these agents have left traces, in a storage that may be on its way."""
    wanted, deadline = faults.expected(stack, names), monotonic() + 60
    found: dict[str, set[str]] = {}
    while found != wanted:
        with suppress(Unavailable):
            found = await faults.traces(stack)
        assert found == wanted or monotonic() < deadline, found
        await asyncio.sleep(0.1)


async def audited(stack: Stack, line: str) -> str:
    """What the audit says, once it has that line: it is written when all is removed."""
    async with asyncio.timeout(faults.PATIENCE_S):
        while line not in (said := (await stack.command("!audit", faults.PATIENCE_S)).text):
            await asyncio.sleep(0.1)
    return said


async def files_of(stack: Stack, name: str) -> dict[str, str]:
    stored, users = connect(config.load(stack.data_dir, installation=stack.installation))
    try:
        return {item.key: item.etag for item in await stored.list(prefix(name))}
    finally:
        await users.close()
        await stored.close()


async def storage_user(stack: Stack, name: str, installation: str) -> None:
    stored, users = connect(config.load(stack.data_dir, installation=installation))
    try:
        await users.ensure(name, Access(write=(prefix(name),), read=()))
    finally:
        await users.close()
        await stored.close()


async def storage_users(stack: Stack, installation: str) -> set[str]:
    stored, users = connect(config.load(stack.data_dir, installation=installation))
    try:
        return set(await users.names())
    finally:
        await users.close()
        await stored.close()


def forget(data_dir: Path, name: str) -> None:
    """As if the database came from a time before this worker, and the journal did as well."""
    with closing(sqlite3.connect(data_dir / "opsroom.db")) as db, db:
        for table in ("resources", "status"):
            assert db.execute(f"DELETE FROM {table} WHERE kind = 'Worker' AND name = ?", (name,)).rowcount
        assert db.execute("DELETE FROM rooms WHERE owner = ?", (name,)).rowcount


async def test_all_that_was_made_for_a_worker_that_nobody_declares_goes_but_for_its_files(tidied: Stack) -> None:
    kept, room = await tidied.worker("kept"), await tidied.worker("stray")
    files = await files_of(tidied, "stray")
    assert files
    await only(tidied, "kept", "stray")

    async with away(tidied, "control_plane"):
        forget(tidied.data_dir, "stray")
    await only(tidied, "kept")
    await tidied.op.until(lambda: tidied.op.seen(room, "m.room.tombstone"), "the tombstone of its room")

    said = await audited(tidied, "→ room of stray")
    for what in ("sandbox", "storage user", "token", "consumer", "room"):
        assert f"→ {what} of stray (remove, rule: orphan)" in said, said
    assert "of kept" not in said
    assert await files_of(tidied, "stray") == files
    await tidied.op.answer_to(await tidied.ask(kept, "kept", "still there?"), "You said", faults.PATIENCE_S)
    with closing(sqlite3.connect(f"file:{tidied.data_dir / 'opsroom.db'}?mode=ro", uri=True)) as db:
        assert db.execute("SELECT count(*) FROM rooms WHERE room_id = ?", (room,)).fetchone() == (0,)


async def test_a_name_that_was_tidied_away_can_be_declared_again_and_finds_its_files(tidied: Stack) -> None:
    files = await files_of(tidied, "stray")
    room = await tidied.worker("stray")
    assert set(files) <= set(await files_of(tidied, "stray"))
    await tidied.op.answer_to(await tidied.ask(room, "stray", "back again?"), "You said", faults.PATIENCE_S)


async def test_a_user_and_a_token_that_belong_to_nothing_go_and_those_of_another_installation_stay(
    tidied: Stack,
) -> None:
    ghost = tidied.data_dir / "agents" / "ghost" / "secrets" / "token"
    async with away(tidied, "control_plane"):
        ghost.parent.mkdir(parents=True)
        ghost.write_text("of nobody")
        await storage_user(tidied, "ghost", tidied.installation)
        await storage_user(tidied, "guest", "ops-another")
    await only(tidied, "kept", "stray")

    assert "→ storage user of ghost" in await audited(tidied, "→ token of ghost")
    assert not ghost.parent.parent.exists()
    assert await storage_users(tidied, "ops-another") == {"guest"}


async def test_a_part_that_is_away_at_the_start_puts_it_off_for_seconds_only(tidied: Stack, tmp_path: Path) -> None:
    await tidied.worker("latecomer")
    log, first, storage = tmp_path / "log", faults.pid_of(tidied, "control_plane"), faults.pid_of(tidied, "storage")
    async with AsyncExitStack() as stack:
        with held_off(tidied):
            await end(first)
            await end(storage)
            forget(tidied.data_dir, "latecomer")
            await stack.enter_async_context(another(tidied, log))
            await faults.until(lambda: "orphans left" in log.read_text(), "the first look")
        await faults.replaced(tidied, "storage", storage)
        await only(tidied, "kept", "stray")
    await faults.replaced(tidied, "control_plane", first)
    await tidied.command("!version", faults.PATIENCE_S)  # it can be asked to stop its agents again
