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
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from time import time
from typing import Any

import structlog

from appservice.conversations import answer
from appservice.conversations.asking import Asking
from appservice.conversations.ending import NOBODY, Ending
from appservice.conversations.running import ATTEMPTS, Agents, Delivery, Outcome, Running, stopped, with_note
from appservice.conversations.typing import Typing
from appservice.errors import OpsroomError
from appservice.homeserver.client import Homeserver
from appservice.homeserver.dispatch import Effect
from appservice.homeserver.live import Live, Pace
from appservice.homeserver.sender import Sender
from appservice.store import turns
from appservice.store.database import Connection, Database
from appservice.store.turns import Turn

log = structlog.get_logger()


class Runner:
    """Owns a task for each conversation that has turns."""

    def __init__(
        self, *, store: Database, homeserver: Homeserver, sender: Sender, pace: Pace, agents: Agents, limit_s: float
    ) -> None:
        self._store = store
        self._homeserver = homeserver
        self._pace = pace
        self._agents = agents
        self._limit_s = limit_s
        self._ending = Ending(store, homeserver, sender)
        self._asking = Asking(store, agents, self._answered)
        self._typing = Typing(homeserver, agents.user, self._own)
        self._lanes: dict[tuple[str, str], deque[Turn]] = {}
        self._running: dict[str, Running] = {}
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
                    taken[turn.id] = await self._asking.take_up(db, turn, 1)

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
            async with self._typing.notice(turn):
                await self._run(running)
        except Exception:
            log.exception("turn broke")
            text = "Something broke on Opsroom's side while this was answered. Ask again."
            outcome = Outcome(state="failed", text=text, error="internal")
            await self._ending.say(running.turn, self._agents.user(turn.agent), outcome, event_id="", sent=True)

    async def _run(self, running: Running) -> None:
        begun = time()
        turn, user = running.turn, self._agents.user(running.turn.agent)
        async with Live(
            self._homeserver,
            self._pace,
            room_id=turn.room_id,
            sender=user,
            lane=answer.lane(turn),
            compose=lambda text: answer.compose(turn, answer.growing(text)),
            event_id=turn.answer_event,
            begun=turn.attempt > 0,
        ) as live:
            outcome = await self._race(running, live)
            event_id = await live.settle()
            shown = live.shown
        calls = await self._agents.calls(turn, outcome.text) if outcome.state == "done" else NOBODY
        if event_id and not calls.users and answer.complete(outcome.text, shown):
            await self._ending.close(turn, outcome, calls=calls)
        else:
            await self._ending.say(running.turn, user, outcome, event_id=event_id, sent=live.tried, calls=calls)
        log.info("turn ended", state=outcome.state, took_ms=round((time() - begun) * 1000))

    async def _race(self, running: Running, live: Live) -> Outcome:
        """The answer, or being stopped, or running out of time."""
        begun = time()
        if running.stop.is_set() and running.turn.state == "queued":
            return stopped(running, "before it began")
        work = asyncio.create_task(self._asking.run(running, live))
        stop = asyncio.create_task(running.stop.wait())
        try:
            await asyncio.wait({work, stop}, timeout=self._limit_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            await self._asking.cancel(running)
        finally:
            for task in (work, stop):
                task.cancel()
            await asyncio.gather(work, stop, return_exceptions=True)
        if running.stop.is_set():
            return stopped(running, f"after {time() - begun:.0f} s")
        note = f"Ended after {self._limit_s:.0f} s, the longest a turn may take."
        return Outcome(state="failed", text=with_note(running.text, note), error="time limit")

    def _answered(self, turn: Turn, event_id: str) -> None:
        self._own(self._ending.note(turn, event_id), "note answer")

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _lane(turn: Turn) -> tuple[str, str]:
    return turn.agent, turn.context
