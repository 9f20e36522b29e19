"""The one stream of changes inside the process: who waits for an object is woken when it changes.

It carries keys only; the truth is read from the store. A listener that is slow sees each key once, not each change.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Key(NamedTuple):
    """An object's kind and name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


def parse(text: str) -> Key:
    """The key that is written as `team/dev`."""
    kind, _, name = text.partition("/")
    return Key(kind.capitalize(), name)


class Changes:
    def __init__(self) -> None:
        self._listeners: set[asyncio.Event] = set()
        self._hooks: list[Callable[[Key], None]] = []

    def publish(self, key: Key) -> None:
        for hook in self._hooks:
            hook(key)
        for listener in self._listeners:
            listener.set()

    def hook(self, hook: Callable[[Key], None]) -> None:
        """Call `hook` with every changed key; it must not block."""
        self._hooks.append(hook)

    @contextmanager
    def listen(self) -> Iterator[asyncio.Event]:
        """An event that is set by every change; clear it, look, wait."""
        event = asyncio.Event()
        self._listeners.add(event)
        try:
            yield event
        finally:
            self._listeners.discard(event)

    async def until(self, condition: Callable[[], Awaitable[bool]], timeout_s: float) -> bool:
        """Wait until the condition holds, looking again after each change; False when time ran out."""
        with self.listen() as changed:
            try:
                async with asyncio.timeout(timeout_s):
                    while not await condition():
                        await changed.wait()
                        changed.clear()
            except TimeoutError:
                return await condition()
        return True
