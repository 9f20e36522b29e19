"""Who may ask whom, declared in a file, told in the room, explained in the ops room."""

from tests.support.person import Person
from tests.support.stack import Stack, worker_yaml


async def joined(person: Person, room: str, member: str) -> None:
    await person.until(
        lambda: any(
            event["type"] == "m.room.member"
            and event["room_id"] == room
            and event["state_key"] == member
            and event["content"]["membership"] == "join"
            for event in person.events
        ),
        f"{member} in the room",
    )


async def sandbox(stack: Stack, name: str) -> str:
    lines = (await stack.command(f"!describe {name}")).text.splitlines()
    return next(line for line in lines if line.startswith("- Sandbox:"))


async def test_whoever_a_worker_names_may_talk_to_it_alone(stack: Stack) -> None:
    await stack.worker("open", channelPolicy="{dmAllowExtra: [friend]}")
    friend = await stack.somebody("friend")
    room = await friend.create_direct(stack.agent("open"))
    await joined(friend, room, stack.agent("open"))

    answer = await friend.answer_to(await friend.say(room, "hello"), "hello")
    assert answer.text == "You said: hello"

    explained = await stack.command(f"!explain @friend -> open in {room}")
    assert "**ALLOW** @friend:" in explained.text
    assert "`worker/open`, line 7: `channelPolicy: {dmAllowExtra: [friend]}`" in explained.text
    assert "DENY" in (await stack.command("!explain @friend -> open")).text


async def test_a_change_of_who_may_ask_takes_effect_at_once_and_leaves_the_sandbox_alone(stack: Stack) -> None:
    room = await stack.worker("picky")
    foe = await stack.human("foe", level=3, accessibleWorkers="[picky]")
    await foe.call("POST", f"join/{room}", {})
    await foe.answer_to(await foe.say(room, "before", mention=stack.agent("picky")), "before")
    before = await sandbox(stack, "picky")

    assert "ready" in (await stack.apply(worker_yaml("picky", channelPolicy="{groupDenyExtra: [foe]}"))).text
    refused = await foe.answer_to(
        await foe.say(room, "once more, denied", mention=stack.agent("picky")), "channelPolicy"
    )

    assert "You may not ask picky here" in refused.text
    await foe.say(room, "and again", mention=stack.agent("picky"))
    await foe.answer_to(await foe.say(room, "!stop"), "Nothing is running")  # another line, and after the second no
    assert [m.text for m in foe.messages.values() if m.room == room and "You may not" in m.text] == [refused.text]
    explained = (await stack.command("!explain foe picky")).text
    assert "DENY" in explained
    assert "groupDenyExtra" in explained
    assert await sandbox(stack, "picky") == before
    assert not any("once more, denied" in call.prompt for call in stack.provider.calls)


async def test_explain_says_what_it_cannot_read(stack: Stack) -> None:
    await stack.worker("asked-about")
    assert "does not say who asks whom" in (await stack.command("!explain")).text
    assert "no room #nowhere" in (await stack.command("!explain @op -> asked-about in #nowhere")).text
    assert "no object called" in (await stack.command("!explain @op -> nobody")).text
    assert "is not in that room" in (await stack.command(f"!explain @op -> asked-about in {stack.ops_room}")).text
    agent, room = stack.agent("asked-about"), await stack.room("asked-about")
    assert "**ALLOW** @op" in (await stack.command(f"!explain @op -> {agent} in {room}")).text
    await stack.human("elsewhere", level=3, accessibleWorkers="[another]")
    absent = (await stack.command(f"!explain @elsewhere -> {agent} in {room}")).text
    assert "Rule: not a member" in absent
    assert "@elsewhere is not in that room" in absent
    refused = (await stack.command(f"!explain @elsewhere -> {agent}")).text
    assert "`human/elsewhere`, line 8: `accessibleWorkers: [another]`" in refused
