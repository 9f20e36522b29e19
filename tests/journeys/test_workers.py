"""A Worker's life: made, asked, changed, put to sleep, woken, restarted, removed without a trace."""

import asyncio
import json
import re
from functools import partial
from urllib.parse import quote

from tests.support.provider import Hang, Say, ToolCall
from tests.support.stack import KEY, Stack, worker_yaml


async def test_a_mention_is_answered_in_a_thread_by_the_model_behind_the_gateway(stack: Stack) -> None:
    room = await stack.worker("asked", soul="You are terse.")

    question = await stack.ask(room, "asked", "what is up?")
    answer = await stack.op.answer_to(question, "You said")

    assert answer.sender == stack.agent("asked")
    assert answer.raw["msgtype"] == "m.text"
    assert answer.raw["org.opsroom.cause"]["parent"] == question
    call = next(call for call in stack.provider.calls if "what is up?" in call.prompt)
    assert call.model == "gpt-test"
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert "You are terse." in json.dumps(call.body["messages"])


async def test_pill_link_and_plain_name_all_ask_and_other_talk_does_not(stack: Stack) -> None:
    room = await stack.worker("named")
    link = f'<a href="https://matrix.to/#/{stack.agent("named").replace("@", "%40")}">x</a> by link'

    idle = await stack.op.say(room, "nobody in particular")
    quoted = await stack.op.say(room, "> @named said\nfine")
    by_link = await stack.op.say(room, "x by link", format="org.matrix.custom.html", formatted_body=link)
    plain = await stack.op.say(room, "@named by name")
    full = await stack.op.say(room, f"{stack.agent('named')} by id")

    for event in (by_link, plain, full):
        await stack.op.answer_to(event, "You said")
    assert stack.op.answers(idle) == stack.op.answers(quoted) == []


async def test_who_began_a_thread_goes_on_without_a_mention_until_somebody_else_speaks(stack: Stack) -> None:
    room = await stack.worker("threaded")
    other = await stack.human("colleague", level=3, accessibleWorkers="[threaded]")
    await other.until(lambda: room in other.rooms, "the room")
    root = await stack.ask(room, "threaded", "first question")
    await stack.op.answer_to(root, "first question")

    await stack.op.say(room, "second question", thread=root)
    await stack.op.answer_to(root, "second question")
    await other.say(room, "may I join in", thread=root)
    unasked = await stack.op.say(room, "are you still there", thread=root)
    await stack.ask(room, "threaded", "last question", thread=root)
    await stack.op.answer_to(root, "last question")

    texts = [message.text for message in stack.op.answers(root) if message.sender != other.user]
    assert unasked
    assert not any("join in" in text or "still there" in text for text in texts)


async def test_in_a_direct_room_every_message_asks(stack: Stack) -> None:
    await stack.worker("direct")
    room = await stack.op.create_direct(stack.agent("direct"))
    await comes_in(stack, "direct", room)

    answer = await stack.op.answer_to(await stack.op.say(room, "no mention here"), "mention here")

    assert answer.text == "You said: no mention here"


async def comes_in(stack: Stack, name: str, room: str) -> None:
    def came() -> bool:
        return any(e["content"]["membership"] == "join" for e in stack.op.states(room, "m.room.member", user))

    user = stack.agent(name)
    await stack.op.until(came, "the agent in the room")


async def test_a_second_agent_comes_into_a_direct_room_and_has_it_when_the_first_is_deleted(stack: Stack) -> None:
    for name in ("pair-a", "pair-b"):
        await stack.worker(name)
    room = await stack.op.create_direct(stack.agent("pair-a"))
    await comes_in(stack, "pair-a", room)
    await stack.op.call("POST", f"rooms/{quote(room)}/invite", {"user_id": stack.agent("pair-b")})
    await comes_in(stack, "pair-b", room)
    for name in ("pair-a", "pair-b"):
        question = await stack.ask(room, name, "are you there?")
        assert (await stack.op.answer_to(question, "You said")).sender == stack.agent(name)

    assert "Deleted" in (await stack.command("!delete worker/pair-a --yes")).text

    answer = await stack.op.answer_to(await stack.op.say(room, "and now?"), "and now?")
    assert (answer.sender, answer.text) == (stack.agent("pair-b"), "You said: and now?")


async def test_a_stranger_gets_a_reason_instead_of_an_answer(stack: Stack) -> None:
    await stack.worker("guarded")
    stranger = await stack.somebody("stranger")
    room = await stranger.create_direct(stack.agent("guarded"))

    await stranger.until(
        lambda: any(
            e["type"] == "m.room.member"
            and e["state_key"] == stack.agent("guarded")
            and e["content"]["membership"] == "leave"
            and "You may not ask guarded here" in e["content"].get("reason", "")
            and e["room_id"] == room
            for e in stranger.events
        ),
        "the invitation declined",
    )
    assert "@stranger → guarded (invite, rule: worker-access)" in (await stack.command("!audit guarded")).text


