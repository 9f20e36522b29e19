"""The database is lost, the homeserver is not: everything comes back from the journal, and nothing is made anew."""

import sqlite3
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest

from tests.journeys.test_journal_room import TYPE, journal, published
from tests.journeys.test_teams import TEAM
from tests.support import up
from tests.support.stack import KEY, Stack, opened, worker_yaml

pytestmark = pytest.mark.timeout(400)


def homeserver(stack: Stack, sql: str) -> set[Any]:
    with closing(sqlite3.connect(f"file:{stack.data_dir / 'homeserver' / 'homeserver.db'}?mode=ro", uri=True)) as db:
        return {row[0] for row in db.execute(sql)}


def rooms(stack: Stack) -> set[Any]:
    return homeserver(stack, "SELECT room_id FROM rooms")


def users(stack: Stack) -> set[Any]:
    return homeserver(stack, "SELECT name FROM users")


def declared(stack: Stack) -> set[tuple[Any, ...]]:
    """Generations of parts begin anew: they are not in the journal."""
    sql = "SELECT kind, name, text, iif(owner = '', generation, 0), author, cause, owner FROM resources"
    with closing(sqlite3.connect(f"file:{stack.data_dir / 'opsroom.db'}?mode=ro", uri=True)) as db:
        return set(db.execute(sql))


def changes(stack: Stack) -> list[tuple[Any, ...]]:
    """The newest revision of each object."""
    sql = (
        "SELECT max(revision), kind, name, action, generation, author, cause FROM revisions WHERE owner = ''"
        " GROUP BY kind, name ORDER BY 1"
    )
    with closing(sqlite3.connect(f"file:{stack.data_dir / 'opsroom.db'}?mode=ro", uri=True)) as db:
        return list(db.execute(sql))


async def events(stack: Stack, number: int) -> list[Any]:
    room = await stack.op.resolve(f"#opsroom-journal{f'-{number}' if number > 1 else ''}:{stack.info['server_name']}")
    state = await stack.op.call("GET", f"rooms/{quote(room)}/state")
    return sorted((e["state_key"], e["event_id"]) for e in state if e["type"] == TYPE)


async def test_a_lost_database_comes_back_from_the_room_with_the_same_rooms_and_users() -> None:
    async with opened(OPSROOM_JOURNAL_KEYS="3") as stack:
        long = worker_yaml("long", soul="x" * 62_000, state="Sleeping") + "# a remark\n"
        await stack.apply(TEAM.format(team="crew"))
        await stack.human("nina", level=2, accessibleTeams="[crew]")
        room = await stack.worker("solo", soul="first")
        await stack.apply(long)  # the fourth object: it opens another room
        await stack.apply(worker_yaml("solo", soul="second"))
        await stack.worker("short-lived", state="Stopped")
        assert "Deleted" in (await stack.command("!delete worker/short-lived --files delete --yes", 150)).text
        await journal(stack, 2)
        await published(stack, "worker/short-lived", "", number=2)
        assert {key for key, _ in await events(stack, 1)} == {"team/crew", "human/nina", "worker/solo"}
        assert {key for key, _ in await events(stack, 2)} == {"worker/long", "worker/short-lived"}

        journals = [await events(stack, number) for number in (1, 2)]
        assert await stack.running.stop() == 0
        before = rooms(stack), users(stack), declared(stack), changes(stack)
        for path in stack.data_dir.glob("opsroom.db*"):
            path.unlink()

        told = await up.opsroom("restore", "--from-room", "--data-dir", stack.data_dir)
        assert (told.code, told.out.strip()) == (0, "4 objects restored from the journal (2 rooms)."), told.err
        again = await up.opsroom("restore", "--from-room", "--data-dir", stack.data_dir)
        assert again.code == 1
        assert "already. Nothing was changed." in again.err
        assert (declared(stack), changes(stack)) == before[2:]

        stack.running = await up.start(
            stack.data_dir, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=stack.provider.base_url, OPSROOM_JOURNAL_KEYS="3"
        )
        stack.exits.push_async_callback(stack.running.stop)
        stack.info = await stack.running.info()
        for name in ("team/crew", "human/nina", "worker/solo", "worker/long"):
            await settled(stack, name)
        question = await stack.ask(room, "solo", "are you still there?")
        await stack.op.answer_to(question, "You said", 120)

        assert (rooms(stack), users(stack)) == before[:2]
        assert (declared(stack), changes(stack)) == before[2:]
        assert [await events(stack, number) for number in (1, 2)] == journals
        greetings = [m for m in stack.op.messages.values() if "This room runs your AI agents" in m.text]
        assert len(greetings) == 1

        await stack.command("!set worker/solo soul=third")
        after = await published(stack, "worker/solo", "third")
        assert after["revision"] > max(revision for revision, *_ in before[3])
        assert after["generation"] == 3


async def settled(stack: Stack, name: str) -> None:
    """Wait until an object is as declared: applying what it is says so."""
    found, data = await stack.op.file(await stack.op.say(stack.ops_room, f"!edit {name}"))
    assert found
    answer = await stack.apply(data)
    assert "No changes" in answer.text, answer.text


async def test_what_has_no_journal_is_refused_with_a_sentence(up_dir: Any) -> None:
    told = await up.opsroom("restore", "--from-room", "--data-dir", up_dir)
    assert told.code == 1
    assert "no homeserver" in told.err
