"""Rooms that HiClaw made go on as rooms of Opsroom: what was said there stays, the room of until now points there."""

import sqlite3
from contextlib import closing
from typing import Any
from urllib.parse import quote

from tests.journeys.test_healing import state
from tests.journeys.test_teams import TEAM
from tests.support import faults
from tests.support.person import Message, Person
from tests.support.stack import Stack, document

BOT = "opsroom"


def bot(stack: Stack) -> str:
    return f"@{BOT}:{stack.info['server_name']}"


async def hiclaw_room(stack: Stack, alias: str, *, high: tuple[Person, ...] = (), low: tuple[Person, ...] = ()) -> str:
    """A room as HiClaw's controller makes it: by the admin, who is the operator here."""
    everybody = (stack.op, *high)
    body = {
        "preset": "trusted_private_chat",
        "room_version": "10",
        "room_alias_name": alias,
        "name": f"Worker: {alias}",
        "topic": f"Communication channel for {alias}",
        "invite": [person.user for person in (*high, *low)],
        "power_level_content_override": {
            "users": {person.user: 100 for person in everybody} | {person.user: 0 for person in low}
        },
    }
    room = str((await stack.op.call("POST", "createRoom", body))["room_id"])
    for person in (*high, *low):
        await person.call("POST", f"join/{quote(room)}", {})
    return room


async def invite_bot(stack: Stack, room: str) -> None:
    await stack.op.call("POST", f"rooms/{quote(room)}/invite", {"user_id": bot(stack)})


async def give_power(stack: Stack, room: str) -> None:
    levels = await state(stack, room, "m.room.power_levels")
    users: dict[str, int] = dict(levels["users"])
    more = levels | {"users": users | {bot(stack): 100}}
    await stack.op.call("PUT", f"rooms/{quote(room)}/state/m.room.power_levels", more)


async def state_ids(stack: Stack, room: str) -> dict[tuple[str, str], str]:
    """Which event each piece of a room's state is."""
    found: list[dict[str, Any]] = await stack.op.call("GET", f"rooms/{quote(room)}/state")
    return {(event["type"], event["state_key"]): event["event_id"] for event in found}


async def said_in(stack: Stack, room: str) -> list[str]:
    page = await stack.op.call("GET", f"rooms/{quote(room)}/messages", dir="b", limit="100")
    return [event["content"].get("body", "") for event in page["chunk"]]


async def replaced_by(stack: Stack, earlier: str, room: str) -> None:
    await stack.op.until(
        lambda: stack.op.seen(earlier, "m.room.tombstone").get("replacement_room") == room, "the tombstone"
    )


async def answered(stack: Stack, room: str, name: str) -> Message:
    return await stack.op.answer_to(await stack.ask(room, name, "are you there?"), "You said")


async def test_a_worker_goes_on_in_the_room_that_hiclaw_made_for_it(stack: Stack) -> None:
    earlier = await stack.worker("veteran")
    manager, old = await stack.somebody("old-manager"), await stack.somebody("veteran")
    room = await hiclaw_room(stack, "hiclaw-worker-veteran", high=(manager,), low=(old,))
    past = await stack.op.say(room, "@veteran remember 4711")

    refused = (await stack.command("!adopt worker/veteran")).text
    assert f"`/invite {bot(stack)}`" in refused
    await invite_bot(stack, room)
    refused = (await stack.command("!adopt worker/veteran")).text
    assert "has power 0 in #hiclaw-worker-veteran" in refused
    assert f"`/op {bot(stack)} 100`" in refused
    assert (await state(stack, room, "m.room.name"))["name"] == "Worker: hiclaw-worker-veteran"
    await give_power(stack, room)
    answer = (await stack.command("!adopt worker/veteran")).text

    assert "`worker/veteran` goes on in #hiclaw-worker-veteran" in answer
    assert "Taken out, as nothing declared gives them a place: @veteran." in answer
    assert f"{manager.user} stands as high in this room" in answer
    await replaced_by(stack, earlier, room)
    assert await stack.room("veteran") == room
    assert (await answered(stack, room, "veteran")).sender == stack.agent("veteran")
    assert "@veteran remember 4711" in await said_in(stack, room)

    assert (await state(stack, room, "m.room.name"))["name"] == "veteran"
    levels = await state(stack, room, "m.room.power_levels")
    assert levels["users"] == dict.fromkeys((stack.op.user, manager.user, bot(stack)), 100)
    space = await stack.op.resolve(f"#opsroom-space:{stack.info['server_name']}")
    assert "via" in await state(stack, space, "m.space.child", room)
    described = (await stack.command("!describe worker/veteran")).text
    assert f"**ok** Room: others keep power ({manager.user} stands as high" in described

    before = await state_ids(stack, room)
    assert "ready" in (await stack.command("!restart veteran", 120)).text
    await stack.kill_control_plane()
    assert "ready" in (await stack.command("!restart veteran", 120)).text
    assert await state_ids(stack, room) == before
    await faults.all_done(stack)
    await stack.command("!version")
    assert stack.op.answers(past) == []  # it was said to the agent of another installation

    levels["users"] = {stack.op.user: 100, bot(stack): 100}
    await manager.call("PUT", f"rooms/{quote(room)}/state/m.room.power_levels", levels)
    await stack.op.until(
        lambda: stack.op.seen(room, "m.room.member", manager.user).get("membership") == "leave", "the manager out"
    )
    await stack.command("!restart veteran", 120)
    assert "**ok** Room: joined, since" in (await stack.command("!describe worker/veteran")).text


