"""The control plane's side of A2A, against the native agent as it ships."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from appservice.runtimes.a2a import Agent, AgentLost, Question
from appservice.runtimes.wire import Update
from tests.support.provider import Say
from tests.support.runtime import Bench


@pytest.fixture
async def agent(bench: Bench) -> AsyncIterator[Agent]:
    agent = Agent(bench.agent_dir / "a2a.sock", silent_s=9.0)
    yield agent
    await agent.close()


def question(turn: str, text: str = "hello") -> Question:
    facts = {"org.opsroom.turn": turn, "org.opsroom.attempt": 1}
    return Question(message_id=f"{turn}.1", context_id="!room|$thread", text=text, facts=facts)


async def last(agent: Agent, asked: Question) -> Update:
    *_, end = [update async for update in agent.ask(asked)]
    return end


async def test_a_task_that_ended_before_it_could_be_followed_is_found_with_its_whole_answer(
    bench: Bench, agent: Agent
) -> None:
    async with bench.agent():
        end = await last(agent, question("t1"))

        with pytest.raises(AgentLost):
            [update async for update in agent.follow(end.task_id)]
        found = await agent.find("!room|$thread", "t1.1")

        assert found is not None
        assert (found.state, found.text) == ("done", "You said: hello")


async def test_a_question_that_never_arrived_is_not_found(bench: Bench, agent: Agent) -> None:
    async with bench.agent():
        await last(agent, question("t2"))
        assert await agent.find("!room|$thread", "t3.1") is None
        assert await agent.find("!elsewhere|$thread", "t2.1") is None


async def test_a_question_that_arrives_twice_is_asked_once(bench: Bench, agent: Agent) -> None:
    async with bench.agent():
        await last(agent, question("t4", "only once"))
        with suppress(AgentLost):  # it has ended: there is nothing to follow, and `find` has its answer
            await last(agent, question("t4", "only once"))
        assert sum("only once" in call.prompt for call in bench.provider.calls) == 1


async def test_an_agent_that_hangs_in_the_middle_of_an_answer_is_lost(bench: Bench, agent: Agent) -> None:
    bench.provider.when("go on", Say(words=200, delay=0.05))
    async with bench.agent() as running:
        answer = agent.ask(question("t6", "go on"))
        assert any([update.text async for update in _until_text(answer)])
        os.kill(running.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(AgentLost):
                [update async for update in answer]
        finally:
            os.kill(running.process.pid, signal.SIGCONT)


async def _until_text(updates: AsyncIterator[Update]) -> AsyncIterator[Update]:
    async for update in updates:
        yield update
        if update.text:
            return


async def test_a_slow_answer_of_an_agent_that_is_there_is_waited_for(bench: Bench, agent: Agent) -> None:
    bench.provider.when("slowly", Say("at last", first=20))
    async with bench.agent():
        end = await last(agent, question("t7", "slowly"))
    assert end.state == "done"


async def test_no_agent_at_the_socket_is_a_lost_one(bench: Bench, agent: Agent) -> None:
    assert await agent.ready() is None
    with pytest.raises(AgentLost):
        await last(agent, question("t5"))
