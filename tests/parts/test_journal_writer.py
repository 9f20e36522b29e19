"""The journal's writer and the way back from it, on a real homeserver: crashes, strange states, several rooms."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from appservice.errors import Conflict, Denied, NotFound
from appservice.health import Health
from appservice.homeserver import events
from appservice.reconcile import journal_events
from appservice.store import declaring, housekeeping, journal, objects, rooms
from appservice.store.changes import Key
from appservice.store.database import Database
from appservice.store.declaring import Author
from tests.journeys.test_teams import TEAM
from tests.support.journalled import BOT, TYPE, Journalled, declare, journalled, published
from tests.support.stack import worker_yaml
from tests.support.synapse import SERVER_NAME

ALICE = Key("Worker", "alice")
numbers = itertools.count()


@pytest.fixture(scope="module")
async def homeserver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Journalled]:
    async with journalled(tmp_path_factory.mktemp("journal")) as found:
        yield found


@pytest.fixture
async def bed(homeserver: Journalled, tmp_path: Path) -> Journalled:
    """Rooms and stores of its own for each test."""
    return replace(homeserver, prefix=f"opsroom-t{next(numbers)}-", root=tmp_path, told=[], received=[], looked=[])


async def delete(store: Database, key: Key) -> None:
    stored = await objects.get(store, key)
    assert stored is not None
    author = Author(user="@op:hs", cause="$d", now=2.0)
    await store.write(lambda db: declaring.delete(db, stored, author, keep_files=True))
    await store.write(lambda db: objects.forget(db, key))


async def write(bed: Journalled, key: str, content: dict[str, object]) -> str:
    """As the operator does; the event's id."""
    path = f"/rooms/{quote(await bed.room())}/state/{TYPE}/{quote(key, safe='')}"
    return str((await bed.operator.call("PUT", path, content))["event_id"])


async def powerless(bed: Journalled) -> str:
    """A journal room in which the bot has lost its power; its id."""
    room = await bed.operator.create_room(invite=[BOT], room_version="10")
    await bed.homeserver.join(room, user=BOT)
    await bed.homeserver.put_alias(f"#{bed.prefix}journal:{SERVER_NAME}", room)
    return room


async def times(bed: Journalled, key: str) -> int:
    """How many events of ours there have been under a key."""
    page, _ = await bed.homeserver.messages(await bed.room(), limit=500)
    return len([event for event in page if event.get("state_key") == key and event["sender"] == BOT])


async def test_a_full_room_opens_the_next_and_an_object_keeps_its_place(bed: Journalled) -> None:
    store = await bed.store()
    for name in ("alice", "bob", "carol", "dave", "erin"):
        await declare(store, worker_yaml(name))
    await bed.publish(store, limit=2)
    assert [set(await bed.state(number)) for number in (1, 2, 3)] == [
        {"worker/alice", "worker/bob"},
        {"worker/carol", "worker/dave"},
        {"worker/erin"},
    ]

    await delete(store, ALICE)
    await declare(store, worker_yaml("dave", soul="changed"))
    await declare(store, worker_yaml("frank"))  # there is room in the first one again
    await bed.publish(store, limit=2)
    assert set(await bed.state(1)) == {"worker/alice", "worker/bob", "worker/frank"}
    assert "changed" in (await bed.state(2))["worker/dave"]["document"]

    await declare(store, worker_yaml("alice", soul="back"))
    await bed.publish(store, limit=2)
    assert "document" not in (await bed.state(1))["worker/alice"]
    assert "back" in (await bed.state(3))["worker/alice"]["document"]

    other = await bed.store("other.db")
    assert (await bed.rebuilt(other)).objects == 6
    assert {str(one.key): one.revision for one in await journal.latest(other)} == {
        str(one.key): one.revision for one in await journal.latest(store)
    }
    assert "back" in (await published(other, ALICE)).text
    assert await journal.waiting(other) == []


