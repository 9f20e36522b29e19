"""Calls, growing messages and sends against a real homeserver, as the application service makes them."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from appservice.config import HomeserverSettings, Settings
from appservice.errors import Invalid
from appservice.homeserver import accounts, content, registration
from appservice.homeserver import gaps as gap_closing
from appservice.homeserver.accounts import Means
from appservice.homeserver.client import Homeserver
from appservice.homeserver.events import Event
from appservice.homeserver.gaps import Gaps
from appservice.homeserver.live import Live, Pace
from appservice.homeserver.members import Members, Operators
from appservice.homeserver.sender import Sender
from appservice.ops import agreements, welcome
from appservice.ops.agreements import Agreements
from appservice.ops.answer import Thread
from appservice.policy.roster import Names
from appservice.reconcile.accounts import Accounts
from appservice.reconcile.identity import Identities
from appservice.reconcile.rooms import RoomKeeper
from appservice.reconcile.steps import Done
from appservice.resources import registry
from appservice.rooms import live
from appservice.rooms.declared import Declared
from appservice.rooms.desired import DesiredRoom
from appservice.rooms.live import Around
from appservice.store import declaring, inbox, meta, outbox, rooms
from appservice.store.changes import Key
from appservice.store.database import Database
from appservice.store.declaring import Author
from appservice.store.outbox import Outgoing
from tests.support.children import free_port
from tests.support.rosters import human, team, worker
from tests.support.synapse import SERVER_NAME, SHARED_SECRET, Synapse, running_synapse

BOT = f"@opsroom:{SERVER_NAME}"
NAMES = Names(bot=BOT, prefix="agent-", server_name=SERVER_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """A homeserver that knows us, our calls to it, and a room of our bot."""

    synapse: Synapse
    homeserver: Homeserver
    room: str
    looked: list[Key] = field(default_factory=list)  # what the keeper of rooms had looked at

    async def shown(self, event: str) -> str:
        """What people see in place of a message: its newest edit."""
        page, _ = await self.homeserver.messages(self.room, limit=100)
        for found in page:
            relation = found["content"].get("m.relates_to", {})
            if relation.get("rel_type") == "m.replace" and relation["event_id"] == event:
                return str(found["content"]["m.new_content"]["body"])
        return next(str(found["content"]["body"]) for found in page if found["event_id"] == event)

    def live(self, lane: str, **more: Any) -> Live:
        return Live(self.homeserver, Pace(), room_id=self.room, sender=BOT, lane=lane, compose=content.message, **more)


@pytest.fixture(scope="module")
async def bed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bed]:
    root: Path = tmp_path_factory.mktemp("appservice")
    settings = Settings(homeserver=HomeserverSettings(server_name=SERVER_NAME))
    document = registration.registration_document(
        settings,
        url=f"http://127.0.0.1:{free_port()}",
        as_token=secrets.token_hex(),
        hs_token=secrets.token_hex(),
        sender_localpart="x1",
    )
    path = root / "registration.yaml"
    path.write_text(yaml.safe_dump(document))
    async with running_synapse(root / "synapse", path) as synapse:
        homeserver = Homeserver(synapse.url, registration.load(path), server_name=SERVER_NAME, bot=BOT)
        await homeserver.ensure_user(BOT)
        room = await homeserver.create_room({"preset": "private_chat", "room_alias_name": "opsroom-bed"})
        yield Bed(synapse=synapse, homeserver=homeserver, room=room)
        await homeserver.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "opsroom.db")
    yield database
    await database.close()


async def say(live: Live, text: str) -> str:
    """Show a text and end the message with it; its event id."""
    live.show(text)
    async with live:
        async with asyncio.timeout(20):
            while not live.event_id or (live.shown and live.shown != text):
                await asyncio.sleep(0.01)
        return await live.settle()


async def test_a_message_that_an_earlier_run_began_is_not_taken_for_the_text_of_this_one(bed: Bed) -> None:
    first = await say(bed.live("turn.a"), "half")

    again = bed.live("turn.a", begun=True)
    assert await say(again, "half and the other half") == first

    assert again.shown == ""
    assert await bed.shown(first) == "half"


async def test_edits_of_two_runs_are_not_taken_for_repeats_of_each_other(bed: Bed) -> None:
    first = await say(bed.live("turn.b"), "begun")
    for text in ("an earlier run", "a later run"):
        one = bed.live("turn.b", event_id=first)
        one.show(text)
        async with one:
            async with asyncio.timeout(20):
                while one.shown != text:
                    await asyncio.sleep(0.01)
        assert await bed.shown(first) == text


async def test_what_is_sent_twice_under_one_transaction_id_is_one_event(bed: Bed, store: Database) -> None:
    dead: list[str] = []

    async def on_dead(item: Outgoing, reason: str) -> None:
        dead.append(reason)

    sender = Sender(store, bed.homeserver, on_dead=on_dead)
    item = Outgoing(
        txn_id="cause.1",
        room_id=bed.room,
        sender=BOT,
        type="m.room.message",
        content=content.message("once"),
        cause="$cause",
    )

    events = await asyncio.gather(sender.send(item), sender.send(item))
    page, _ = await bed.homeserver.messages(bed.room)

    assert events[0] == events[1]
    assert sum(found["content"].get("body") == "once" for found in page) == 1
    assert dead == []


async def test_what_the_homeserver_refuses_for_good_is_a_dead_letter_with_its_reason(bed: Bed, store: Database) -> None:
    told: list[tuple[str, str]] = []

    async def on_dead(item: Outgoing, reason: str) -> None:
        told.append((item.txn_id, reason))

    sender = Sender(store, bed.homeserver, on_dead=on_dead)
    item = Outgoing(
        txn_id="cause.2",
        room_id=f"!elsewhere:{SERVER_NAME}",
        sender=BOT,
        type="m.room.message",
        content=content.message("nobody will read this"),
        cause="$cause",
    )

    assert await sender.send(item) == ""

    [(txn, reason)] = told
    assert txn == "cause.2"
    assert "not in room" in reason
    [kept] = await outbox.dead(store)
    assert kept.content["body"] == "nobody will read this"


async def test_what_is_sent_while_the_homeserver_is_away_arrives_once_it_is_back(bed: Bed, store: Database) -> None:
    async def on_dead(item: Outgoing, reason: str) -> None:
        raise AssertionError(reason)

    sender = Sender(store, bed.homeserver, on_dead=on_dead)
    item = Outgoing(
        txn_id="cause.3",
        room_id=bed.room,
        sender=BOT,
        type="m.room.message",
        content=content.message("patience"),
        cause="$cause",
    )
    await bed.synapse.kill()
    sending = asyncio.create_task(sender.send(item))
    while not await outbox.pending(store):
        await asyncio.sleep(0.01)
    await bed.synapse.start()

    assert await bed.shown(await sending) == "patience"


async def asked(
    bed: Bed, store: Database, told: str, *, away: bool = False
) -> tuple[str, asyncio.Task[None], Agreements]:
    """Have a command ask: the question's id, what waits for the answer, and whom to tell it."""

    async def on_dead(item: Outgoing, reason: str) -> None:
        raise AssertionError(reason)

    homeserver, sender, found = bed.homeserver, Sender(store, bed.homeserver, on_dead=on_dead), Agreements()
    typed = await homeserver.send(bed.room, "m.room.message", content.message("!apply"), secrets.token_hex(), user=BOT)
    command = Event(
        id=typed, room_id=bed.room, type="m.room.message", sender=BOT, content={}, ts=int(time.time() * 1000)
    )
    thread = Thread(
        store=store, homeserver=homeserver, sender=sender, pace=Pace(), bot=BOT, command=command, repeated=False
    )

    async def ask() -> None:
        async with thread.live:
            with found.of(command, thread):
                await found.reach(command, told)

    if away:
        await bed.synapse.kill()
    asking = asyncio.create_task(ask())
    if away:
        while not await outbox.pending(store):
            await asyncio.sleep(0.01)
        await bed.synapse.start()
    async with asyncio.timeout(60):
        while not (kept := await outbox.get(store, f"command.{typed}.no")) or not kept.event_id:
            await asyncio.sleep(0.01)
    return thread.live.event_id, asking, found


