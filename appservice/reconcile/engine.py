"""Level-triggered reconciliation: one queue of keys, one pass per key at a time, N keys side by side.

    wake(key) -> due -> pass -> done: forget the backoff
                  ^       |---- result in seconds: look again then
                  |       |---- foreseen error that may pass: again after a backoff
                  +-------+---- bug: logged with its traceback, again after a backoff

A key that is woken during its pass runs once more after it. The event that woke it is not an argument: creation,
repair and drift are one path (controller-runtime's contract).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import structlog

from appservice.errors import OpsroomError
from appservice.store.changes import Key

FIRST_S = 0.5
LONGEST_S = 300.0
PASS_LIMIT_S = 180.0

log = structlog.get_logger()

Reconcile = Callable[[Key], Awaitable[float | None]]


class Engine:
    """Run with `await run()`, end by cancelling it."""

    def __init__(self, reconcile: Reconcile, *, parallel: int, resync_s: float = 600.0) -> None:
        self._reconcile = reconcile
        self._parallel = parallel
        self._resync_s = resync_s
        self._due: dict[Key, float] = {}
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._tries: dict[Key, int] = {}
        self._news = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self.passes = 0
        self.failures = 0

    def wake(self, key: Key, after_s: float = 0.0) -> None:
        """Look at this object soon; an earlier appointment stays."""
        if key in self._busy and not after_s:
            self._again.add(key)
            return
        at = asyncio.get_running_loop().time() + after_s
        if key not in self._due or at < self._due[key]:
            self._due[key] = at
            self._news.set()

    def refresh(self, key: Key) -> None:
        """The object itself changed: look now, without any backoff it had earned."""
        self._tries.pop(key, None)
        self.wake(key)

    def pause(self) -> None:
        """Begin no further pass."""
        self._open.clear()

    def attempts(self, key: Key) -> int:
        """Failed passes in a row."""
        return self._tries.get(key, 0)

    def due_in(self, key: Key) -> float | None:
        """Seconds until the next pass of an object, None when there is no appointment."""
        at = self._due.get(key)
        return None if at is None else max(0.0, at - asyncio.get_running_loop().time())

    @property
    def waiting(self) -> int:
        return len(self._due)

    async def run(self, everything: Callable[[], Awaitable[Iterable[Key]]]) -> None:
        """Work for ever; `everything` lists the keys of the slow resync."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._resync(everything), name="resync")
            for number in range(self._parallel):
                tasks.create_task(self._worker(), name=f"reconcile {number}")

    async def _resync(self, everything: Callable[[], Awaitable[Iterable[Key]]]) -> None:
        while True:
            for key in await everything():
                self.wake(key)
            await asyncio.sleep(self._resync_s)

    async def _worker(self) -> None:
        while True:
            key = await self._next()
            await self._open.wait()
            self._busy.add(key)
            try:
                with structlog.contextvars.bound_contextvars(key=str(key)):
                    await self._turn(key)
            finally:
                self._busy.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.wake(key)
                self._news.set()

    async def _next(self) -> Key:
        loop = asyncio.get_running_loop()
        while True:
            at, key = min(((at, key) for key, at in self._due.items() if key not in self._busy), default=(None, None))
            if at is not None and key is not None and at <= loop.time():
                del self._due[key]
                return key
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(at):
                    await self._news.wait()

    async def _turn(self, key: Key) -> None:
        self.passes += 1
        try:
            async with asyncio.timeout(PASS_LIMIT_S):
                again = await self._reconcile(key)
        except OpsroomError as error:
            self.failures += 1
            log.warning("pass failed", code=error.code, problem=str(error))
            self.wake(key, self._backoff(key))
        except Exception:
            self.failures += 1
            log.exception("pass broke")
            self.wake(key, self._backoff(key))
        else:
            self._tries.pop(key, None)
            if again is not None:
                self.wake(key, again)

    def _backoff(self, key: Key) -> float:
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        return float(min(FIRST_S * 2 ** min(tries - 1, 20), LONGEST_S)) * (1 + random.random() / 4)  # noqa: S311
