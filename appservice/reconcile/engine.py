"""Level-triggered reconciliation: one queue of keys, one pass per key at a time, N keys side by side.

    wake(key) -> due -> pass -> done: forget the backoff
                  ^       |---- result in seconds: look again then
                  |       |---- foreseen error that may pass: again after a backoff
                  +-------+---- bug: logged with its traceback, again after a backoff

A key that is woken during its pass runs once more after it. The event that woke it is not an argument: creation,
repair and drift are one path (controller-runtime's contract). What happens to an object (`wake`) does not end a
backoff that it has earned, or an agent that dies at start would be started as fast as it dies; a change (`refresh`)
does.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from heapq import heappop, heappush

import structlog

from appservice.errors import OpsroomError, Unavailable
from appservice.homeserver.client import ERRORS
from appservice.store.changes import Key

FIRST_S = 0.5
LONGEST_S = 300.0
LONGEST_AWAY_S = 30.0  # when something we need does not answer: it may be back at any moment
PASS_LIMIT_S = 180.0
RESYNC_AGAIN_S = 5.0

log = structlog.get_logger()

Reconcile = Callable[[Key], Awaitable[float | None]]


class _Lane:
    """Appointments of keys in their order, and slots for their passes."""

    def __init__(self, slots: int) -> None:
        self.slots = asyncio.Semaphore(slots)
        self.due: dict[Key, float] = {}
        self._order: list[tuple[float, Key]] = []  # with those that an earlier one has replaced
        self._news = asyncio.Event()

    def add(self, key: Key, at: float) -> None:
        """An earlier appointment stays."""
        if at < self.due.get(key, float("inf")):
            self.due[key] = at
            heappush(self._order, (at, key))
            self._news.set()

    async def next(self) -> Key:
        """Wait until a key is due, and take it out."""
        loop = asyncio.get_running_loop()
        while True:
            while self._order and self.due.get(self._order[0][1]) != self._order[0][0]:
                heappop(self._order)
            at, key = self._order[0] if self._order else (None, None)
            if at is not None and key is not None and at <= loop.time():
                heappop(self._order)
                del self.due[key]
                return key
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(at):
                    await self._news.wait()


class Engine:
    """Run with `await run()`, end by cancelling it. `beside`: kinds that have as many slots of their own, so that they
    never wait for the passes of others."""

    def __init__(
        self, reconcile: Reconcile, *, parallel: int, beside: Collection[str] = (), resync_s: float = 600.0
    ) -> None:
        self._reconcile = reconcile
        self._beside = frozenset(beside)
        self._resync_s = resync_s
        self._lanes = (_Lane(parallel), _Lane(parallel))
        self._busy: set[Key] = set()
        self._passes: set[asyncio.Task[None]] = set()  # under way
        self._again: dict[Key, bool] = {}  # woken during its pass; True: by a change
        self._tries: dict[Key, int] = {}
        self._all = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self.passes = 0
        self.failures = 0

    def wake(self, key: Key) -> None:
        """Look at this object soon: at once, or when the backoff it has earned is over."""
        self._look(key, changed=False)

    def refresh(self, key: Key) -> None:
        """The object itself changed, or what it depends on: look now, without any backoff it had earned."""
        self._look(key, changed=True)

    def refresh_all(self) -> None:
        """Look at everything now: something that all depend on is there again."""
        self._all.set()

    async def drain(self, limit_s: float) -> None:
        """Begin no further pass, and break off those under way; the next start takes up what they were about."""
        self._open.clear()
        for task in self._passes:
            task.cancel()
        if self._passes:
            await asyncio.wait(self._passes, timeout=limit_s)

    def attempts(self, key: Key) -> int:
        """Failed passes in a row."""
        return self._tries.get(key, 0)

    def due_in(self, key: Key) -> float | None:
        """Seconds until the next pass of an object, None when there is no appointment."""
        at = self._lane(key).due.get(key)
        return None if at is None else max(0.0, at - asyncio.get_running_loop().time())

    @property
    def waiting(self) -> int:
        return sum(len(lane.due) for lane in self._lanes)

    async def run(self, everything: Callable[[], Awaitable[Iterable[Key]]]) -> None:
        """Work for ever; `everything` lists the keys of the slow resync."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._resync(everything), name="resync")
            for lane in self._lanes:
                tasks.create_task(self._serve(lane, tasks), name="appointments")

    async def _resync(self, everything: Callable[[], Awaitable[Iterable[Key]]]) -> None:
        while True:
            look = self.refresh if self._all.is_set() else self.wake
            self._all.clear()
            pause = self._resync_s
            try:
                for key in await everything():
                    look(key)
            except (OpsroomError, *ERRORS) as error:
                log.warning("not everything was looked at", problem=str(error) or type(error).__name__)
                pause = RESYNC_AGAIN_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._all.wait()

    async def _serve(self, lane: _Lane, tasks: asyncio.TaskGroup) -> None:
        while True:
            await lane.slots.acquire()
            key = await lane.next()
            self._busy.add(key)
            await self._open.wait()
            task = tasks.create_task(self._pass(key), name=f"reconcile {key}")
            self._passes.add(task)
            task.add_done_callback(self._passes.discard)
            task.add_done_callback(lambda _: lane.slots.release())

    async def _pass(self, key: Key) -> None:
        with structlog.contextvars.bound_contextvars(key=str(key)):
            pause = await self._turn(key)
        self._busy.discard(key)
        again = self._again.pop(key, None)
        if again:
            self._tries.pop(key, None)
        if again is not None and key not in self._tries:
            pause = 0.0
        if pause is not None:
            self._appoint(key, pause)

    async def _turn(self, key: Key) -> float | None:
        """Seconds until the next pass, None for "when woken"."""
        self.passes += 1
        try:
            async with asyncio.timeout(PASS_LIMIT_S):
                again = await self._reconcile(key)
        except OpsroomError as error:
            self.failures += 1
            log.warning("pass failed", code=error.code, problem=str(error))
            return self._backoff(key, error)
        except Exception as error:
            self.failures += 1
            log.exception("pass broke")
            return self._backoff(key, error)
        self._tries.pop(key, None)
        return again

    def _backoff(self, key: Key, error: Exception) -> float:
        longest_s = LONGEST_AWAY_S if isinstance(error, Unavailable | TimeoutError) else LONGEST_S
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        return float(min(FIRST_S * 2 ** min(tries - 1, 20), longest_s)) * (1 + random.random() / 4)  # noqa: S311

    def _look(self, key: Key, *, changed: bool) -> None:
        if key in self._busy:
            self._again[key] = changed or self._again.get(key, False)
            return
        if changed:
            self._tries.pop(key, None)
        if key not in self._tries:
            self._appoint(key, 0.0)

    def _appoint(self, key: Key, after_s: float) -> None:
        self._lane(key).add(key, asyncio.get_running_loop().time() + after_s)

    def _lane(self, key: Key) -> _Lane:
        return self._lanes[key.kind in self._beside]