async def test_a_question_that_comes_up_while_the_homeserver_is_away_is_put_once_it_is_back(
    bed: Bed, store: Database
) -> None:
    question, asking, found = await asked(bed, store, "- **delete** `worker/x`", away=True)

    assert "React with ✅" in await bed.shown(question)
    found.mark(question, agreed=False, by=BOT, at=time.time() + agreements.WITHIN_S)  # too late: not heard
    await asyncio.sleep(0)
    found.mark(question, agreed=True, by=BOT, at=time.time())
    await asking


async def test_a_plan_that_is_too_long_for_a_message_is_cut_there_and_attached_whole(bed: Bed, store: Database) -> None:
    told = "\n".join(f"- **delete** `worker/number-{number}`: its sandbox and its room go" for number in range(900))
    question, asking, found = await asked(bed, store, told)

    shown = await bed.shown(question)
    assert "`worker/number-0`" in shown
    assert agreements.QUESTION in shown
    page, _ = await bed.homeserver.messages(bed.room, limit=10)
    [file] = [event["content"] for event in page if event["content"].get("msgtype") == "m.file"]
    assert (await bed.homeserver.download(file["url"], limit=2**20)).decode() == told
    found.mark(question, agreed=False, by=BOT, at=time.time())
    with pytest.raises(Invalid, match="said no"):
        await asking