async def test_a_position_that_a_crash_took_back_sends_nothing_twice(bed: Journalled) -> None:
    store = await bed.store()
    for soul in ("one", "two", "three"):
        await declare(store, worker_yaml("alice", soul=soul))
    await declare(store, worker_yaml("bob"))
    await bed.publish(store)
    assert (await times(bed, "worker/alice"), await times(bed, "worker/bob")) == (3, 1)

    for back in (3, 2, 1, 0):
        await store.write(lambda db, back=back: journal.published(db, back))  # type: ignore[misc]
        await bed.publish(store)
    assert (await times(bed, "worker/alice"), await times(bed, "worker/bob")) == (3, 1)
    assert await journal.waiting(store) == []


async def test_what_somebody_wrote_over_the_last_event_does_not_hide_that_it_was_sent(bed: Journalled) -> None:
    store = await bed.store()
    await declare(store, worker_yaml("alice", soul="one"))
    await bed.publish(store)
    await bed.operator.event(await bed.room(), lambda event: event.get("state_key") == "worker/alice")
    written = [await write(bed, "worker/alice", {"document": words}) for words in ("first", "second", "third")]
    await store.write(lambda db: journal.published(db, 0))

    await bed.publish(store)

    assert await times(bed, "worker/alice") == 1
    assert [one["event_id"] for one in bed.received] == written  # handed on in order; they stay until they are handled
    assert (await bed.state())["worker/alice"] == {"document": "third"}


async def test_a_lost_event_is_put_back_and_one_that_was_handled_is_replaced(bed: Journalled) -> None:
    store = await bed.store()
    await declare(store, worker_yaml("alice"))
    await declare(store, worker_yaml("bob"))
    await bed.publish(store)
    before = await bed.state()
    await bed.homeserver.put_state(await bed.room(), TYPE, {}, "worker/alice")
    handled = await write(bed, "worker/bob", {"document": "nonsense"})
    raw = {"event_id": handled, "room_id": await bed.room(), "sender": bed.operator.user_id, "type": TYPE}
    await bed.writer(store)._receive([raw])
    await store.write(lambda db: db.execute("UPDATE inbox SET done = 1"))

    await bed.publish(store)

    assert await bed.state() == before


async def test_an_empty_store_leaves_what_it_does_not_know_and_says_so(bed: Journalled) -> None:
    store = await bed.store()
    await declare(store, worker_yaml("alice"))
    await declare(store, worker_yaml("bob"))
    await bed.publish(store)
    before = await bed.state()

    empty = await bed.store("empty.db")
    await declare(empty, worker_yaml("carol"))
    writer = await bed.publish(empty)
    assert bed.told == [["worker/alice", "worker/bob"]]
    assert {key: (await bed.state())[key] for key in before} == before

    await write(bed, "worker/alice", {"document": "nonsense"})
    await writer.mend(await bed.room(), "worker/alice", {"document": "nonsense"})
    assert (await bed.state())["worker/alice"] == before["worker/alice"]

    await write(bed, "worker/alice", {})  # an operator lets go of it
    await writer.mend(await bed.room(), "worker/alice", {})
    await bed.publish(empty)
    assert bed.told[-1] == ["worker/bob"]


async def test_what_cannot_be_read_is_named_and_the_rest_comes_back(bed: Journalled) -> None:
    store = await bed.store()
    for name in ("alice", "bob", "carol", "dave"):
        await declare(store, worker_yaml(name))
    await bed.publish(store)
    room = await bed.room()
    state = await bed.state()
    bob, carol = dict(state["worker/bob"]), dict(state["worker/carol"])
    url = await bed.homeserver.upload(b"something else", name="x.yaml", mimetype="application/x-yaml")
    large = await published(store, Key("Worker", "carol"))
    await bed.homeserver.put_state(room, TYPE, bob | {"document": worker_yaml("bob", modle="x")}, "worker/bob")
    await bed.homeserver.put_state(room, TYPE, journal_events.content(large, url), "worker/carol")
    await bed.homeserver.put_state(room, TYPE, carol | {"revision": "many"}, "worker/dave")

    other = await bed.store("other.db")
    done = await bed.rebuilt(other)

    assert done.objects == 1
    assert [stored.name for stored in await objects.every(other)] == ["alice"]
    said = "\n".join(str(problem) for problem in done.problems)
    for words in ("worker/bob", "Did you mean `model`?", "worker/carol in the journal", "`sha256`", "worker/dave"):
        assert words in said