async def test_questions_of_one_thread_are_answered_in_order_and_threads_side_by_side(stack: Stack) -> None:
    room = await stack.worker("ordered")
    stack.provider.when("held back", Hang())
    first = await stack.ask(room, "ordered", "held back")
    second = await stack.ask(room, "ordered", "after it", thread=first)
    other = await stack.ask(room, "ordered", "elsewhere")

    await stack.op.answer_to(other, "elsewhere")
    waiting = [message for message in stack.op.answers(first) if "after it" in message.text]
    stack.provider.release()
    await stack.op.answer_to(first, "after it")

    assert waiting == []
    texts = [message.text for message in stack.op.answers(first)]
    assert texts[0] == "late"
    assert "after it" in texts[1]
    assert second


async def test_a_long_answer_grows_in_one_message_and_a_reaction_stops_it(stack: Stack) -> None:
    room = await stack.worker("talker")
    stack.provider.when("talk long", Say(words=2000, delay=0.02))
    question = await stack.ask(room, "talker", "talk long")
    growing = await stack.op.answer_to(question, "word1")
    await stack.op.until(lambda: growing.edits >= 2, "two edits")

    await stack.op.react(room, growing.id, "🛑\ufe0f")
    await stack.op.until(lambda: "Stopped by @op" in growing.text, "the note")

    assert len(stack.op.answers(question)) == 1
    assert "word1 word2" in growing.text
    await stack.provider.until(lambda: any(c.ended == "cut" for c in stack.provider.calls if "talk long" in c.prompt))


def _was_asked(stack: Stack, words: str) -> bool:
    return any(words in call.prompt for call in stack.provider.calls)


async def test_stop_in_the_room_and_in_the_ops_room_end_a_turn(stack: Stack) -> None:
    room = await stack.worker("stoppable")
    stack.provider.when("hang for ever", Say("too late", first=60.0))

    for how in ("in the room", "in the ops room"):
        question = await stack.ask(room, "stoppable", f"hang for ever {how}")
        await stack.provider.until(partial(_was_asked, stack, how))
        if how == "in the room":
            await stack.op.say(room, "!stop")
        else:
            assert "Stopped 1 turn" in (await stack.command("!stop stoppable")).text
        assert "Stopped by @op" in (await stack.op.answer_to(question)).text


async def test_a_question_edited_or_redacted_before_delivery_is_taken_as_it_stands(stack: Stack) -> None:
    room = await stack.worker("editor")
    stack.provider.when("busy first", Say("done", first=3.0))
    first = await stack.ask(room, "editor", "busy first")
    edited = await stack.ask(room, "editor", "original words", thread=first)
    gone = await stack.ask(room, "editor", "never mind this", thread=first)

    await stack.op.edit(room, edited, "corrected words")
    await stack.op.redact(room, gone)
    last = await stack.ask(room, "editor", "the last one", thread=first)
    await stack.op.answer_to(first, "the last one")

    prompts = [call.prompt for call in stack.provider.calls]
    assert last
    assert "corrected words" in prompts
    assert not any("original words" in prompt or "never mind this" in prompt for prompt in prompts)
    assert not any("Stopped" in message.text for message in stack.op.answers(first))


async def test_an_answer_that_fits_no_event_goes_on_in_further_messages(stack: Stack) -> None:
    room = await stack.worker("verbose")
    stack.provider.when("very much", Say(words=3000))

    question = await stack.ask(room, "verbose", "very much")
    # while it grows, the first message shows the end of a long answer
    await stack.op.until(lambda: any("word3000" in m.text for m in stack.op.answers(question)[1:]), "the end")
    whole = " ".join(message.text for message in stack.op.answers(question))

    assert [word for word in whole.split() if word.startswith("word")] == [f"word{n}" for n in range(1, 3001)]


async def test_a_model_that_fails_is_one_clear_sentence_in_the_room(stack: Stack) -> None:
    from tests.support.provider import Fail

    room = await stack.worker("unlucky")
    stack.provider.when("fail please", Fail(500, "secret inner words"))

    answer = await stack.op.answer_to(await stack.ask(room, "unlucky", "fail please"), timeout_s=90)

    assert "model" in answer.text
    assert "Traceback" not in answer.text


