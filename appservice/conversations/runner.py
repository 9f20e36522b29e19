"""Run turns: deliver the question, stream the answer, end it once; in order within a conversation, conversations
side by side.

    queued -> awake? -> taken up (attempt n) -> stream into one message -> end + last edit in one unit -> sent

What may break, and what then happens:
    control plane dies    the row is still open: the agent's task is found again and followed, or delivered again
    agent dies            delivered again once, marked as a retry; a second loss is told to the asker
    Docker Engine dies    as if it were the first loss, each time
    homeserver away       edits in between are lost, the last one waits in the outbox
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import time
from typing import Any

import structlog

from appservice.conversations import answer
from appservice.errors import OpsroomError
from appservice.homeserver import content
from appservice.homeserver.client import ERRORS, Homeserver
from appservice.homeserver.dispatch import Effect
from appservice.homeserver.live import Live, Pace
from appservice.homeserver.patience import outlast
from appservice.homeserver.sender import Sender
from appservice.runtimes.a2a import Agent, AgentLost, Question
from appservice.runtimes.wire import Update
from appservice.store import turns
from appservice.store.database import Connection, Database
from appservice.store.outbox import Outgoing
from appservice.store.turns import Turn, TurnState

ATTEMPTS = 2
DELIVERIES = 10  # with those that did not arrive
TYPING_AFTER_S = 0.01  # the question goes first
TYPING_EVERY_S = 20.0
CANCEL_S = 2.0
REPEAT_AFTER_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A turn that was taken up, as it reads now: it may have been edited while it waited. `facts`: what its agent is
    told beside the question."""

    turn: Turn
    facts: Mapping[str, object]


@dataclass(slots=True)
class Running:
    """A turn while it waits or runs. `stop` is set with the name of who stopped it; `quiet`: with nothing to say, if
    nothing was said yet."""

    turn: Turn
    taken: Delivery | None = None  # and not yet delivered
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    stopped_by: str = ""
    quiet: bool = False
    task_id: str = ""
    text: str = ""
    lost: bool = False  # the agent broke off: whether it is there again must be asked, not assumed
    heard: bool = True  # the agent has taken the last delivery; one that it has not does not count
    attempts: int = ATTEMPTS  # it may have


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    state: TurnState
    text: str
    error: str = ""
    again: bool = False  # the same question may succeed soon


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """What the runner needs to know of agents: `door` to one, `user` it speaks as, whether it is `awake` as far as is
    known (asking it would cost each turn a round trip), `wake` it, and the `brief` for a turn, read in a unit; the last
    two raise OpsroomError with the reason when it may not run or does not come up."""

    door: Callable[[str], Agent]
    user: Callable[[str], str]
    awake: Callable[[str], bool]
    wake: Callable[[str], Awaitable[None]]
    brief: Callable[[Connection, Turn], Awaitable[Mapping[str, object]]]