async def test_a_room_that_was_only_half_made_is_made_again(bed: Bed) -> None:
    """A homeserver that dies while it makes a room leaves an alias that leads to a room without anybody."""
    half = await bed.homeserver.create_room({"preset": "private_chat", "room_alias_name": "opsroom-worker-half"})
    await bed.homeserver.leave(half, user=BOT)
    agent = f"@agent-half:{SERVER_NAME}"
    await bed.homeserver.ensure_user(agent)
    room = DesiredRoom(
        alias="opsroom-worker-half", name="half", topic="x", purpose="worker", members=frozenset({agent})
    )

    async def around() -> Around:
        return Around(ours=frozenset({agent}))

    made, _ = await live.ensure(bed.homeserver, room, around)

    assert made != half
    assert await bed.homeserver.resolve(f"#opsroom-worker-half:{SERVER_NAME}") == made
    assert set(await bed.homeserver.members(made)) == {BOT, agent}
    assert await live.ensure(bed.homeserver, room, around) == (made, False)


async def test_one_who_cannot_be_asked_in_is_named_and_keeps_nobody_else_out(bed: Bed) -> None:
    """Somebody of another server, for whom a room of ours is closed for good."""
    foreign, agent = "@john:other.org", f"@agent-zoe{secrets.token_hex(3)}:{SERVER_NAME}"
    person = await bed.synapse.person(f"ann{secrets.token_hex(3)}")
    alias = f"opsroom-worker-{secrets.token_hex(3)}"
    await bed.homeserver.ensure_user(agent)
    room = DesiredRoom(
        alias=alias, name="zoe", topic="x", purpose="worker", members=frozenset({agent, foreign, person.user_id})
    )

    async def around() -> Around:
        return Around(ours=frozenset({agent}))

    for first in (True, False):
        refused: dict[str, str] = {}
        made, sent = await live.ensure(bed.homeserver, room, around, refused=refused)
        assert list(refused) == [foreign]
        assert sent is first
    assert {BOT, agent} <= set(await bed.homeserver.members(made))
    assert await bed.homeserver.state_event(made, "m.room.member", person.user_id)


async def test_an_agent_whom_the_homeserver_does_not_let_in_is_named_and_keeps_nobody_else_out(bed: Bed) -> None:
    """Somebody suspended its account."""
    locked, agent = [f"@agent-{name}{secrets.token_hex(3)}:{SERVER_NAME}" for name in ("lost", "well")]
    boss = await bed.synapse.person(f"boss{secrets.token_hex(3)}", admin=True)
    for user in (locked, agent):
        await bed.homeserver.ensure_user(user)
    await bed.synapse.call("PUT", f"/_synapse/admin/v1/suspend/{locked}", {"suspend": True}, token=boss.token)
    room = DesiredRoom(
        alias=f"opsroom-worker-{secrets.token_hex(3)}",
        name="lost",
        topic="x",
        purpose="worker",
        members=frozenset({agent, locked}),
    )

    async def around() -> Around:
        return Around(ours=frozenset({agent, locked}))

    refused: dict[str, str] = {}
    made, _ = await live.ensure(bed.homeserver, room, around, refused=refused)
    assert list(refused) == [locked]
    assert agent in await bed.homeserver.members(made)


