"""Rooms as they are declared, made and kept on a real homeserver."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest

from appservice.homeserver.sender import Sender
from appservice.reconcile.accounts import Accounts
from appservice.reconcile.human import HumanReconciler
from appservice.reconcile.identity import Identities
from appservice.reconcile.rooms import RoomKeeper
from appservice.reconcile.steps import Done
from appservice.rooms import live
from appservice.rooms.declared import Declared
from appservice.rooms.desired import DesiredRoom
from appservice.rooms.live import Around
from appservice.store import objects, status
from appservice.store.changes import Changes, Key
from appservice.store.database import Database
from tests.support.bed import BOT, NAMES, Bed
from tests.support.journalled import declare
from tests.support.rosters import human, team, worker
from tests.support.synapse import SERVER_NAME
from tests.support.world import world_with


async def ensured(bed: Bed, room: DesiredRoom, around: Callable[[], Awaitable[Around]]) -> tuple[str, bool]:
    """Id of the room, and whether anything was sent."""
    made = await live.ensure(bed.homeserver, room, around)
    return made.room_id, made.sent


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

    made, _ = await ensured(bed, room, around)

    assert made != half
    assert await bed.homeserver.resolve(f"#opsroom-worker-half:{SERVER_NAME}") == made
    assert set(await bed.homeserver.members(made)) == {BOT, agent}
    assert await ensured(bed, room, around) == (made, False)


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
        made = await live.ensure(bed.homeserver, room, around)
        assert list(made.refused) == [foreign]
        assert made.sent is first
    assert {BOT, agent} <= set(await bed.homeserver.members(made.room_id))
    assert await bed.homeserver.state_event(made.room_id, "m.room.member", person.user_id)


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

    made = await live.ensure(bed.homeserver, room, around)
    assert list(made.refused) == [locked]
    assert agent in await bed.homeserver.members(made.room_id)


async def test_many_people_are_asked_in_over_several_passes_and_those_refused_keep_nobody_waiting(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PEOPLE_A_PASS", 2)
    tag = secrets.token_hex(3)
    foreign = {f"@a{n}-{tag}:other.org" for n in range(3)}
    people = {f"@p{n}-{tag}:{SERVER_NAME}" for n in range(5)}
    agents = frozenset(f"@agent-{n}-{tag}:{SERVER_NAME}" for n in range(3))
    for agent in agents:
        await bed.homeserver.ensure_user(agent)
    room = DesiredRoom(
        alias=f"opsroom-worker-{tag}", name="zoe", topic="x", purpose="worker", members=agents | people | foreign
    )

    async def around() -> Around:
        return Around(ours=agents)

    made = await live.ensure(bed.homeserver, room, around)
    assert agents <= set(await bed.homeserver.members(made.room_id))
    lefts = [len(made.left)]
    while made.left:
        made = await live.ensure(bed.homeserver, room, around, refused=made.refused)
        lefts.append(len(made.left))

    assert lefts == sorted(lefts, reverse=True)
    assert made.refused.keys() == foreign
    assert all([await bed.homeserver.state_event(made.room_id, "m.room.member", user) for user in people])
    again = await live.ensure(bed.homeserver, room, around, refused=made.refused)
    assert list(again.refused) == [*made.refused][2:] + [*made.refused][:2]  # those that waited longest were tried

    fewer = replace(room, members=agents)
    assert len((await live.ensure(bed.homeserver, fewer, around)).left) == 3


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

    made, _ = await ensured(bed, room, around)
    for user in (agent, person.user_id, other.user_id):
        await bed.homeserver.call("POST", f"rooms/{made}/ban", {"user_id": user})

    assert await ensured(bed, room, around) == (made, True)
    assert [await membership(user) for user in (agent, other.user_id)] == ["join", "ban"]
    assert await membership(person.user_id) in ("invite", "join")
    assert await ensured(bed, room, around) == (made, False)


async def test_what_a_room_shows_of_itself_is_put_back(bed: Bed) -> None:
    space = await bed.homeserver.create_room({"creation_content": {"type": "m.space"}})
    picture = await bed.homeserver.upload(b"x", name="x.png", mimetype="image/png")
    room = DesiredRoom(alias=f"opsroom-worker-{secrets.token_hex(3)}", name="signed", topic="x", purpose="worker")
    alias = f"#{room.alias}:{SERVER_NAME}"

    async def around() -> Around:
        return Around(parent=space, avatar=picture)

    made, _ = await ensured(bed, room, around)
    assert await ensured(bed, room, around) == (made, False)
    for kind, key in (("canonical_alias", ""), ("avatar", ""), ("guest_access", "")):
        await bed.homeserver.put_state(made, f"m.room.{kind}", {}, key)
    await bed.homeserver.put_state(made, "m.space.parent", {}, space)

    assert await ensured(bed, room, around) == (made, True)
    assert await bed.homeserver.state_event(made, "m.room.canonical_alias") == {"alias": alias}
    assert await bed.homeserver.state_event(made, "m.room.avatar") == {"url": picture}
    assert await bed.homeserver.state_event(made, "m.room.guest_access") == {"guest_access": "forbidden"}
    assert (await bed.homeserver.state_event(made, "m.space.parent", space) or {})["canonical"]
    assert await ensured(bed, room, around) == (made, False)


async def test_a_room_that_moves_to_another_space_leaves_the_one_before(bed: Bed) -> None:
    spaces = [await bed.homeserver.create_room({"creation_content": {"type": "m.space"}}) for _ in range(3)]
    room = DesiredRoom(alias=f"opsroom-worker-{secrets.token_hex(3)}", name="moves", topic="x", purpose="worker")
    person = await bed.synapse.person(f"mover{secrets.token_hex(3)}")
    elsewhere = await person.create_room(creation_content={"type": "m.space"})

    async def hangs(space: str) -> bool:
        inside = await bed.homeserver.state_event(space, "m.space.child", made)
        said = await bed.homeserver.state_event(made, "m.space.parent", space)
        assert bool(inside) == bool(said)
        return bool(inside)

    async def moved(space: str) -> tuple[str, bool]:
        async def around() -> Around:
            return Around(parent=space)

        return await ensured(bed, room, around)

    made, _ = await moved(spaces[0])
    await bed.homeserver.put_state(made, "m.room.power_levels", {"users": {person.user_id: 100}})
    await bed.homeserver.invite(made, person.user_id)
    await person.call("POST", f"/rooms/{made}/join", {})
    await person.call("PUT", f"/rooms/{made}/state/m.space.parent/{elsewhere}", {"via": [SERVER_NAME]})

    assert await moved(spaces[1]) == (made, True)
    assert [await hangs(space) for space in spaces] == [False, True, False]
    assert await moved(spaces[1]) == (made, False)
    await bed.homeserver.leave(spaces[1], user=BOT)  # as a team's that was deleted
    assert await moved(spaces[2]) == (made, True)
    assert await bed.homeserver.state_event(made, "m.space.parent", spaces[1]) == {}
    assert await hangs(spaces[2])
    assert await moved(spaces[2]) == (made, False)
    assert await bed.homeserver.state_event(made, "m.space.parent", elsewhere) == {"via": [SERVER_NAME]}


async def operators() -> frozenset[str]:
    return frozenset({f"@boss:{SERVER_NAME}"})


@pytest.fixture
def keeper(bed: Bed, store: Database) -> RoomKeeper:
    """What keeps the rooms of the store's declaration; `boss` operates."""
    declared = Declared(store, NAMES, operators, prefix="opsroom-")
    return RoomKeeper(bed.homeserver, store, declared, Identities(bed.homeserver, NAMES), bed.looked.append)


