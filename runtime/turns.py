"""Turns in order within a context, side by side across contexts, each from question to stored result."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from runtime.failures import Failure
from runtime.process import Brain
from runtime.protocol import End, Save, Text, Turn
from runtime.workspace import Workspace

READY_WITHIN_S = 60.0
AFTER_CANCEL_S = 3.0  # for remembering and storing what a stopped turn had done
MAX_ANSWER = 400_000

log = logging.getLogger("runtime.turns")


class Outlet(Protocol):
    """Where the parts of an answer go."""

    async def working(self) -> None: ...

    async def text(self, text: str) -> None: ...

    async def completed(self, end: End) -> None: ...

    async def failed(self, end: End) -> None: ...


@dataclass(slots=True, kw_only=True)
class Running:
    """One turn on its way. `canceled`: nobody listens any more, its outlet must not be used."""

    turn: Turn
    attempt: int
    revision: str
    outlet: Outlet
    canceled: bool = False
    started: float = field(default_factory=time.monotonic)
    first_text: float = 0.0
    length: int = 0


class Turns:
    """Owns every turn's task; what a client does with its stream does not touch them."""

    def __init__(self, brain: Brain, workspace: Workspace, ready: Callable[[], Awaitable[None]]) -> None:
        self._brain = brain
        self._workspace = workspace
        self._ready = ready
        self._contexts: dict[str, list[asyncio.Lock]] = {}
        self._running: dict[str, Running] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self, running: Running) -> None:
        """Run to the end. Being cancelled here does not cancel the turn: `cancel` does."""
        task = asyncio.create_task(self._run(running))
        self._running[running.turn.id] = running
        self._tasks[running.turn.id] = task
        task.add_done_callback(lambda done: self._forget(running.turn.id, done))
        await asyncio.shield(task)

    def cancel(self, turn: str) -> None:
        """Stop a turn; what it said so far is remembered."""
        running = self._running.get(turn)
        if running is not None and not running.canceled:
            running.canceled = True
            self._brain.cancel(turn)
            asyncio.get_running_loop().call_later(AFTER_CANCEL_S, self._give_up, turn)

    async def close(self) -> None:
        """Stop all turns and wait for them, a few seconds at most."""
        tasks = list(self._tasks.values())
        for turn in list(self._tasks):
            self.cancel(turn)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, turn: str, done: asyncio.Task[None]) -> None:
        del self._running[turn]
        del self._tasks[turn]
        error = None if done.cancelled() else done.exception()
        if error is not None:  # the name only: the text may quote the conversation
            log.error("a turn failed: %s", type(error).__name__)

    def _give_up(self, turn: str) -> None:
        if turn in self._tasks:
            self._tasks[turn].cancel()

    async def _run(self, running: Running) -> None:
        end = End(code="canceled")
        async with self._in_order(running.turn.context):
            if not running.canceled:
                await running.outlet.working()
                end = await self._attempt(running)
                warning = await self._save()
                await self._report(running, end, warning)
        _log(running, end)

    @asynccontextmanager
    async def _in_order(self, context: str) -> AsyncIterator[None]:
        """One turn of a context after the other, first come first served."""
        mine = asyncio.Lock()
        await mine.acquire()
        queue = self._contexts.setdefault(context, [])
        before = queue[-1] if queue else None
        queue.append(mine)
        try:
            if before is not None:
                async with before:
                    pass
            yield
        finally:
            mine.release()
            queue.remove(mine)
            if not queue:
                del self._contexts[context]

    async def _attempt(self, running: Running) -> End:
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await self._ready()
            if running.revision and running.revision != self._workspace.revision():
                await self._workspace.pull()
            return await self._think(running)
        except TimeoutError:
            return End(code="error", sentence="My workspace could not be loaded; please ask again.", retry=True)
        except Failure as failure:
            return End(code=failure.code, sentence=failure.sentence, retry=failure.retry)

    async def _think(self, running: Running) -> End:
        turn = running.turn
        await self._brain.warm()
        if running.canceled:
            return End(code="canceled")
        async with aclosing(self._brain.run(turn)) as messages:
            async for message in messages:
                if isinstance(message, Text):
                    await self._say(running, message.text)
                elif isinstance(message, Save):
                    self._brain.saved(turn.id, await self._save())
                else:
                    return message.end
        return End(code="error", sentence="I was cut off in the middle of this answer; please ask again.", retry=True)

    async def _say(self, running: Running, text: str) -> None:
        if running.canceled:
            return
        running.first_text = running.first_text or time.monotonic()
        room = MAX_ANSWER - running.length
        running.length += len(text)
        if room > 0:
            await running.outlet.text(text[:room])

    async def _save(self) -> str:
        """Push; a failure becomes a sentence, because what was said stays said and the next push tries again."""
        try:
            await self._workspace.push()
        except Failure as failure:
            log.warning("files were not stored: %s", failure.sentence)
            told = "My files are not saved yet" if failure.retry else "Not all my files are saved"
            return f"{told}: {failure.sentence}"
        return ""

    async def _report(self, running: Running, end: End, warning: str) -> None:
        if running.canceled or end.code == "canceled":
            return
        if end.code:
            await running.outlet.failed(end)
            return
        if warning:
            await self._say(running, f"\n\n_{warning}_")
        await running.outlet.completed(end)


def _log(running: Running, end: End) -> None:
    now = time.monotonic()
    first = round((running.first_text - running.started) * 1000) if running.first_text else None
    fields = {
        "event": "turn",
        "turn": running.turn.id,
        "attempt": running.attempt,
        "context": running.turn.context,
        "outcome": "canceled" if running.canceled else end.code or "completed",
        "ms": round((now - running.started) * 1000),
        "first_ms": first,
        "characters": running.length,
        "tokens_in": end.tokens_in,
        "tokens_out": end.tokens_out,
    }
    print(json.dumps(fields), flush=True)
