"""Rooms as people spoil them: the agent thrown out in mid-turn, encryption, questions forged by an edit."""

from urllib.parse import quote

from tests.support import faults
from tests.support.provider import Hang, Say
from tests.support.stack import Stack


async def direct_room(stack: Stack, name: str) -> str:
    """A room of the operator and an agent alone, in which the operator decides."""
    body = {"preset": "private_chat", "is_direct": True, "invite": [stack.agent(name)]}
    room = str((await stack.op.call("POST", "createRoom", body))["room_id"])
    await stack.op.until(
        lambda: any(
            e["type"] == "m.room.member"
            and e["state_key"] == stack.agent(name)
            and e["content"]["membership"] == "join"
            and e["room_id"] == room
            for e in stack.op.events
        ),
        f"{name} in the room",
    )
    return room


async def test_an_agent_thrown_out_in_mid_turn_leaves_a_dead_letter_that_the_ops_room_is_told_of(stack: Stack) -> None:
    await stack.worker("outcast")
    room = await direct_room(stack, "outcast")
    stack.provider.when("wait for it", Say("nobody hears this", first=10.0))
    await stack.op.say(room, "wait for it")
    await stack.provider.until(lambda: any("wait for it" in call.prompt for call in stack.provider.calls))

    await stack.op.call("POST", f"rooms/{quote(room)}/kick", {"user_id": stack.agent("outcast"), "reason": "test"})

    letter = await stack.op.until(
        lambda: next((m for m in stack.op.messages.values() if "NOT SENT" in m.text and room in m.text), None),
        "the dead letter",
    )
    assert letter.room == stack.ops_room
    assert stack.agent("outcast") in letter.text
    status = (await stack.command("!status")).text
    assert "NOT SENT" in status
    assert room in status
    assert faults.open_rows(stack).get("turns", 0) == 0


async def test_an_agent_thrown_out_of_its_own_room_is_brought_back(stack: Stack) -> None:
    room = await stack.worker("homing")
    before = len(stack.op.events)

    await stack.op.call("POST", f"rooms/{quote(room)}/kick", {"user_id": stack.agent("homing"), "reason": "test"})

    await stack.op.until(
        lambda: any(
            e["type"] == "m.room.member"
            and e.get("state_key") == stack.agent("homing")
            and e["content"]["membership"] == "join"
            for e in stack.op.events[before:]
            if e["room_id"] == room
        ),
        "the agent back in its room",
    )
    await stack.op.answer_to(await stack.ask(room, "homing", "home again?"), "home again?")


async def test_an_encrypted_room_gets_one_explanation(stack: Stack) -> None:
    await stack.worker("reader")
    room = await direct_room(stack, "reader")
    state = f"rooms/{quote(room)}/state/m.room.encryption"
    await stack.op.call("PUT", state, {"algorithm": "m.megolm.v1.aes-sha2"})
    secret = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "xxxx", "session_id": "s", "sender_key": "k"}
    for _ in range(3):
        await stack.op.send(room, "m.room.encrypted", secret)

    def explained() -> list[str]:
        return [m.text for m in stack.op.messages.values() if m.room == room and "encrypted" in m.text]

    await stack.op.until(explained, "an explanation")
    await faults.all_done(stack)
    await stack.command("!version")
    assert len(explained()) == 1


async def test_an_edit_by_somebody_else_changes_no_question(stack: Stack) -> None:
    room = await stack.worker("loyal")
    forger = await stack.human("forger", level=2, accessibleWorkers="[loyal]")
    await forger.until(lambda: room in forger.rooms or room in forger.invited, "the invitation")
    await forger.call("POST", f"join/{quote(room)}", {})
    stack.provider.when("hold the line", Hang())
    first = await stack.ask(room, "loyal", "hold the line")
    second = await stack.ask(room, "loyal", "the real question", thread=first)

    await forger.edit(room, second, "a forged question")
    await stack.command("!version")
    stack.provider.release()
    await stack.op.answer_to(first, "the real question")

    assert not any("forged" in call.prompt for call in stack.provider.calls)