async def test_somebody_of_whom_the_homeserver_says_nothing_is_as_one_who_is_not_there(keeper: RoomKeeper) -> None:
    assert not await keeper.known("@john:other.org")
    assert await keeper.known(BOT)


async def test_rooms_that_wait_for_an_account_are_not_read_again_until_it_is_there(
    bed: Bed, store: Database, keeper: RoomKeeper
) -> None:
    agent, late = f"w{secrets.token_hex(3)}", f"late{secrets.token_hex(3)}"
    await declare(store, worker(agent) + human(late, 1))

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


@dataclass(frozen=True, slots=True)
class Crowd:
    """Three people who may talk to an agent, and of whom one is asked in by each pass of its room."""

    agent: str
    people: tuple[str, ...]

    @property
    def alias(self) -> str:
        return f"opsroom-worker-{self.agent}"


@pytest.fixture
async def crowd(bed: Bed, store: Database, monkeypatch: pytest.MonkeyPatch) -> Crowd:
    monkeypatch.setattr(live, "PEOPLE_A_PASS", 1)
    tag = secrets.token_hex(3)
    found = Crowd(f"w{tag}", tuple(f"many{n}-{tag}" for n in range(3)))
    for name in found.people:
        await bed.synapse.person(name)
    await declare(store, worker(found.agent) + "".join(human(name, 1) for name in found.people))
    return found


