"""The brain as the server sees it: started when a turn comes, ended when none came for a while."""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

from runtime.protocol import MAX_LINE, Cancel, End, Ended, Message, Save, Saved, Text, Turn, decode, encode

STOP_S = 2.0

log = logging.getLogger("runtime.process")

LOST = End(code="error", sentence="I was cut off in the middle of this answer; please ask again.", retry=True)


class Process:
    """One run of the brain. When it dies, the turns in it end with `LOST`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[str, asyncio.Queue[Message]] = {}
        self._reader = asyncio.create_task(self._read())

    @property
    def alive(self) -> bool:
        return not self._reader.done()

    @property
    def idle(self) -> bool:
        return not self._waiting

    async def run(self, turn: Turn) -> AsyncGenerator[Text | Save | Ended]:
        """Messages of one turn; the last is `Ended`."""
        messages: asyncio.Queue[Message] = asyncio.Queue()
        self._waiting[turn.id] = messages
        ended = False
        try:
            self.send(turn)
            while not ended:
                message = await messages.get()
                ended = isinstance(message, Ended)
                if isinstance(message, Text | Save | Ended):
                    yield message
        finally:
            del self._waiting[turn.id]
            if not ended:  # nobody listens any more
                self.send(Cancel(id=turn.id))

    def send(self, message: Message) -> None:
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(encode(message))

    async def stop(self) -> None:
        """Close its input, which ends it; kill it when it lingers."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            log.warning("the brain did not end by itself and was killed")
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        output = self._process.stdout
        try:
            while output is not None and (line := await output.readline()):
                message = decode(line)
                queue = self._waiting.get(message.id)
                if queue is not None:
                    queue.put_nowait(message)
        except ValueError:  # a line that is too long or no message: this process cannot be followed any more
            log.exception("the brain sent something that is no message")
            self._process.kill()
        for turn, queue in self._waiting.items():
            queue.put_nowait(Ended(id=turn, end=LOST))


class Brain:
    """Starts and stops processes; at most one takes turns at a time."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._process: Process | None = None
        self._starting = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    async def run(self, turn: Turn) -> AsyncGenerator[Text | Save | Ended]:
        """Messages of one turn; the last is `Ended`."""
        process = await self._ready()
        try:
            async with aclosing(process.run(turn)) as messages:
                async for message in messages:
                    yield message
        finally:
            self._schedule()

    async def warm(self) -> None:
        """Have the process there, so that the next `run` sends its turn without a pause."""
        await self._ready()
        self._schedule()

    def cancel(self, turn: str) -> None:
        """End a turn early; it still sends `Ended`."""
        if self._process is not None:
            self._process.send(Cancel(id=turn))

    def saved(self, turn: str, warning: str) -> None:
        """Answer a `Save`."""
        if self._process is not None:
            self._process.send(Saved(id=turn, warning=warning))

    async def close(self) -> None:
        """Stop the process; its turns are cancelled."""
        self._retire()
        await asyncio.gather(*self._stopping)

    async def _ready(self) -> Process:
        async with self._starting:
            if self._timer is not None:
                self._timer.cancel()
            if self._process is None or not self._process.alive:
                self._process = await _start()
            return self._process

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._retire_idle)

    def _retire_idle(self) -> None:
        if self._process is not None and self._process.idle and not self._starting.locked():
            self._retire()

    def _retire(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._process is not None:
            task = asyncio.create_task(self._process.stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
            self._process = None


async def _start() -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "runtime.brain",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_LINE,
    )
    return Process(process)
