"""What others do to rooms of ours is undone; what nobody declares any more is ended; what is lost is found again."""

from typing import Any
from urllib.parse import quote

from tests.journeys.test_teams import TEAM
from tests.support.stack import Stack


async def state(stack: Stack, room: str, type_: str, key: str = "") -> dict[str, Any]:
    found: dict[str, Any] = await stack.op.call("GET", f"rooms/{quote(room)}/state/{type_}/{quote(key)}")
    return found


async def test_names_topics_and_powers_changed_by_hand_are_put_back(stack: Stack) -> None:
    room, op = await stack.worker("steady"), stack.op
    powers, topic = await state(stack, room, "m.room.power_levels"), await state(stack, room, "m.room.topic")

    assert await op.undone(room, "m.room.name", {"name": "mine"}) == {"name": "steady"}
    assert (await op.undone(room, "m.room.topic", {"topic": "mine"}))["topic"] == topic["topic"]
    more = powers | {"users": {**powers["users"], stack.agent("steady"): 100}}
    assert (await op.undone(room, "m.room.power_levels", more))["users"] == powers["users"]


async def test_the_ops_room_keeps_its_name_and_its_place(stack: Stack) -> None:
    space = await stack.op.resolve(f"#opsroom-space:{stack.info['server_name']}")
    assert await stack.op.undone(stack.ops_room, "m.room.name", {"name": "mine"}) == {"name": "Ops room"}
    assert "via" in await stack.op.undone(stack.ops_room, "m.space.parent", {}, space)


async def test_somebody_without_a_place_in_a_room_is_taken_out_with_a_word_why(stack: Stack) -> None:
    room = await stack.worker("private")
    guest = await stack.somebody("uninvited")
    await stack.op.call("POST", f"rooms/{quote(room)}/invite", {"user_id": guest.user})

    await stack.op.until(
        lambda: stack.op.seen(room, "m.room.member", guest.user).get("membership") == "leave", "the guest out"
    )
    assert "declared" in str(stack.op.seen(room, "m.room.member", guest.user)["reason"])


async def test_somebody_whom_a_policy_allows_may_stay(stack: Stack) -> None:
    room = await stack.worker("hospitable", channelPolicy="{groupAllowExtra: [visitor]}")
    visitor = await stack.somebody("visitor")
    await stack.op.call("POST", f"rooms/{quote(room)}/invite", {"user_id": visitor.user})
    await stack.joined(visitor, "worker-hospitable")

    question = await visitor.say(room, "may I stay?", mention=stack.agent("hospitable"))
    assert (await visitor.answer_to(question, "may I stay?")).sender == stack.agent("hospitable")


async def test_a_room_that_lost_its_place_in_the_space_gets_it_back(stack: Stack) -> None:
    room = await stack.worker("linked")
    space = (
        stack.info["space"]
        if "space" in stack.info
        else await stack.op.resolve(f"#opsroom-space:{stack.info['server_name']}")
    )
    await stack.op.until(lambda: space in stack.op.rooms, "the space")
    assert "via" in await stack.op.undone(space, "m.space.child", {}, room)
    assert "via" in await stack.op.undone(room, "m.space.parent", {}, space)
    alias = await state(stack, room, "m.room.canonical_alias")
    assert await stack.op.undone(room, "m.room.canonical_alias", {}) == alias


async def test_a_kicked_member_of_a_team_is_back_and_a_human_who_left_is_asked_again(stack: Stack) -> None:
    assert "ready" in (await stack.apply(TEAM.format(team="firm"))).text
    person = await stack.human("deserter", level=2, accessibleTeams="[firm]")
    room = await stack.joined(person, "team-firm")
    await stack.joined(stack.op, "team-firm")

    def told(user: str) -> list[str]:
        return [str(event["content"]["membership"]) for event in stack.op.states(room, "m.room.member", user)]

    one, two = stack.agent("firm-one"), stack.agent("firm-two")
    await stack.op.call("POST", f"rooms/{quote(room)}/kick", {"user_id": one})
    await stack.op.until(lambda: "leave" in told(one) and told(one)[-1] == "join", "the agent back")
    await stack.op.call("POST", f"rooms/{quote(room)}/ban", {"user_id": two})
    await stack.op.until(lambda: "ban" in told(two) and told(two)[-1] == "join", "the banned agent back")
    await person.call("POST", f"rooms/{quote(room)}/leave", {})
    asked = ("invite", "join")
    await stack.op.until(lambda: "leave" in told(person.user) and told(person.user)[-1] in asked, "the person asked")


async def test_a_changed_name_or_topic_keeps_the_room_and_the_sandbox(stack: Stack) -> None:
    assert "ready" in (await stack.apply(TEAM.format(team="stable"))).text
    room = await stack.joined(stack.op, "team-stable")
    before = (await stack.command("!describe worker/stable-one")).text.split("- Sandbox: ")[1].splitlines()[0]

    changed = TEAM.format(team="stable").replace("Builds the pages.", "Builds everything.")
    assert "ready" in (await stack.apply(changed)).text
    await stack.op.until(
        lambda: "Builds everything." in str(stack.op.seen(room, "m.room.topic").get("topic")), "the new topic"
    )
    assert await stack.op.resolve(f"#opsroom-team-stable:{stack.info['server_name']}") == room
    after = (await stack.command("!describe worker/stable-one")).text.split("- Sandbox: ")[1].splitlines()[0]
    assert after == before


async def test_a_paused_object_is_left_as_it_is_until_it_is_resumed(stack: Stack) -> None:
    await stack.worker("resting")
    assert "Paused" in (await stack.command("!pause resting")).text
    assert "paused; `!resume worker/resting`" in (await stack.command("!set worker/resting state=Stopped")).text
    assert "Paused" in (await stack.command("!get workers")).text
    assert "stopped" in (await stack.command("!resume resting")).text


async def test_a_new_operator_is_asked_into_the_rooms_and_taken_out_again(stack: Stack) -> None:
    room = await stack.worker("watched")
    deputy = await stack.somebody("deputy")
    await stack.op.call("POST", f"rooms/{quote(stack.ops_room)}/invite", {"user_id": deputy.user})
    await deputy.until(lambda: stack.ops_room in deputy.rooms, "the ops room")
    powers = await state(stack, stack.ops_room, "m.room.power_levels")
    address = f"rooms/{quote(stack.ops_room)}/state/m.room.power_levels"

    more = powers | {"users": {**powers["users"], deputy.user: 100}}
    await stack.op.call("PUT", address, more)
    await deputy.until(lambda: room in deputy.rooms or room in deputy.invited, "the worker's room")

    await deputy.call("PUT", address, powers)  # an equal can only step back
    await deputy.until(lambda: room in deputy.left, "being out of the worker's room")