async def test_whoever_belongs_into_a_room_and_was_banned_is_asked_in_again(bed: Bed) -> None:
    agent = f"@agent-ban{secrets.token_hex(3)}:{SERVER_NAME}"
    person, other = [await bed.synapse.person(f"ban{secrets.token_hex(3)}") for _ in range(2)]
    await bed.homeserver.ensure_user(agent)
    room = DesiredRoom(
        alias=f"opsroom-worker-{secrets.token_hex(3)}",
        name="banned",
        topic="x",
        purpose="worker",
        members=frozenset({agent, person.user_id}),
    )

    async def around() -> Around:
        return Around(ours=frozenset({agent}))

    async def membership(user: str) -> str:
        return str((await bed.homeserver.state_event(made, "m.room.member", user) or {})["membership"])

    made, _ = await live.ensure(bed.homeserver, room, around)
    for user in (agent, person.user_id, other.user_id):
        await bed.homeserver.call("POST", f"rooms/{made}/ban", {"user_id": user})

    assert await live.ensure(bed.homeserver, room, around) == (made, True)
    assert [await membership(user) for user in (agent, other.user_id)] == ["join", "ban"]
    assert await membership(person.user_id) in ("invite", "join")
    assert await live.ensure(bed.homeserver, room, around) == (made, False)


async def test_what_a_room_shows_of_itself_is_put_back(bed: Bed) -> None:
    space = await bed.homeserver.create_room({"creation_content": {"type": "m.space"}})
    picture = await bed.homeserver.upload(b"x", name="x.png", mimetype="image/png")
    room = DesiredRoom(alias=f"opsroom-worker-{secrets.token_hex(3)}", name="signed", topic="x", purpose="worker")
    alias = f"#{room.alias}:{SERVER_NAME}"

    async def around() -> Around:
        return Around(parent=space, avatar=picture)

    made, _ = await live.ensure(bed.homeserver, room, around)
    assert await live.ensure(bed.homeserver, room, around) == (made, False)
    for kind, key in (("canonical_alias", ""), ("avatar", ""), ("guest_access", "")):
        await bed.homeserver.put_state(made, f"m.room.{kind}", {}, key)
    await bed.homeserver.put_state(made, "m.space.parent", {}, space)

    assert await live.ensure(bed.homeserver, room, around) == (made, True)
    assert await bed.homeserver.state_event(made, "m.room.canonical_alias") == {"alias": alias}
    assert await bed.homeserver.state_event(made, "m.room.avatar") == {"url": picture}
    assert await bed.homeserver.state_event(made, "m.room.guest_access") == {"guest_access": "forbidden"}
    assert (await bed.homeserver.state_event(made, "m.space.parent", space) or {})["canonical"]
    assert await live.ensure(bed.homeserver, room, around) == (made, False)


@pytest.fixture
def keeper(bed: Bed, store: Database) -> RoomKeeper:
    """What keeps the rooms of the store's declaration; `boss` operates."""

    async def operators() -> frozenset[str]:
        return frozenset({f"@boss:{SERVER_NAME}"})

    declared = Declared(store, NAMES, operators, prefix="opsroom-")
    return RoomKeeper(bed.homeserver, store, declared, Identities(bed.homeserver, NAMES), bed.looked.append)


async def test_somebody_of_whom_the_homeserver_says_nothing_is_as_one_who_is_not_there(keeper: RoomKeeper) -> None:
    assert not await keeper.known("@john:other.org")
    assert await keeper.known(BOT)


async def test_rooms_that_wait_for_an_account_are_not_read_again_until_it_is_there(
    bed: Bed, store: Database, keeper: RoomKeeper
) -> None:
    agent, late = f"w{secrets.token_hex(3)}", f"late{secrets.token_hex(3)}"
    documents = registry.parse((worker(agent) + human(late, 1)).encode(), source="all.yaml")
    author = Author(user=BOT, cause="$w", now=1.0)
    await store.write(lambda db: declaring.declare(db, documents, author, is_ours=NAMES.is_ours))

    room, root = await keeper.bring(f"opsroom-worker-{agent}"), await keeper.bring("opsroom-space")
    reads = bed.homeserver.reads
    assert (await keeper.bring(f"opsroom-worker-{agent}"), await keeper.bring("opsroom-space")) == (room, root)
    assert bed.homeserver.reads == reads

    person = await bed.synapse.person(late)
    keeper.account(person.user_id, there=True)
    assert {Key("Room", f"opsroom-worker-{agent}"), Key("Room", "opsroom-space")} <= set(bed.looked)
    await keeper.bring(f"opsroom-worker-{agent}")
    for each in (room, root):
        assert await bed.homeserver.state_event(each, "m.room.member", person.user_id)


