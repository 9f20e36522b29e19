"""An older backup takes the place of the store beside a homeserver where everything went on."""

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tests.support import up
from tests.support.stack import KEY, Stack, opened, worker_yaml

pytestmark = pytest.mark.timeout(400)


def stored(stack: Stack, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{stack.data_dir / 'opsroom.db'}?mode=ro", uri=True)) as db:
        return [row[0] for row in db.execute(sql)]


async def test_what_was_said_since_the_backup_does_not_run_again() -> None:
    async with opened() as stack:
        room = await stack.worker("solo", soul="first")
        await stack.worker("spare", state="Stopped")
        direct = await stack.op.create_direct(stack.agent("solo"))
        await stack.op.until(lambda: stack.op.seen(direct, "m.room.member", stack.agent("solo")), "solo in the room")
        await stack.op.answer_to(await stack.op.say(direct, "hello?"), "You said", 120)
        file = stack.data_dir.parent / "backup.tar"
        told = await up.opsroom("backup", file, "--data-dir", stack.data_dir)
        assert told.code == 0, told.err
        kept = stored(stack, "SELECT event_id FROM turns")

        assert "Deleted" in (await stack.command("!delete worker/spare --files delete --yes", 150)).text
        await stack.apply(worker_yaml("solo", soul="second"))
        mentioned = await stack.ask(room, "solo", "asked after the backup")
        asked = await stack.op.say(direct, "said after the backup")
        for question in (mentioned, asked):
            await stack.op.answer_to(question, "You said", 120)
        assert await stack.running.stop() == 0
        told = await up.opsroom("restore", file, "--data-dir", stack.data_dir, "--force")
        assert told.code == 0, told.err

        stack.running = await up.start(
            stack.data_dir,
            OPENAI_API_KEY=KEY,
            OPENAI_BASE_URL=stack.provider.base_url,
            OPSROOM_AGENTS__MODEL="gpt-test",
        )
        stack.exits.push_async_callback(stack.running.stop)
        stack.info = await stack.running.info()
        async with asyncio.timeout(60):
            while not stored(stack, "SELECT 1 FROM meta WHERE key = 'sync_since'"):
                await asyncio.sleep(0.1)
        command = await stack.op.say(stack.ops_room, "!status")
        await stack.op.ended(command)
        again = await stack.op.say(direct, "and now?")
        await stack.op.answer_to(again, "You said", 120)

        assert stored(stack, "SELECT name FROM resources WHERE deleting = 0 ORDER BY name") == ["solo", "spare"]
        assert ["soul: first" in text for text in stored(stack, "SELECT text FROM resources WHERE name = 'solo'")] == [
            True
        ]
        assert stored(stack, "SELECT event_id FROM turns ORDER BY asked_at") == [*kept, again]
        assert {len(stack.op.answers(question)) for question in (mentioned, asked)} == {1}