async def test_direct_rooms_are_known_again_and_nothing_said_there_is_asked_again(bed: Journalled) -> None:
    store = await bed.store()
    await declare(store, worker_yaml("alice"))
    await bed.publish(store)
    user = f"@agent-alice:{SERVER_NAME}"
    await bed.homeserver.ensure_user(user)
    direct = await bed.operator.create_room(invite=[user], is_direct=True)
    await bed.homeserver.join(direct, user=user)
    last = await bed.operator.say(direct, "an old question")

    other = await bed.store("other.db")
    await bed.rebuilt(other)

    found = await rooms.get(other, direct)
    assert found is not None
    assert (found.purpose, found.owner, found.seen) == ("direct", user, last)


async def test_what_is_not_empty_or_has_no_journal_is_refused(bed: Journalled) -> None:
    store = await bed.store()
    with pytest.raises(NotFound, match="no journal"):
        await bed.rebuilt(store)
    await declare(store, worker_yaml("alice"))
    with pytest.raises(Conflict, match="1 object already"):
        await bed.rebuilt(store)


async def test_what_an_operator_wrote_last_is_left_for_the_next_start(bed: Journalled) -> None:
    store = await bed.store()
    await declare(store, worker_yaml("alice", soul="published"))
    await bed.publish(store)
    await bed.operator.event(await bed.room(), lambda event: event.get("state_key") == "worker/alice")
    event = await write(bed, "worker/alice", {"document": worker_yaml("alice", soul="not seen")})

    other = await bed.store("other.db")
    done = await bed.rebuilt(other)
    assert (done.objects, done.later, done.problems) == (1, ["worker/alice"], [])
    assert "published" in (await published(other, ALICE)).text

    bed.received.clear()
    await bed.publish(other)
    assert [one["event_id"] for one in bed.received] == [event]
    assert (await bed.state())["worker/alice"] == {"document": worker_yaml("alice", soul="not seen")}


async def test_what_an_operator_writes_is_an_apply_from_the_first_moment_after_a_restore(bed: Journalled) -> None:
    store = await bed.store()
    await declare(store, worker_yaml("alice", soul="published"))
    await bed.publish(store)
    room = await bed.room()
    other = await bed.store("other.db")
    await bed.rebuilt(other)
    door = await bed.door(other, bed.writer(other))
    written = await write(bed, "worker/alice", {"document": worker_yaml("alice", soul="meanwhile")})
    event = await bed.operator.event(room, lambda event: event["event_id"] == written)
    read = events.parse(event | {"room_id": room})
    assert read is not None

    assert door.takes(read, await rooms.get(other, room))  # nobody has looked at the rooms yet
    await door.handle(read)

    assert "meanwhile" in (await published(other, ALICE)).text
    assert (await bed.state())["worker/alice"]["cause"] == written


async def test_rooms_of_a_deletion_that_was_under_way_are_ended_after_a_restore(bed: Journalled) -> None:
    store = await bed.store()
    for text in (worker_yaml("alice"), worker_yaml("bob"), TEAM.format(team="crew")):
        await declare(store, text)
    await bed.publish(store)
    keeper = bed.keeper(store)
    for key in await keeper.everything():
        await keeper.reconcile(key)
    names = ("worker-bob", "worker-alice", "space-crew", "team-crew", "leader-dm-crew-lead", "worker-crew-lead")
    before = {name: await bed.id(name) for name in names}
    for key in (ALICE, Key("Team", "crew")):
        await delete(store, key)
    await bed.publish(store)
    space = await bed.id("space")
    await bed.homeserver.put_state(str(space), "m.space.child", {}, str(before["worker-alice"]))  # so far it came

    other = await bed.store("other.db")
    await bed.rebuilt(other)
    keeper = bed.keeper(other)
    for key in await keeper.everything():
        await keeper.reconcile(key)

    assert {name for name in names if await bed.id(name)} == {"worker-bob"}
    assert await bed.id("worker-bob") == before["worker-bob"]
    for name in names[1:]:
        end = await bed.operator.event(str(before[name]), lambda event: event["type"] == "m.room.tombstone")
        assert "was deleted" in end["content"]["body"]