async def test_the_room_alone_with_a_leader_leads_to_that_of_the_next_one(
    bed: Bed, store: Database, keeper: RoomKeeper
) -> None:
    tag = secrets.token_hex(3)

    async def led_by(leader: str) -> None:
        documents = registry.parse(team(f"t{tag}", leader).encode(), source="t.yaml")
        author = Author(user=BOT, cause=leader, now=1.0)
        await store.write(lambda db: declaring.declare(db, documents, author, is_ours=NAMES.is_ours))

    await led_by(f"first-{tag}")
    before = await keeper.bring(f"opsroom-leader-dm-first-{tag}")
    await led_by(f"second-{tag}")
    await keeper.reconcile(Key("Room", f"opsroom-leader-dm-first-{tag}"))

    after = await keeper.bring(f"opsroom-leader-dm-second-{tag}")
    [end] = [event for event in await bed.homeserver.state(before) if event["type"] == "m.room.tombstone"]
    assert end["content"] == {"body": f"first-{tag} (direct) goes on in another room.", "replacement_room": after}


async def test_a_teams_rooms_are_run_by_the_matrix_id_it_names_and_by_operators_where_that_cannot_be(
    bed: Bed, store: Database, keeper: RoomKeeper
) -> None:
    lead = f"lead{secrets.token_hex(3)}"
    boss, john = (await bed.synapse.person("boss")).user_id, (await bed.synapse.person("john")).user_id

    async def run_by(user: str) -> set[str]:
        text = team("dev", lead, fields=f'admin: {{name: pm, matrixUserId: "{user}"}}')
        documents = registry.parse(text.encode(), source="dev.yaml")
        author = Author(user=boss, cause=user, now=1.0)
        await store.write(lambda db: declaring.declare(db, documents, author, is_ours=NAMES.is_ours))
        room = await keeper.bring(f"opsroom-leader-dm-{lead}")
        here = (event for event in await bed.homeserver.state(room) if event["type"] == "m.room.member")
        return {event["state_key"] for event in here if event["content"]["membership"] in ("join", "invite")}

    common = {BOT, NAMES.user(lead)}
    assert await run_by(john) == {*common, john}
    assert await run_by("@john:other.org") == {*common, boss}, "as a document from before this was refused"


async def test_a_shown_password_goes_when_its_owner_first_does_something(bed: Bed, store: Database) -> None:
    """To be in a room says nothing: Synapse joins people by itself."""

    async def on_dead(_item: Outgoing, reason: str) -> None:
        pytest.fail(reason)

    sender = Sender(store, bed.homeserver, on_dead=on_dead)
    means = Means(kind="secret", value=SHARED_SECRET)
    people = Accounts(store, bed.homeserver, sender, means=means, ops_room=lambda: bed.room)
    name = f"bea{secrets.token_hex(3)}"
    user = f"@{name}:{SERVER_NAME}"

    async def shown() -> Mapping[str, Any]:
        page, _ = await bed.homeserver.messages(bed.room, limit=100)
        return next(event["content"] for event in page if event["event_id"] == message)

    assert await people.ensure(name, user, "Bea") == Done("Made", user)
    [(key, _)] = await meta.find(store, "password-shown:")
    message = key.partition(":")[2]
    password = (await shown())["formatted_body"].split("password <code>")[1].split("</code>")[0]
    assert await accounts.opens(bed.homeserver.url, name, password)
    assert (await bed.homeserver.profile(user))["displayname"] == "Bea"
    assert password not in (await shown())["body"], "which the homeserver keeps for its search"

    joined = {"membership": "join"}
    await people.look(Event(id="$1", room_id="!x", type="m.room.member", sender=user, state_key=user, content=joined))
    await people.look(Event(id="$2", room_id="!x", type="m.room.message", sender=BOT, content={"body": "Welcome"}))
    await sender.flush(10)
    assert (await shown())["body"]

    await people.look(Event(id="$3", room_id="!x", type="m.room.message", sender=user, content={"body": "Hello"}))
    await sender.flush(10)
    assert await shown() == {}


@pytest.mark.parametrize("broke_off", ["before its name", "before the bot was in it"])
async def test_an_ops_room_that_was_only_half_made_is_finished(bed: Bed, store: Database, broke_off: str) -> None:
    prefix = f"opsroom-half{secrets.token_hex(3)}-"
    settings = Settings(
        homeserver=HomeserverSettings(server_name=SERVER_NAME), alias_prefix=prefix, operator=f"@op:{SERVER_NAME}"
    )
    for alias in ("space", "ops"):
        half = await bed.homeserver.create_room({"preset": "private_chat", "room_alias_name": prefix + alias})
        if broke_off == "before the bot was in it":
            await bed.homeserver.leave(half, user=BOT)

    made = await welcome.ensure_rooms(store, bed.homeserver, settings)

    for room, name in zip(made, ("Opsroom", "Ops room"), strict=True):
        state = {(event["type"], event["state_key"]): event["content"] for event in await bed.homeserver.state(room)}
        assert state["m.room.name", ""] == {"name": name}
        assert state["m.room.power_levels", ""]["users"] == {settings.operator_id: 100}
        assert state["m.room.member", settings.operator_id]["membership"] == "invite"
    assert await bed.homeserver.state_event(made[0], "m.space.child", made[1])
    assert await welcome.ensure_rooms(store, bed.homeserver, settings) == made


