"""What others do to rooms of ours is undone; what nobody declares any more is ended; what is lost is found again."""

from urllib.parse import quote

from tests.journeys.test_teams import TEAM
from tests.support.person import Person
from tests.support.stack import Stack


async def state(stack: Stack, room: str, type_: str, key: str = "") -> dict[str, object]:
    found: dict[str, object] = await stack.op.call("GET", f"rooms/{quote(room)}/state/{type_}/{quote(key)}")
    return found


def seen(person: Person, room: str, type_: str, key: str = "") -> dict[str, object]:
    """The newest state of that type which somebody's client was told."""
    found = [e for e in person.events if e["room_id"] == room and e["type"] == type_ and e.get("state_key") == key]
    return dict(found[-1]["content"]) if found else {}


async def test_names_topics_and_powers_changed_by_hand_are_put_back(stack: Stack) -> None:
    room = await stack.worker("steady")
    powers = await state(stack, room, "m.room.power_levels")
    topic = seen(stack.op, room, "m.room.topic") or await state(stack, room, "m.room.topic")

    await stack.op.call("PUT", f"rooms/{quote(room)}/state/m.room.name", {"name": "mine"})
    await stack.op.until(lambda: seen(stack.op, room, "m.room.name") == {"name": "steady"}, "the name put back")
    await stack.op.call("PUT", f"rooms/{quote(room)}/state/m.room.topic", {"topic": "mine"})
    await stack.op.until(lambda: seen(stack.op, room, "m.room.topic").get("topic") == topic["topic"], "the topic")
    more = powers | {"users": {**powers["users"], stack.agent("steady"): 100}}  # type: ignore[dict-item]
    await stack.op.call("PUT", f"rooms/{quote(room)}/state/m.room.power_levels", more)
    await stack.op.until(
        lambda: seen(stack.op, room, "m.room.power_levels").get("users") == powers["users"], "the powers put back"
    )


async def test_the_ops_room_keeps_its_name_and_its_place(stack: Stack) -> None:
    room = stack.ops_room
    space = await stack.op.resolve(f"#opsroom-space:{stack.info['server_name']}")
    await stack.op.call("PUT", f"rooms/{quote(room)}/state/m.room.name", {"name": "mine"})
    await stack.op.until(lambda: seen(stack.op, room, "m.room.name") == {"name": "Ops room"}, "the name put back")
    await stack.op.call("PUT", f"rooms/{quote(room)}/state/m.space.parent/{quote(space)}", {})
    await stack.op.until(lambda: "via" in seen(stack.op, room, "m.space.parent", space), "the place put back")


async def test_somebody_without_a_place_in_a_room_is_taken_out_with_a_word_why(stack: Stack) -> None:
    room = await stack.worker("private")
    guest = await stack.somebody("uninvited")
    await stack.op.call("POST", f"rooms/{quote(room)}/invite", {"user_id": guest.user})

    await stack.op.until(
        lambda: seen(stack.op, room, "m.room.member", guest.user).get("membership") == "leave", "the guest out"
    )
    assert "declared" in str(seen(stack.op, room, "m.room.member", guest.user)["reason"])


async def test_somebody_whom_a_policy_allows_may_stay(stack: Stack) -> None:
    room = await stack.worker("hospitable", channelPolicy="{groupAllowExtra: [visitor]}")
    visitor = await stack.somebody("visitor")
    await stack.op.call("POST", f"rooms/{quote(room)}/invite", {"user_id": visitor.user})
    await stack.joined(visitor, "worker-hospitable")

    question = await visitor.say(room, "may I stay?", mention=stack.agent("hospitable"))
    assert "may I stay?" in (await visitor.answer_to(question, "You said")).text


async def test_a_room_that_lost_its_place_in_the_space_gets_it_back(stack: Stack) -> None:
    room = await stack.worker("linked")
    space = (
        stack.info["space"]
        if "space" in stack.info
        else await stack.op.resolve(f"#opsroom-space:{stack.info['server_name']}")
    )
    await stack.op.until(lambda: space in stack.op.rooms, "the space")
    await stack.op.call("PUT", f"rooms/{quote(space)}/state/m.space.child/{quote(room)}", {})
    await stack.op.until(lambda: "via" in seen(stack.op, space, "m.space.child", room), "the room in the space")
    await stack.op.call("PUT", f"rooms/{quote(room)}/state/m.space.parent/{quote(space)}", {})
    await stack.op.until(lambda: "via" in seen(stack.op, room, "m.space.parent", space), "the space in the room")
    alias = seen(stack.op, room, "m.room.canonical_alias") or await state(stack, room, "m.room.canonical_alias")
    await stack.op.call("PUT", f"rooms/{quote(room)}/state/m.room.canonical_alias", {})
    await stack.op.until(lambda: seen(stack.op, room, "m.room.canonical_alias") == alias, "the alias shown")


async def test_a_kicked_member_of_a_team_is_back_and_a_human_who_left_is_asked_again(stack: Stack) -> None:
    assert "ready" in (await stack.apply(TEAM.format(team="firm"))).text
    person = await stack.human("deserter", level=2, accessibleTeams="[firm]")
    room = await stack.joined(person, "team-firm")
    await stack.joined(stack.op, "team-firm")

    await stack.op.call("POST", f"rooms/{quote(room)}/kick", {"user_id": stack.agent("firm-one")})
    await stack.op.until(
        lambda: seen(stack.op, room, "m.room.member", stack.agent("firm-one")).get("membership") == "join",
        "the agent back",
    )
    await stack.op.call("POST", f"rooms/{quote(room)}/ban", {"user_id": stack.agent("firm-two")})
    await stack.op.until(
        lambda: seen(stack.op, room, "m.room.member", stack.agent("firm-two")).get("membership") == "join",
        "the banned agent back",
    )
    await person.call("POST", f"rooms/{quote(room)}/leave", {})
    await stack.op.until(
        lambda: seen(stack.op, room, "m.room.member", person.user).get("membership") in ("invite", "join"),
        "the person asked again",
    )


async def test_a_changed_name_or_topic_keeps_the_room_and_the_sandbox(stack: Stack) -> None:
    assert "ready" in (await stack.apply(TEAM.format(team="stable"))).text
    room = await stack.joined(stack.op, "team-stable")
    before = (await stack.command("!describe worker/stable-one")).text.split("- Sandbox: ")[1].splitlines()[0]

    changed = TEAM.format(team="stable").replace("Builds the pages.", "Builds everything.")
    assert "ready" in (await stack.apply(changed)).text
    await stack.op.until(
        lambda: "Builds everything." in str(seen(stack.op, room, "m.room.topic").get("topic")), "the new topic"
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

    more = powers | {"users": {**powers["users"], deputy.user: 100}}  # type: ignore[dict-item]
    await stack.op.call("PUT", address, more)
    await deputy.until(lambda: room in deputy.rooms or room in deputy.invited, "the worker's room")

    await deputy.call("PUT", address, powers)  # an equal can only step back
    await deputy.until(lambda: room in deputy.left, "being out of the worker's room")