async def test_what_an_agent_writes_survives_its_sandbox(stack: Stack) -> None:
    room = await stack.worker("writer")
    stack.provider.when(
        "write it", ToolCall("write_file", {"path": "notes.md", "content": "remember the milk"}), Say("ok")
    )
    stack.provider.when("read it", ToolCall("read_file", {"path": "notes.md"}), Say("read"))
    await stack.op.answer_to(await stack.ask(room, "writer", "write it"), "ok")

    first = await _sandbox(stack, "writer")
    assert "restarted `worker/writer` — ready" in (await stack.command("!restart writer")).text
    assert await _sandbox(stack, "writer") != first
    await stack.op.answer_to(await stack.ask(room, "writer", "read it"), "read")

    assert any(
        "remember the milk" in json.dumps(call.body) for call in stack.provider.calls if "read it" in call.prompt
    )
    refused = await stack.command("!delete writer --yes")
    assert "1 file" in refused.text
    assert "--files keep" in refused.text


async def _sandbox(stack: Stack, name: str) -> str:
    described = (await stack.command(f"!describe {name}")).text
    return next(line for line in described.splitlines() if "Sandbox:" in line)


async def test_what_can_never_run_is_told_at_once(stack: Stack) -> None:
    answer = await stack.apply(worker_yaml("foreign", image="example.org/somebody/else:1"), timeout_s=60)

    assert "only the native agent runs" in answer.text
    await stack.command("!delete worker/foreign --yes")


async def test_a_changed_prompt_takes_effect_without_a_new_sandbox(stack: Stack) -> None:
    room = await stack.worker("changing", soul="Be red.")
    before = await _sandbox(stack, "changing")

    assert "changed `worker/changing` — ready" in (await stack.apply(worker_yaml("changing", soul="Be blue."))).text
    await stack.op.answer_to(await stack.ask(room, "changing", "which colour?"), "You said")

    call = next(call for call in reversed(stack.provider.calls) if "which colour?" in call.prompt)
    assert "Be blue." in json.dumps(call.body["messages"])
    assert await _sandbox(stack, "changing") == before


async def test_a_mention_wakes_a_sleeping_agent_and_a_stopped_one_says_so(stack: Stack) -> None:
    room = await stack.worker("sleeper", state="Sleeping")
    assert "asleep" in (await stack.apply(worker_yaml("sleeper", state="Sleeping", soul="x"))).text

    answer = await stack.op.answer_to(await stack.ask(room, "sleeper", "wake up"), "wake up")
    assert answer.text.startswith("You said")

    await stack.apply(worker_yaml("sleeper", state="Stopped"))
    refused = await stack.op.answer_to(await stack.ask(room, "sleeper", "and now?"))
    assert "stopped, as declared" in refused.text
    assert "its token was revoked" in (await stack.command("!describe worker/sleeper")).text
    await stack.worker("sleeper", state="Running")
    await stack.op.answer_to(await stack.ask(room, "sleeper", "and now?"), "You said")


async def test_describe_tells_conditions_turns_and_usage(stack: Stack) -> None:
    room = await stack.worker("described")
    await stack.op.answer_to(await stack.ask(room, "described", "count me"), "You said")

    async def text() -> str:
        return (await stack.command("!describe worker/described")).text

    async with asyncio.timeout(60):  # a turn ends after its answer, and usage is counted beside it
        while "gpt-test: 1 call, 0 failed" not in (found := await text()) or "- done after" not in found:
            await asyncio.sleep(0.1)
    for name in ("MatrixUser", "Room", "Storage", "Workspace", "Consumer", "Sandbox"):
        assert f"- **ok** {name}: " in found
    assert "gpt-test: 1 call, 0 failed" in found
    assert re.search(r"- done after \d+\.\d s, asked by @op at ", found)


async def test_a_deleted_worker_leaves_nothing(stack: Stack) -> None:
    room = await stack.worker("leaver")
    door = [path for path in (stack.data_dir / "agents").iterdir() if path.name == "leaver"]
    assert door
    assert await stack.files("agents/leaver/")

    answer = await stack.command("!delete worker/leaver --yes")

    assert "Deleted `worker/leaver`" in answer.text
    assert await stack.files("agents/leaver/") == {}
    assert not door[0].exists()
    await stack.op.until(
        lambda: any(e["type"] == "m.room.tombstone" and e["room_id"] == room for e in stack.op.events), "the tombstone"
    )
    assert "There is no worker called `leaver`" in (await stack.command("!get worker leaver")).text
    members = (await stack.op.call("GET", f"rooms/{room}/joined_members"))["joined"]
    assert set(members) == {stack.op.user}
    again = await stack.worker("leaver")
    assert again != room


async def test_twenty_mentions_at_once_are_each_answered_once(stack: Stack) -> None:
    room = await stack.worker("crowded")

    questions = await asyncio.gather(*(stack.ask(room, "crowded", f"number {n} please") for n in range(20)))

    for n, question in enumerate(questions):
        await stack.op.answer_to(question, f"number {n} please")
        assert len(stack.op.answers(question)) == 1
