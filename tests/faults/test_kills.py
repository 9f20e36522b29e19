"""kill -9, stopped processes and parts that are away: every question answered once, every apply done, nothing left."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from functools import partial

import pytest

from tests.support import faults
from tests.support.children import runs
from tests.support.faults import Storm
from tests.support.person import Message
from tests.support.provider import Say
from tests.support.stack import Stack, opened, worker_yaml

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
async def shaken() -> AsyncIterator[Stack]:
    """A stack of our own, because its parts die."""
    async with opened(OPSROOM_AGENTS__SILENT_S="15") as stack:
        yield stack


async def settled(stack: Stack, question: str, words: str) -> list[Message]:
    """All answers to a question once one has these words and nothing is open any more."""
    await stack.op.answer_to(question, words, faults.PATIENCE_S)
    await faults.all_done(stack)
    await stack.command("!version", faults.PATIENCE_S)
    return stack.op.answers(question)


# -- streams of work ----------------------------------------------------------------------------------------------


async def calm(storm: Storm) -> None:
    assert storm.wrong_answers() == []
    assert storm.wrong_applies() == []
    assert faults.dead_letters(storm.stack) == 0
    assert faults.twice(storm.stack) == []
    assert await faults.traces(storm.stack) == faults.expected(storm.stack, storm.workers)
    await faults.delete_all(storm.stack, storm.workers)
    assert await faults.traces(storm.stack) == faults.expected(storm.stack, [])


async def test_a_control_plane_that_is_killed_again_and_again_loses_and_repeats_nothing(shaken: Stack) -> None:
    storm = await Storm.prepare(shaken, seed=11, agents=("north", "south"))
    await storm.run(mentions=15, applies=4, kills=["control_plane"] * 6)
    await calm(storm)


async def test_a_homeserver_that_is_killed_with_events_in_flight_loses_none_of_them(shaken: Stack) -> None:
    storm = await Storm.prepare(shaken, seed=12, agents=("east", "west"))
    await storm.run(mentions=10, applies=2, kills=["homeserver"] * 2, gap_s=(1.0, 4.0))
    await calm(storm)


async def test_both_sides_killed_at_once_loses_nothing(shaken: Stack) -> None:
    storm = await Storm.prepare(shaken, seed=13, agents=("up", "down"))
    await storm.run(mentions=8, applies=2, kills=["control_plane", "homeserver", "control_plane"], gap_s=(0.3, 1.0))
    await calm(storm)


async def test_a_storage_that_is_killed_during_applies_heals_by_itself(shaken: Stack) -> None:
    storm = await Storm.prepare(shaken, seed=14, agents=("left", "right"))
    await storm.run(mentions=6, applies=4, kills=["storage"] * 2, gap_s=(0.5, 2.0))
    await calm(storm)


# -- one part at a time -------------------------------------------------------------------------------------------


async def test_an_answer_that_a_killed_gateway_cuts_is_begun_again_in_the_same_message(shaken: Stack) -> None:
    room = await shaken.worker("gated")
    shaken.provider.when("through the gateway", Say(words=40, delay=0.1))
    question = await shaken.ask(room, "gated", "through the gateway")
    await shaken.op.answer_to(question, "word2")

    await faults.replaced(shaken, "gateway", await faults.kill(shaken, "gateway"))

    [answer] = await settled(shaken, question, "word40")
    assert answer.text.split() == [f"word{n}" for n in range(1, 41)]
    await shaken.op.answer_to(await shaken.ask(room, "gated", "and now?"), "and now?")


async def test_a_question_asked_while_the_gateway_is_away_is_never_left_in_silence(shaken: Stack) -> None:
    room = await shaken.worker("patient")
    old = await faults.kill(shaken, "gateway")
    question = await shaken.ask(room, "patient", "anybody there?")
    await faults.replaced(shaken, "gateway", old)

    [answer] = await settled(shaken, question, "")
    assert "You said" in answer.text or "model" in answer.text, answer.text


async def test_a_killed_agent_is_back_and_gets_its_turn_once_more_marked_as_a_retry(shaken: Stack) -> None:
    room = await shaken.worker("mortal")
    shaken.provider.when("long life", Say(words=40, delay=0.1, hold_after=20), Say("second life"))
    question = await shaken.ask(room, "mortal", "long life")
    await shaken.op.answer_to(question, "word2")

    faults.hit(shaken, "mortal", signal.SIGKILL)

    [answer] = await settled(shaken, question, "second life")
    assert answer.text == "second life"
    calls = [call for call in shaken.provider.calls if "long life" in call.prompt]
    assert len(calls) == 2
    assert faults.attempts(shaken, question) == 2


async def test_an_agent_killed_twice_over_one_question_says_so_and_goes_on(shaken: Stack) -> None:
    room = await shaken.worker("unlucky")
    shaken.provider.when("deadly", Say(words=60, delay=0.1))

    def asked(times: int) -> bool:
        return sum("deadly" in call.prompt and call.words > 1 for call in shaken.provider.calls) == times

    question = await shaken.ask(room, "unlucky", "deadly")
    for call in (1, 2):
        await shaken.provider.until(partial(asked, call), timeout=60)
        faults.hit(shaken, "unlucky", signal.SIGKILL)

    [answer] = await settled(shaken, question, "broke off twice")
    assert "!logs unlucky" in answer.text
    await shaken.op.answer_to(await shaken.ask(room, "unlucky", "better now?"), "You said", faults.PATIENCE_S)


async def test_an_agent_that_dies_at_every_start_is_let_be_for_a_while_until_somebody_asks_it(shaken: Stack) -> None:
    room = await shaken.worker("brittle")

    async def die() -> None:
        while True:
            faults.hit(shaken, "brittle", signal.SIGKILL)
            await asyncio.sleep(0.01)

    dying = asyncio.create_task(die())
    try:
        async with asyncio.timeout(faults.PATIENCE_S):
            while (
                "Tried 4 times in a row without success; the next try is in"
                not in (await shaken.command("!describe worker/brittle")).text
            ):
                pass
    finally:
        dying.cancel()

    await shaken.op.answer_to(await shaken.ask(room, "brittle", "and now?"), "You said", faults.PATIENCE_S)


async def known_to_be_up(stack: Stack, name: str) -> None:
    """Until the status tells of the sandbox that runs: it can answer before the pass that started it has ended."""
    runs_now = faults.sandbox_of(stack, name).launcher()
    assert runs_now is not None
    async with asyncio.timeout(faults.PATIENCE_S):
        while f"- Sandbox: {runs_now.pid}" not in (await stack.command(f"!describe worker/{name}")).text:
            pass


async def test_an_agent_that_dies_again_after_it_was_ready_rests_until_somebody_asks_it(shaken: Stack) -> None:
    room = await shaken.worker("fickle")
    for _ in range(2):
        await shaken.op.answer_to(await shaken.ask(room, "fickle", "are you up?"), "You said", faults.PATIENCE_S)
        await faults.all_done(shaken)
        await known_to_be_up(shaken, "fickle")
        first, *_ = faults.agent_pids(shaken, "fickle")
        os.kill(first, signal.SIGKILL)
        await faults.until(lambda pid=first: not runs(pid), "the end of the sandbox")

    async with asyncio.timeout(faults.PATIENCE_S):
        while "died 2 times in a row" not in (told := (await shaken.command("!describe worker/fickle")).text):
            pass
    assert "a mention starts it at once" in told
    await shaken.op.answer_to(await shaken.ask(room, "fickle", "and now?"), "You said", faults.PATIENCE_S)


async def test_an_agent_that_hangs_is_started_again_and_gets_its_turn_once_more(shaken: Stack) -> None:
    room = await shaken.worker("hung")
    shaken.provider.when("hang", Say(words=40, delay=0.1, hold_after=20), Say("second life"))
    question = await shaken.ask(room, "hung", "hang")
    await shaken.op.answer_to(question, "word2")

    faults.hit(shaken, "hung", signal.SIGSTOP)

    assert [answer.text for answer in await settled(shaken, question, "second life")] == ["second life"]
    assert faults.attempts(shaken, question) == 2


async def test_an_agent_that_is_stopped_in_its_tracks_can_be_ended_and_answers_when_it_goes_on(shaken: Stack) -> None:
    room = await shaken.worker("frozen")
    shaken.provider.when("freeze", Say(words=30, delay=0.1, hold_after=20))
    first = await shaken.ask(room, "frozen", "freeze")
    await shaken.op.answer_to(first, "word2")
    pids = faults.agent_pids(shaken, "frozen")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        growing = shaken.op.answers(first)[0]
        await shaken.op.react(room, growing.id, "🛑")
        await shaken.op.until(lambda: "Stopped by @op" in growing.text, "the end of the turn")
        second = await shaken.ask(room, "frozen", "are you back?")
        assert "Restarted" in (answer := await shaken.command("!restart frozen", 150)).text or "ready" in answer.text
    finally:
        for pid in pids:
            if runs(pid):
                os.kill(pid, signal.SIGCONT)
    assert [m.text for m in await settled(shaken, second, "You said")] == ["You said: agent-frozen are you back?"]
    assert len(shaken.op.answers(first)) == 1


async def test_answers_given_while_the_homeserver_is_away_arrive_once_it_is_back(shaken: Stack) -> None:
    room = await shaken.worker("waiting")
    shaken.provider.when("meanwhile", Say("said in the meantime", first=1.5))
    question = await shaken.ask(room, "waiting", "meanwhile")
    await shaken.provider.until(lambda: any("meanwhile" in call.prompt for call in shaken.provider.calls))
    pid = faults.pid_of(shaken, "homeserver")

    os.kill(pid, signal.SIGSTOP)  # it takes connections and says nothing: the worst way to be away
    try:
        await shaken.provider.until(
            lambda: any("meanwhile" in call.prompt and call.ended == "whole" for call in shaken.provider.calls)
        )
        await asyncio.sleep(0)
        await faults.kill(shaken, "homeserver")
    finally:
        if runs(pid):
            os.kill(pid, signal.SIGCONT)
    await faults.replaced(shaken, "homeserver", pid)

    assert [m.text for m in await settled(shaken, question, "said in")] == ["said in the meantime"]


async def test_a_storage_that_is_away_is_named_in_the_condition_and_the_apply_ends_by_itself(shaken: Stack) -> None:
    pid = faults.pid_of(shaken, "storage")
    os.kill(pid, signal.SIGSTOP)
    try:
        event = await shaken.op.upload(shaken.ops_room, "stored.yaml", worker_yaml("stored").encode())
        await shaken.op.until(
            lambda: any("torage" in message.text for message in shaken.op.answers(event)), "a word about storage", 100
        )
        assert "torage" in (await shaken.command("!describe worker/stored", 100)).text
    finally:
        os.kill(pid, signal.SIGCONT)

    answer = await shaken.op.ended(event, 150)
    assert "created `worker/stored` — ready" in answer.text
    assert len(shaken.op.answers(event)) == 1