class Runner:
    """Owns a task for each conversation that has turns."""

    def __init__(
        self, *, store: Database, homeserver: Homeserver, sender: Sender, pace: Pace, agents: Agents, limit_s: float
    ) -> None:
        self._store = store
        self._homeserver = homeserver
        self._sender = sender
        self._pace = pace
        self._agents = agents
        self._limit_s = limit_s
        self._lanes: dict[tuple[str, str], deque[Turn]] = {}
        self._running: dict[str, Running] = {}
        self._typing: dict[tuple[str, str], int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- doors --------------------------------------------------------------------------------------------------

    def accept(self, new: Sequence[Turn]) -> Effect:
        """Store turns and run them. Those that can begin are taken up in the same unit: each unit is a wait."""
        ready = [turn for turn in new if _lane(turn) not in self._lanes and self._agents.awake(turn.agent)]
        taken: dict[str, Delivery | None] = {}

        async def write(db: Connection) -> None:
            for turn in new:
                await turns.add(db, turn)
            for turn in ready:
                with suppress(OpsroomError):  # it is told when the turn is delivered
                    taken[turn.id] = await self._take_up(db, turn, 1)

        def after() -> None:
            for turn in new:
                self.enqueue(turn, taken.get(turn.id))

        return Effect(write=write, after=after)

    def enqueue(self, turn: Turn, taken: Delivery | None = None) -> None:
        """Run a stored turn after those before it in its conversation. One that is here already is not doubled."""
        if turn.id in self._running:
            return
        self._running[turn.id] = Running(turn=turn, taken=taken)
        lane = _lane(turn)
        if lane in self._lanes:
            self._lanes[lane].append(turn)
            return
        self._lanes[lane] = deque([turn])
        self._own(self._drain(lane), f"turns of {turn.agent}")

    def stop(self, turn_id: str, by: str, *, quiet: bool = False) -> None:
        """End a turn, whether it waits or runs. `quiet`: the question itself is gone."""
        if (running := self._running.get(turn_id)) is not None:
            running.stopped_by = by
            running.quiet = quiet
            running.stop.set()

    def excuse(self) -> None:
        """Whatever runs agents was away: agents that it took with it are not held against their turns."""
        for running in self._running.values():
            running.attempts = running.turn.attempt + ATTEMPTS

    async def resume(self) -> int:
        """Take up what an earlier run left; how many turns."""
        left = await turns.open_turns(self._store)
        for turn in left:
            self.enqueue(turn)
        return len(left)

    async def close(self) -> None:
        """Let go. Agents work on; their turns are taken up at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- one conversation ---------------------------------------------------------------------------------------

    async def _drain(self, lane: tuple[str, str]) -> None:
        queue = self._lanes[lane]
        try:
            while queue:
                turn = queue[0]
                with structlog.contextvars.bound_contextvars(turn_id=turn.id, agent=turn.agent, event_id=turn.event_id):
                    await self._guarded(turn)
                self._running.pop(turn.id, None)
                queue.popleft()
        finally:
            del self._lanes[lane]

    async def _guarded(self, turn: Turn) -> None:
        running = self._running[turn.id]
        try:
            async with self._typing_notice(turn):
                await self._run(running)
        except Exception:
            log.exception("turn broke")
            text = "Something broke on Opsroom's side while this was answered. Ask again."
            await self._end(running, Outcome(state="failed", text=text, error="internal"), event_id="", sent=True)

    async def _run(self, running: Running) -> None:
        begun = time()
        turn = running.turn
        async with Live(
            self._homeserver,
            self._pace,
            room_id=turn.room_id,
            sender=self._agents.user(turn.agent),
            lane=answer.lane(turn),
            compose=lambda text: answer.compose(turn, answer.growing(text)),
            event_id=turn.answer_event,
            begun=turn.attempt > 0,
        ) as live:
            outcome = await self._race(running, live)
            event_id = await live.settle()
            shown = live.shown
        if event_id and answer.complete(outcome.text, shown):
            await self._close(running, outcome, [])
        else:
            await self._end(running, outcome, event_id=event_id, sent=live.tried)
        log.info("turn ended", state=outcome.state, took_ms=round((time() - begun) * 1000))

    async def _race(self, running: Running, live: Live) -> Outcome:
        """The answer, or being stopped, or running out of time."""
        begun = time()
        if running.stop.is_set() and running.turn.state == "queued":
            return _stopped(running, "before it began")
        work = asyncio.create_task(self._attempts(running, live))
        stop = asyncio.create_task(running.stop.wait())
        try:
            await asyncio.wait({work, stop}, timeout=self._limit_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            await self._cancel(running)
        finally:
            for task in (work, stop):
                task.cancel()
            await asyncio.gather(work, stop, return_exceptions=True)
        if running.stop.is_set():
            return _stopped(running, f"after {time() - begun:.0f} s")
        note = f"Ended after {self._limit_s:.0f} s, the longest a turn may take."
        return Outcome(state="failed", text=_with_note(running.text, note), error="time limit")

    async def _cancel(self, running: Running) -> None:
        if not running.task_id:
            return
        with suppress(OpsroomError, TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await self._agents.door(running.turn.agent).cancel(running.task_id)

    # -- one answer ---------------------------------------------------------------------------------------------

    async def _attempts(self, running: Running, live: Live) -> Outcome:
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
        return Outcome(state="failed", text=_with_note(running.text, text), error="agent lost")

    async def _deliver(self, running: Running, live: Live) -> Outcome:
        agent, attempt = running.turn.agent, running.turn.attempt + running.heard
        taken, running.taken = running.taken, None
        if taken is None:
            try:
                if running.lost or not self._agents.awake(agent):
                    await self._agents.wake(agent)
                # Not durable: what a power cut takes back is delivered as if for the first time, and to a new agent.
                taken = await self._store.write(lambda db: self._take_up(db, running.turn, attempt), durable=False)
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

    async def _take_up(self, db: Connection, turn: Turn, attempt: int) -> Delivery | None:
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
                    return _outcome(running, found)
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
                    self._own(self._note_answer(running.turn.id, live.event_id), "note answer")
                if update.state:
                    return _outcome(running, update)
        raise AgentLost("the agent ended its answer without saying how")

    async def _note_answer(self, turn_id: str, event_id: str) -> None:
        """So that a reaction on the answer finds its turn."""
        await self._store.write(lambda db: turns.set_answer(db, turn_id, event_id))

    # -- the end ------------------------------------------------------------------------------------------------

    async def _end(self, running: Running, outcome: Outcome, *, event_id: str, sent: bool) -> None:
        """Send the last state of the answer. `sent`: a first message may be in the room though we lost its id."""
        turn = running.turn
        user = self._agents.user(turn.agent)
        if not outcome.text:
            await self._close(running, outcome, [])
            return
        parts = answer.shape(outcome.text)
        first = answer.compose(turn, parts.first)
        if sent and not event_id:
            event_id = await self._sender.send(answer.outgoing(turn, user, "0", first))
        items = [
            answer.outgoing(turn, user, f"{turn.attempt}final", content.edit(first, event_id))
            if event_id
            else answer.outgoing(turn, user, "0", first)
        ]
        items += [answer.outgoing(turn, user, f"p{n}", answer.compose(turn, text)) for n, text in enumerate(parts.rest)]
        if parts.file:
            items.append(await self._attach(turn, user, parts.file))
        if event_id and event_id != turn.answer_event:
            await self._note_answer(turn.id, event_id)
        await self._close(running, outcome, items)

    async def _attach(self, turn: Turn, user: str, data: bytes) -> Outgoing:
        name = f"answer-{turn.agent}.md"
        address = await outlast(
            lambda: self._homeserver.upload(data, name=name, mimetype="text/markdown", user=user), "store an answer"
        )
        body = content.attachment(name, address, len(data), mimetype="text/markdown", thread=turn.thread)
        return answer.outgoing(turn, user, "file", body)

    async def _close(self, running: Running, outcome: Outcome, items: list[Outgoing]) -> None:
        async def unit(db: Connection) -> bool:
            closed = await turns.end(db, running.turn.id, outcome.state, error=outcome.error, now=time())
            for item in items if closed else ():
                await self._sender.keep(db, item)
            return closed

        if await self._store.write(unit):
            for item in items:
                self._sender.soon(item)

    # -- typing -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _typing_notice(self, turn: Turn) -> AsyncIterator[None]:
        place = (turn.room_id, turn.agent)
        self._typing[place] = self._typing.get(place, 0) + 1
        task = asyncio.create_task(self._keep_typing(turn))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._typing[place] -= 1
            if not self._typing[place]:
                del self._typing[place]
                self._own(self._type(turn, typing=False), "typing ends")

    async def _keep_typing(self, turn: Turn) -> None:
        await asyncio.sleep(TYPING_AFTER_S)
        while True:
            await self._type(turn, typing=True)
            await asyncio.sleep(TYPING_EVERY_S)

    async def _type(self, turn: Turn, *, typing: bool) -> None:
        user = self._agents.user(turn.agent)
        try:
            await self._homeserver.typing(turn.room_id, user=user, typing=typing)
        except ERRORS as error:
            log.debug("typing lost", error=type(error).__name__)

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _lane(turn: Turn) -> tuple[str, str]:
    return turn.agent, turn.context


def _outcome(running: Running, update: Update) -> Outcome:
    """What the agent's last word means for the room."""
    if update.state == "done":
        return Outcome(state="done", text=running.text or "*(no answer)*")
    if update.state == "stopped":
        by = running.stopped_by or "the agent"
        return Outcome(state="stopped", text=_with_note(running.text, f"Stopped by {by}."))
    text = _with_note(running.text, update.error)
    return Outcome(state="failed", text=text, error=update.error, again=update.retry)


def _stopped(running: Running, when: str) -> Outcome:
    if running.quiet and not running.text:
        return Outcome(state="stopped", text="")
    return Outcome(state="stopped", text=_with_note(running.text, f"Stopped by {running.stopped_by} {when}."))


def _with_note(text: str, note: str) -> str:
    return f"{content.closed(text.rstrip())}\n\n*{note}*" if text.strip() else note
