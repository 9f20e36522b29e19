"""Calls, growing messages and sends against a real homeserver, as the application service makes them."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import Any

import pytest

from appservice.config import HomeserverSettings, Settings
from appservice.errors import Invalid
from appservice.homeserver import accounts, content
from appservice.homeserver.accounts import Means
from appservice.homeserver.events import Event
from appservice.homeserver.live import Live, Pace
from appservice.homeserver.members import Members, Operators
from appservice.homeserver.sender import Sender
from appservice.ops import agreements, welcome
from appservice.ops.agreements import Agreements
from appservice.ops.answer import Thread
from appservice.reconcile.accounts import Accounts
from appservice.reconcile.steps import Done
from appservice.store import meta, outbox, rooms
from appservice.store.commands import Mark
from appservice.store.database import Database
from appservice.store.outbox import Outgoing
from tests.support.bed import BOT, Bed
from tests.support.synapse import SERVER_NAME, SHARED_SECRET


async def say(live: Live, text: str) -> str:
    """Show a text and end the message with it; its event id."""
    live.show(text)
    async with live:
        async with asyncio.timeout(20):
            while not live.event_id or (live.shown and live.shown != text):
                await asyncio.sleep(0.01)
        return await live.settle()


async def showing(live: Live, text: str = "") -> None:
    """Until the room shows this text, or any."""
    async with asyncio.timeout(20):
        while not live.shown or text not in ("", live.shown):
            await asyncio.sleep(0.01)


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
            await showing(one, text)
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


async def commanded(bed: Bed, store: Database) -> tuple[Event, Thread]:
    """A command, and the thread that it is answered in."""

    async def on_dead(item: Outgoing, reason: str) -> None:
        raise AssertionError(reason)

    homeserver, sender = bed.homeserver, Sender(store, bed.homeserver, on_dead=on_dead)
    typed = await homeserver.send(bed.room, "m.room.message", content.message("!apply"), secrets.token_hex(), user=BOT)
    command = Event(
        id=typed, room_id=bed.room, type="m.room.message", sender=BOT, content={}, ts=int(time.time() * 1000)
    )
    thread = Thread(
        store=store, homeserver=homeserver, sender=sender, pace=Pace(), bot=BOT, command=command, repeated=False
    )
    return command, thread


async def test_how_far_a_command_is_can_be_longer_than_a_message(bed: Bed, store: Database) -> None:
    _, thread = await commanded(bed, store)
    async with thread.live:
        thread.progress("\n".join(f"- `worker/number-{number}` — working" for number in range(3000)))
        await showing(thread.live)
    assert "`worker/number-0` — working" in await bed.shown(thread.live.event_id)


async def asked(
    bed: Bed, store: Database, told: str, *, away: bool = False
) -> tuple[str, asyncio.Task[None], Agreements]:
    """Have a command ask: the question's id, what waits for the answer, and whom to tell it."""
    found = Agreements(store)
    command, thread = await commanded(bed, store)

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
        while not (kept := await outbox.get(store, f"command.{command.id}.no")) or not kept.event_id:
            await asyncio.sleep(0.01)
    return thread.live.event_id, asking, found


def mark(found: Agreements, question: str, *, agreed: bool, at: float) -> None:
    after = found.marked(question, Mark(agreed=agreed, by=BOT, at=at)).after
    assert after is not None
    after()


async def test_a_question_that_comes_up_while_the_homeserver_is_away_is_put_once_it_is_back(
    bed: Bed, store: Database
) -> None:
    question, asking, found = await asked(bed, store, "- **delete** `worker/x`", away=True)

    assert "React with ✅" in await bed.shown(question)
    mark(found, question, agreed=False, at=time.time() + 2 * agreements.WITHIN_S)  # too late: not heard
    await asyncio.sleep(0)
    mark(found, question, agreed=True, at=time.time())
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
    mark(found, question, agreed=False, at=time.time())
    with pytest.raises(Invalid, match="said no"):
        await asking


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


async def test_another_operator_in_the_settings_leaves_those_who_operate_where_they_are(
    bed: Bed, store: Database
) -> None:
    prefix = f"opsroom-next{secrets.token_hex(3)}-"
    first, second = [await bed.synapse.person(f"op{secrets.token_hex(3)}") for _ in range(2)]

    def naming(operator: str) -> Settings:
        server = HomeserverSettings(server_name=SERVER_NAME)
        return Settings(homeserver=server, alias_prefix=prefix, operator=operator)

    async def seen() -> list[tuple[object, object]]:
        states = [await bed.homeserver.state(room) for room in made]
        kinds = ("m.room.member", "m.room.power_levels")
        return [(event["state_key"], event["content"]) for state in states for event in state if event["type"] in kinds]

    await welcome.ensure_rooms(store, bed.homeserver, naming(f"@typo:{SERVER_NAME}"))
    made = await welcome.ensure_rooms(store, bed.homeserver, naming(first.user_id))  # nobody had come yet
    for room in made:
        await first.call("POST", f"/rooms/{room}/join", {})
    before = await seen()

    assert await welcome.ensure_rooms(store, bed.homeserver, naming(second.user_id)) == made
    assert await seen() == before

    for room in made:
        await first.call("POST", f"/rooms/{room}/leave", {})
    assert await welcome.ensure_rooms(store, bed.homeserver, naming(second.user_id)) == made
    for room in made:
        levels = await bed.homeserver.state_event(room, "m.room.power_levels") or {}
        assert levels["users"] == {second.user_id: 100}
        assert await bed.homeserver.state_event(room, "m.room.member", second.user_id)


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
    room = await bed.homeserver.create_room({})
    members = Members(bed.homeserver)
    reading = asyncio.create_task(members.of(room))
    await asyncio.sleep(0)
    members.changed(room)
    assert set(await reading) == {BOT}

    await bed.homeserver.invite(room, agent)
    await bed.homeserver.join(room, user=agent)
    assert set(await members.of(room)) == {BOT, agent}


async def test_an_agent_that_has_left_a_room_can_tell_who_is_there_still(bed: Bed) -> None:
    """What a room of somebody's own goes on with is read like this."""
    gone, stays = (f"@agent-{name}{secrets.token_hex(3)}:{SERVER_NAME}" for name in ("gone", "stays"))
    for agent in (gone, stays):
        await bed.homeserver.ensure_user(agent)
    room = await bed.homeserver.create_room({"invite": [gone, stays]})
    for agent in (gone, stays):
        await bed.homeserver.join(room, user=agent)
    await bed.homeserver.leave(room, user=gone)

    state = await bed.homeserver.state(room, user=gone)

    members = {e["state_key"]: e["content"]["membership"] for e in state if e["type"] == "m.room.member"}
    assert members == {BOT: "join", stays: "join", gone: "leave"}
