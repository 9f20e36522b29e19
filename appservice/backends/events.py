"""A bounded queue of backend events whose overflow turns into `resync`, so that no event is lost in silence."""

import asyncio

from appservice.backends.protocol import BackendEvent

RESYNC = BackendEvent(name="", action="resync")
GAP = BackendEvent(name="", action="gap")
_LENGTH = 1000


class EventQueue:
    """One reader's events, oldest first. All methods belong to the event loop's thread."""

    def __init__(self, length: int = _LENGTH) -> None:
        self._queue: asyncio.Queue[BackendEvent] = asyncio.Queue(length)

    def offer(self, event: BackendEvent) -> None:
        """Add an event. A reader that is too slow gets one `resync` in place of all it has missed."""
        if self._queue.full():
            while not self._queue.empty():
                self._queue.get_nowait()
            event = RESYNC
        self._queue.put_nowait(event)

    async def next(self) -> BackendEvent:
        return await self._queue.get()