async def filled(bed: Bed, keeper: RoomKeeper, crowd: Crowd) -> None:
    """Go on for as long as the keeper has the room looked at."""
    key = Key("Room", crowd.alias)
    assert key in bed.looked
    while key in bed.looked:
        bed.looked.clear()
        await keeper.reconcile(key)


async def test_a_room_that_many_are_asked_into_is_there_for_its_agent_and_says_how_many_are_left(
    bed: Bed, keeper: RoomKeeper, crowd: Crowd
) -> None:
    room = await keeper.bring(crowd.alias)
    reads = bed.homeserver.reads
    assert await keeper.bring(crowd.alias) == room  # nobody waits for the rest
    assert bed.homeserver.reads == reads
    said = keeper.told(crowd.alias, Done("Joined", room))
    assert said.reason == "AskingIn"
    assert "to be asked in or taken out: 1" in said.message

    await filled(bed, keeper, crowd)
    assert Key("Worker", crowd.agent) in bed.looked
    assert keeper.told(crowd.alias, Done("Joined", room)) == Done("Joined", room)
    for name in crowd.people:
        assert await bed.homeserver.state_event(room, "m.room.member", NAMES.person(name))


async def test_somebody_is_active_once_they_were_asked_into_their_rooms(
    bed: Bed, store: Database, keeper: RoomKeeper, crowd: Crowd
) -> None:
    async def lost(*_: object) -> None: ...

    sender = Sender(store, bed.homeserver, on_dead=lost)
    reconciler = HumanReconciler(
        world_with(
            store=store,
            changes=Changes(),
            declared=Declared(store, NAMES, operators, prefix="opsroom-"),
            rooms=keeper,
            accounts=Accounts(store, bed.homeserver, sender, means=None, ops_room=lambda: bed.room),
        )
    )

    async def phases() -> list[str]:
        found = []
        for name in crowd.people:
            stored = await objects.get(store, Key("Human", name))
            assert stored is not None
            look_again = await reconciler.build(stored)
            now = await status.get(store, stored.key)
            assert bool(look_again) == (now.phase == "Pending") == (now.facts["rooms"] == [])
            found.append(now.phase)
        return sorted(found)

    assert await phases() == ["Active", "Active", "Pending"]
    await filled(bed, keeper, crowd)
    assert await phases() == ["Active", "Active", "Active"]


async def test_people_who_are_deleted_together_are_out_of_a_room_before_they_are_gone(
    bed: Bed, store: Database, keeper: RoomKeeper, crowd: Crowd
) -> None:
    room = await keeper.bring(crowd.alias)
    await filled(bed, keeper, crowd)
    await keeper.bring(crowd.alias)
    for name in crowd.people:
        await store.write(partial(objects.begin_delete, key=Key("Human", name), author=BOT, cause="$d", now=2.0))

    for name in reversed(crowd.people):  # those come first who are taken out last
        await keeper.without(NAMES.person(name))
        member = await bed.homeserver.state_event(room, "m.room.member", NAMES.person(name))
        assert member is not None
        assert member["membership"] == "leave"


async def test_the_room_alone_with_a_leader_leads_to_that_of_the_next_one(
    bed: Bed, store: Database, keeper: RoomKeeper
) -> None:
    tag = secrets.token_hex(3)

    async def led_by(leader: str) -> None:
        await declare(store, team(f"t{tag}", leader), cause=leader)

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
        await declare(store, team("dev", lead, fields=f'admin: {{name: pm, matrixUserId: "{user}"}}'), cause=user)
        room = await keeper.bring(f"opsroom-leader-dm-{lead}")
        here = (event for event in await bed.homeserver.state(room) if event["type"] == "m.room.member")
        return {event["state_key"] for event in here if event["content"]["membership"] in ("join", "invite")}

    common = {BOT, NAMES.user(lead)}
    assert await run_by(john) == {*common, john}
    assert await run_by("@john:other.org") == {*common, boss}, "as a document from before this was refused"
