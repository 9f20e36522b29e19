"""Waits for the end of a process that need not be our child, through its pidfd."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from appservice.backends.process_state import Identity


class ProcessEnd:
    """Waits for the end of one process."""

    def __init__(self, handle: int, who: Identity, ended: Callable[[], None]) -> None:
        self.who = who
        self.done = asyncio.Event()
        self._handle = handle
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(handle, self._notice)

    async def within(self, seconds: float) -> bool:
        """Wait for the end; says whether it came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.done.wait()
        return self.done.is_set()

    def close(self) -> None:
        if self._handle >= 0:
            self._loop.remove_reader(self._handle)
            os.close(self._handle)
            self._handle = -1

    def _notice(self) -> None:
        self.close()
        self.done.set()
        self._ended()
