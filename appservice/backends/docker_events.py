"""Docker's events in a thread of their own, with a client of their own: the stream blocks for as long as it lives."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import docker
import requests
import urllib3
from docker.errors import DockerException

from appservice.backends.events import GAP, RESYNC, EventQueue
from appservice.backends.protocol import BackendEvent

_ACTIONS = ("start", "die", "oom", "destroy")
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 1.0
_JOIN_S = 5.0
_BROKEN = (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)


class EventThread:
    """Feeds one reader until that is cancelled. Reconnects with a growing, bounded pause."""

    def __init__(self, connect: Callable[[], docker.DockerClient], *, label: str, agent_label: str) -> None:
        self._connect = connect
        self._filters = {"type": "container", "label": label, "event": list(_ACTIONS)}
        self._agent_label = agent_label
        self._closing = threading.Event()
        self._guard = threading.Lock()
        self._stream: Any = None
        self._queue = EventQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="docker-events", daemon=True)

    async def read(self) -> AsyncIterator[BackendEvent]:
        self._thread.start()
        try:
            while True:
                yield await self._queue.next()
        finally:
            self._tell()
            await asyncio.to_thread(self._thread.join, _JOIN_S)

    def _tell(self) -> None:
        """Tell the thread to end, and break off its blocked read."""
        self._closing.set()
        with self._guard:
            if self._stream is not None:
                _break_off(self._stream)

    def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._closing.is_set():
            heard = False
            with suppress(*_BROKEN):
                client = self._connect()
                try:
                    for event in self._listen(client):
                        heard, wait_s = True, _FIRST_WAIT_S
                        self._offer(event)
                finally:
                    client.close()
            if heard and not self._closing.is_set():
                self._offer(GAP)
            self._closing.wait(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    def _listen(self, client: docker.DockerClient) -> Iterator[BackendEvent]:
        """Yield a resync once the stream is open, then what happens."""
        stream = client.events(decode=True, filters=self._filters)
        with self._guard:
            if self._closing.is_set():
                _break_off(stream)
                return
            self._stream = stream
        yield RESYNC
        try:
            for raw in stream:
                name = raw.get("Actor", {}).get("Attributes", {}).get(self._agent_label, "")
                if name and raw.get("Action") in _ACTIONS:
                    yield BackendEvent(name=name, action=raw["Action"])
        finally:
            with self._guard:
                self._stream = None
                _break_off(stream)

    def _offer(self, event: BackendEvent) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._queue.offer, event)


def _break_off(stream: Any) -> None:
    with suppress(*_BROKEN, AttributeError):
        stream.close()
