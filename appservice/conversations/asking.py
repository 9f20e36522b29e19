"""Ask an agent one turn's question: deliver it, follow its answer, deliver it again when the agent is lost."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

import structlog

from appservice.conversations.running import Agents, Delivery, Outcome, Running, outcome_of, with_note
from appservice.errors import OpsroomError
from appservice.homeserver.live import Live
from appservice.runtimes.a2a import AgentLost, Question
from appservice.runtimes.wire import Update
from appservice.store import turns
from appservice.store.database import Connection, Database
from appservice.store.turns import Turn

DELIVERIES = 10  # with those that did not arrive
CANCEL_S = 2.0
REPEAT_AFTER_S = 2.0

log = structlog.get_logger()


class Asking:
    """`answered` is told the first message's id once there is one, and must not wait."""

    def __init__(self, store: Database, agents: Agents, answered: Callable[[Turn, str], None]) -> None:
        self._store = store
        self._agents = agents
        self._answered = answered

    async def run(self, running: Running, live: Live) -> Outcome:
        """Deliver until there is an outcome; a lost agent gets the question once more."""
        if running.turn.state == "working":
            found = await self._taken_up(running, live)
            if found is not None:
                return found
        for _ in range(DELIVERIES):
            if running.heard and running.turn.attempt >= running.attempts:
                break
            try:
                outcome = await self._deliver(running, live)
            except AgentLost:
                running.lost = True
                log.warning("agent lost", attempt=running.turn.attempt, heard=running.heard)
                continue
            if not outcome.again or running.turn.attempt >= running.attempts:
                return outcome
            log.warning("turn repeated", attempt=running.turn.attempt, error=outcome.error)
            await asyncio.sleep(REPEAT_AFTER_S)
        name = running.turn.agent
        text = (
            f"{name} broke off twice over this question. See why with `!logs {name}` in the ops room, then ask again."
        )
        return Outcome(state="failed", text=with_note(running.text, text), error="agent lost")

    async def _deliver(self, running: Running, live: Live) -> Outcome:
        agent, attempt = running.turn.agent, running.turn.attempt + running.heard
        taken, running.taken = running.taken, None
        if taken is None:
            try:
                if running.lost or not self._agents.awake(agent):
                    await self._agents.wake(agent)
                # Not durable: what a power cut takes back is delivered as if for the first time, and to a new agent.
                taken = await self._store.write(lambda db: self.take_up(db, running.turn, attempt), durable=False)
            except OpsroomError as error:
                return Outcome(state="failed", text=f"{agent} cannot answer now: {error}", error=error.code)
        if taken is None:
            return Outcome(state="stopped", text="")
        running.turn = turn = taken.turn
        running.text, running.heard = "", False
        question = Question(
            message_id=f"{turn.id}.{attempt}",
            context_id=turn.context,
            text=turn.question,
            facts={
                "org.opsroom.turn": turn.id,
                "org.opsroom.attempt": attempt,
                "org.opsroom.retry": attempt > 1,
                **taken.facts,
            },
        )
        return await self._follow(running, live, self._agents.door(turn.agent).ask(question))

    async def take_up(self, db: Connection, turn: Turn, attempt: int) -> Delivery | None:
        """None when it was stopped meanwhile. Raises OpsroomError when its agent may not run."""
        facts = await self._agents.brief(db, turn)
        taken = await turns.deliver(db, turn.id, attempt)
        return Delivery(turn=taken, facts=facts) if taken else None

    async def _taken_up(self, running: Running, live: Live) -> Outcome | None:
        """After a restart of the control plane: go on with the task the agent has, if it has it."""
        turn = running.turn
        agent = self._agents.door(turn.agent)
        try:
            await self._agents.wake(turn.agent)
            for _ in range(2):  # it may end between being found and being followed
                found = await agent.find(turn.context, f"{turn.id}.{turn.attempt}")
                if found is None:
                    return None
                if found.state:
                    running.text = found.text
                    return outcome_of(running, found)
                with suppress(AgentLost):
                    return await self._follow(running, live, agent.follow(found.task_id))
        except OpsroomError:
            log.warning("turn not taken up")
        return None

    async def _follow(self, running: Running, live: Live, updates: AsyncGenerator[Update]) -> Outcome:
        known = False
        async with aclosing(updates):
            async for update in updates:
                running.heard = True
                running.task_id = update.task_id or running.task_id
                if update.text or update.whole:
                    running.text = update.text if update.whole else running.text + update.text
                    live.show(running.text)
                if live.event_id and not known:
                    known = True
                    self._answered(running.turn, live.event_id)
                if update.state:
                    return outcome_of(running, update)
        raise AgentLost("the agent ended its answer without saying how")

    async def cancel(self, running: Running) -> None:
        if not running.task_id:
            return
        with suppress(OpsroomError, TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await self._agents.door(running.turn.agent).cancel(running.task_id)
