"""Keeps components running: start side by side, restart with a growing delay, stop in order, give up in a sentence."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from time import monotonic

from appservice.embedded.child import Child, Component, spawn
from appservice.errors import Unavailable

_LOOK_AT_LOGS_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to try again and when to give up. A component that was ready comes back after `first_s`; one that cannot
    become ready waits twice as long each time. Logs above `log_bytes` are cut, the older part goes to NAME.log.1."""

    first_s: float = 0.1
    longest_s: float = 5.0
    failed_starts: int = 4
    failed_restarts: int = 12  # in a row, of one that has run: what stopped it may well pass
    deaths: int = 60
    within_s: float = 600.0
    log_bytes: int = 10 * 2**20


@dataclass(slots=True)
class _Kept:
    component: Component
    child: Child | None = None
    task: asyncio.Task[None] | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    was_ready: bool = False
    failed_starts: int = 0
    deaths: deque[float] = field(default_factory=deque)


class Supervisor:
    """Owns the children it started. `say` gets a line for people; `changed` is called when a process id changed."""

    def __init__(
        self,
        logs: Path,
        *,
        say: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
        limits: Limits | None = None,
    ) -> None:
        self._logs = logs
        self._say = say
        self._changed = changed
        self._limits = limits or Limits()
        self._kept: dict[str, _Kept] = {}
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._trimmer = asyncio.create_task(self._trim_logs())

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of what runs now, by component."""
        return {name: one.child.pid for name, one in self._kept.items() if one.child and one.child.alive}

    async def start(self, components: Iterable[Component]) -> None:
        """Start components, those of one stage side by side; return when all are ready.

        Raises `Unavailable` when one of them dies for good first.
        """
        for _, stage in groupby(sorted(components, key=_stage), key=_stage):
            started = [self._begin(component) for component in stage]
            everyone = asyncio.create_task(_all_ready(started))
            over = asyncio.create_task(self.failed())
            try:
                await asyncio.wait({everyone, over}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                everyone.cancel()
                over.cancel()
            if self._over.done():
                raise Unavailable(self._over.result())

    async def failed(self) -> str:
        """Wait until a component has died for good; return the sentence that says so."""
        return await asyncio.shield(self._over)

    async def stop(self) -> None:
        """Stop everything, the highest stage first, those of one stage side by side."""
        self._trimmer.cancel()
        kept = sorted(self._kept.values(), key=lambda one: -one.component.stage)
        for _, stage in groupby(kept, key=lambda one: one.component.stage):
            await asyncio.gather(*(self._end(one) for one in stage))
        self._kept.clear()

    def kill(self) -> None:
        """End everything at once."""
        for one in self._kept.values():
            if one.task:
                one.task.cancel()
            if one.child:
                one.child.kill()

    def _begin(self, component: Component) -> _Kept:
        one = self._kept[component.name] = _Kept(component)
        one.task = asyncio.create_task(self._keep(one), name=f"keep {component.name}")
        one.task.add_done_callback(self._stopped_keeping)
        return one

    def _stopped_keeping(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._give_up(f"the supervisor failed: {type(error).__name__}: {error}")

    async def _end(self, one: _Kept) -> None:
        if one.task:
            one.task.cancel()
            await asyncio.gather(one.task, return_exceptions=True)
        if one.child:
            await one.child.stop()

    async def _keep(self, one: _Kept) -> None:
        """Run it again and again until it is time to give up."""
        while not self._over.done():
            try:
                reason = await self._run_once(one)
            except Unavailable as error:
                self._give_up(str(error))
                return
            if sentence := self._too_much(one, reason):
                self._give_up(sentence)
                return
            if one.was_ready:
                self._say(f"{one.component.name} ended ({reason}); starting it again.")
            await asyncio.sleep(self.delay(one.failed_starts))

    async def _run_once(self, one: _Kept) -> str:
        """From start to end of one process. Returns why it ended."""
        one.child = await spawn(one.component, self._log(one.component.name))
        self._changed()
        began = monotonic()
        if await self._ready(one, one.child):
            one.failed_starts = 0
            self._say(f"{one.component.name} {'is back' if one.was_ready else 'ready'}, {monotonic() - began:.1f} s")
            one.was_ready = True
            one.ready.set()
            await one.child.ended()
        else:
            one.failed_starts += 1
        reason = one.child.ending
        await one.child.stop()
        one.ready.clear()
        self._changed()
        return reason

    async def _ready(self, one: _Kept, child: Child) -> bool:
        """Wait until it answers, however long that takes when it is not its turn. False: it did not start."""
        told = ""
        while not (ready := await child.ready()) and child.alive and (other := one.component.waits_for(child.pid)):
            if other != told:
                self._say(f"{one.component.name} waits for {other}, which does its work")
                told = other
        return ready

    def _too_much(self, one: _Kept, reason: str) -> str:
        """The sentence to give up with, or ''."""
        now = monotonic()
        one.deaths.append(now)
        while now - one.deaths[0] > self._limits.within_s:
            one.deaths.popleft()
        name, words = one.component.name, one.child.last_words() if one.child else ""
        told = f" Its last line: {words}" if words else ""
        most = self._limits.failed_restarts if one.was_ready else self._limits.failed_starts
        if one.failed_starts >= most:
            times = one.failed_starts
            return f"{name} did not start in {times} tries ({reason}). See {self._log(name)}.{told}"
        if len(one.deaths) >= self._limits.deaths:
            return f"{name} ended {len(one.deaths)} times in {self._limits.within_s:g} s. See {self._log(name)}.{told}"
        return ""

    def delay(self, failed_starts: int) -> float:
        """Seconds before the next try after so many failed ones."""
        return min(self._limits.longest_s, self._limits.first_s * 2.0**failed_starts)

    def _give_up(self, sentence: str) -> None:
        if not self._over.done():
            self._over.set_result(sentence)

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AT_LOGS_S)
            for name in self._kept:
                try:
                    trim(self._log(name), self._limits.log_bytes)
                except OSError as error:  # a full disk, perhaps: the next look tries again
                    self._say(f"the log of {name} was not cut: {error}")


def trim(log: Path, limit: int) -> None:
    """Move what a log holds beyond its limit to NAME.log.1. The writer appends, so it goes on at the new end; a line
    written in the moment between is lost, which is the price for logs that need no reader."""
    if log.exists() and log.stat().st_size > limit:
        with log.open("r+b") as content, log.with_name(log.name + ".1").open("wb") as older:
            content.seek(-limit, 2)
            older.write(content.read())
            content.truncate(0)


async def _all_ready(kept: Iterable[_Kept]) -> None:
    await asyncio.gather(*(one.ready.wait() for one in kept))


def _stage(component: Component) -> int:
    return component.stage