async def test_what_somebody_wrote_meanwhile_is_not_taken_back_before_its_turn(bed: Journalled) -> None:
    store = await bed.store()
    await declare(store, worker_yaml("alice"))
    writer = await bed.publish(store)
    ours = (await bed.state())["worker/alice"]
    for words in ("first", "second"):
        await write(bed, "worker/alice", {"document": words})

    await writer.mend(await bed.room(), "worker/alice", {"document": "first"})
    assert (await bed.state())["worker/alice"] == {"document": "second"}

    await writer.mend(await bed.room(), "worker/alice", {"document": "second"})
    assert (await bed.state())["worker/alice"] == ours


async def test_a_journal_that_is_stuck_says_so_until_the_changes_are_out(bed: Journalled) -> None:
    store = await bed.store()
    room = await powerless(bed)
    await declare(store, worker_yaml("alice"))
    await declare(store, worker_yaml("bob"))
    writer = bed.writer(store)
    door = await bed.door(store, writer)

    async def until(level: str) -> Health:
        async with asyncio.timeout(60):
            while (health := await door.health()).level != level:
                await asyncio.sleep(0.05)
        return health

    assert (await door.health()).detail == "2 changes on the way"
    running = asyncio.create_task(writer.run())
    try:
        stuck = await until("fail")
        assert re.match(r"2 changes since 01 Jan 00:00 UTC \(.*\) wait, because @opsroom:.* has power 0", stuck.detail)
        assert f"/op {BOT} 100" in stuck.fix
        assert (await housekeeping.numbers(store))["opsroom_journal_waiting"] == 2

        levels = {"users": {bed.operator.user_id: 100, BOT: 100}}
        await bed.operator.call("PUT", f"/rooms/{quote(room)}/state/m.room.power_levels", levels)
        assert (await until("ok")).detail == "has all changes"
        assert (await housekeeping.numbers(store))["opsroom_journal_waiting"] == 0
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert set(await bed.state()) == {"worker/alice", "worker/bob"}


async def test_whoever_wrote_something_that_is_not_taken_is_told_even_when_it_cannot_be_taken_back_yet(
    bed: Journalled,
) -> None:
    store = await bed.store()
    room = await powerless(bed)
    door = await bed.door(store, bed.writer(store))
    written = await write(bed, "worker/alice", {"document": 7})
    event = await bed.operator.event(room, lambda event: event["event_id"] == written)
    read = events.parse(event | {"room_id": room})
    assert read is not None

    for _ in range(2):
        with pytest.raises(Denied, match="has power 0"):
            await door.handle(read)

    ops_room = door._operators.ops_room
    await bed.operator.event(ops_room, lambda event: "is no text" in event["content"].get("body", ""))
    assert len(await store.read("SELECT 1 FROM outbox")) == 1


async def test_objects_that_only_the_journal_has_are_known_once_it_is_read(bed: Journalled) -> None:
    store = await bed.store()
    await declare(store, worker_yaml("alice"))
    writer = bed.writer(store)
    assert await writer.unheard() is None
    await writer.publish()
    assert await writer.unheard() == frozenset()

    lost = await bed.publish(await bed.store("lost.db"))

    assert await lost.unheard() == frozenset({"worker/alice"})


async def test_a_room_that_cannot_be_kept_is_named_and_its_owner_says_so_at_once(bed: Journalled) -> None:
    store = await bed.store()
    await declare(store, worker_yaml("alice"))
    alias = f"{bed.prefix}worker-alice"
    room = await bed.operator.create_room(invite=[BOT], room_version="10")
    await bed.homeserver.join(room, user=BOT)
    await bed.homeserver.put_alias(f"#{alias}:{SERVER_NAME}", room)
    keeper = bed.keeper(store)

    for _ in range(2):
        with pytest.raises(Denied):
            await keeper.reconcile(Key("Room", alias))
    assert bed.looked == [ALICE]
    found = await keeper.health()
    assert (found.level, alias in found.detail, "/op @opsroom" in found.fix) == ("warn", True, True)

    powers = {"users": {bed.operator.user_id: 100, BOT: 100}}
    await bed.operator.call("PUT", f"/rooms/{quote(room)}/state/m.room.power_levels/", powers)
    await keeper.reconcile(Key("Room", alias))

    assert bed.looked == [ALICE, ALICE]
    assert (await keeper.health()).level == "ok"