async def test_the_rooms_of_a_team_are_adopted_one_by_one_under_whatever_alias_they_have(stack: Stack) -> None:
    assert "ready" in (await stack.apply(TEAM.format(team="settlers"))).text
    earlier = await stack.op.resolve(f"#opsroom-team-settlers:{stack.info['server_name']}")
    room = await hiclaw_room(stack, "our-old-team")
    alone = await hiclaw_room(stack, "hiclaw-leader-dm-settlers-lead")
    for each in (room, alone):
        await invite_bot(stack, each)
        await give_power(stack, each)

    assert "goes on in #our-old-team" in (await stack.command("!adopt team/settlers #our-old-team")).text
    assert (
        "goes on in #hiclaw-leader-dm-settlers-lead" in (await stack.command("!adopt team/settlers --leader-dm")).text
    )
    await stack.op.until(lambda: earlier in stack.op.rooms or earlier in stack.op.invited, "the room of until now")
    assert (await state(stack, earlier, "m.room.tombstone"))["replacement_room"] == room
    assert (await answered(stack, room, "settlers-one")).sender == stack.agent("settlers-one")
    direct = await stack.op.say(alone, "no mention is needed here")
    assert (await stack.op.answer_to(direct, "You said")).sender == stack.agent("settlers-lead")

    before = [await state_ids(stack, each) for each in (room, alone)]
    assert "goes on in" in (await stack.command("!adopt team/settlers #our-old-team")).text
    await stack.kill_control_plane()
    assert "ready" in (await stack.command("!restart team/settlers", 120)).text
    assert [await state_ids(stack, each) for each in (room, alone)] == before

    assert "Deleted `team/settlers`" in (await stack.command("!delete team/settlers --yes", 120)).text
    assert (await state(stack, room, "m.room.tombstone"))["body"] == "settlers (team) was deleted."


async def test_a_manager_goes_on_where_it_was_asked_before(stack: Stack) -> None:
    assert "ready" in (await stack.apply(document("Manager", "steward", model="gpt-test"))).text
    room = await hiclaw_room(stack, "hiclaw-manager-steward")
    await invite_bot(stack, room)
    await give_power(stack, room)
    assert "goes on in #hiclaw-manager-steward" in (await stack.command("!adopt manager/steward")).text
    direct = await stack.op.say(room, "no mention is needed here")
    assert (await stack.op.answer_to(direct, "You said")).sender == stack.agent("steward")


async def test_a_control_plane_that_dies_while_it_adopts_ends_it_and_makes_no_third_room(stack: Stack) -> None:
    earlier = await stack.worker("nomad")
    room = await hiclaw_room(stack, "hiclaw-worker-nomad")
    await invite_bot(stack, room)
    await give_power(stack, room)

    event = await stack.op.say(stack.ops_room, "!adopt worker/nomad")
    await stack.op.until(lambda: stack.op.seen(earlier, "m.room.tombstone"), "the first step")
    await stack.kill_control_plane()

    assert "goes on in #hiclaw-worker-nomad" in (await stack.op.ended(event, 120)).text
    await replaced_by(stack, earlier, room)
    assert await stack.room("nomad") == room
    with closing(sqlite3.connect(f"file:{stack.data_dir / 'opsroom.db'}?mode=ro", uri=True)) as db:
        assert db.execute("SELECT room_id FROM rooms WHERE alias = 'opsroom-worker-nomad'").fetchall() == [(room,)]
    assert (await answered(stack, room, "nomad")).sender == stack.agent("nomad")


async def test_what_cannot_be_adopted_is_refused_with_a_sentence_and_stays_as_it_is(stack: Stack) -> None:
    own, other = await stack.worker("picky"), await stack.worker("neighbour")
    encrypted = await hiclaw_room(stack, "hiclaw-worker-picky")
    await invite_bot(stack, encrypted)
    await give_power(stack, encrypted)
    algorithm = {"algorithm": "m.megolm.v1.aes-sha2"}
    await stack.op.call("PUT", f"rooms/{quote(encrypted)}/state/m.room.encryption", algorithm)
    await stack.human("tenant", level=3)

    for command, words in {
        "!adopt worker/nobody": "Apply it first",
        "!adopt human/tenant": "has no room of its own",
        "!adopt worker/picky #nowhere": "no room #nowhere",
        "!adopt worker/picky #opsroom-worker-neighbour": "is a room of Opsroom already: that of neighbour",
        "!adopt worker/picky": "is encrypted",
        "!adopt worker/picky --leader-dm": "Leave `--leader-dm` out",
    }.items():
        answer = (await stack.command(command)).text
        assert words in answer, f"{command}: {answer}"
    assert [await stack.room("picky"), await stack.room("neighbour")] == [own, other]
    assert "m.room.tombstone" not in {kind for kind, _ in await state_ids(stack, own)}