async def test_an_ops_room_that_its_operators_have_changed_is_left_as_it_is(bed: Bed, store: Database) -> None:
    prefix, settings_of = f"opsroom-own{secrets.token_hex(3)}-", HomeserverSettings(server_name=SERVER_NAME)
    settings = Settings(homeserver=settings_of, alias_prefix=prefix, operator=f"@op:{SERVER_NAME}")
    made = await welcome.ensure_rooms(store, bed.homeserver, settings)
    await bed.homeserver.put_state(made[1], "m.room.name", {"name": "Our room"})

    await store.write(lambda db: rooms.remove(db, made[1]))  # as after the loss of the database
    assert await welcome.ensure_rooms(store, bed.homeserver, settings) == made

    assert await bed.homeserver.state_event(made[1], "m.room.name") == {"name": "Our room"}


async def test_a_gap_is_closed_to_its_beginning_though_newer_events_have_come_already(
    bed: Bed, store: Database
) -> None:
    found: list[str] = []

    async def receive(events: Sequence[dict[str, Any]]) -> None:
        found.extend(str(event["event_id"]) for event in events)

    gaps = Gaps(store, bed.homeserver, receive)
    await gaps.close()
    sent = [
        await bed.homeserver.send(bed.room, "m.room.message", content.message(f"{n}"), f"gap.{n}", user=BOT)
        for n in range(130)
    ]
    pushed = [
        {"event_id": event, "room_id": bed.room, "type": "m.room.message", "sender": BOT} for event in sent[10:20]
    ]
    await store.write(lambda db: inbox.add(db, pushed, now=1))

    await gaps.close()

    assert found == sent


async def test_who_operates_stays_known_while_the_homeserver_is_away_and_is_read_again_after_it(bed: Bed) -> None:
    agent = f"@agent-op{secrets.token_hex(3)}:{SERVER_NAME}"
    await bed.homeserver.ensure_user(agent)
    powers = {"users": {agent: 100}}
    room = await bed.homeserver.create_room({"invite": [agent], "power_level_content_override": powers})
    await bed.homeserver.join(room, user=agent)
    operators = Operators(bed.homeserver, Members(bed.homeserver))
    operators.ops_room = room
    assert await operators.last_known() == {agent}
    changed = Event(id="$p", room_id=room, type="m.room.power_levels", sender=agent, content={}, state_key="")

    await bed.homeserver.put_state(room, "m.room.power_levels", powers | {"users": {agent: 50}})
    await bed.synapse.kill()
    assert operators.look(changed)
    assert await operators.last_known() == {agent}
    await bed.synapse.start()

    assert await operators.now() == frozenset()
    assert await operators.last_known() == frozenset()


async def test_members_that_change_while_they_are_read_are_read_again(bed: Bed) -> None:
    agent = f"@agent-in{secrets.token_hex(3)}:{SERVER_NAME}"
    await bed.homeserver.ensure_user(agent)
    room = await bed.homeserver.create_room({"invite": [agent]})
    members = Members(bed.homeserver)
    reading = asyncio.create_task(members.of(room))
    await asyncio.sleep(0)
    members.changed(room)
    assert set(await reading) == {BOT}

    await bed.homeserver.join(room, user=agent)
    assert set(await members.of(room)) == {BOT, agent}


async def test_a_proxy_that_takes_connections_and_drops_them_is_a_homeserver_that_is_away(
    bed: Bed, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = 0

    async def drop(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    async def receive(_events: Sequence[dict[str, Any]]) -> None: ...

    monkeypatch.setattr(gap_closing, "CUT_PAUSE_S", 0.0)
    async with await asyncio.start_server(drop, "127.0.0.1", 0) as proxy:
        address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        behind = Homeserver(address, bed.homeserver.registration, server_name=SERVER_NAME, bot=BOT)
        try:
            async with asyncio.timeout(30):
                assert await Gaps(store, behind, receive)._away_or_time()
        finally:
            await behind.close()
    assert connections == 3
