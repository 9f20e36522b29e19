"""The process that thinks: turns come in on standard input, text goes out on standard output (see `protocol`)."""

import asyncio
import logging
import os
import sys
import traceback
from typing import BinaryIO

from runtime import settings
from runtime.agent import Mind
from runtime.protocol import MAX_LINE, Cancel, End, Ended, Message, Save, Saved, Text, Turn, decode, encode

CHUNK_S = 0.04  # pieces of text that follow each other faster go out together; the first goes at once

log = logging.getLogger("runtime.brain")


class Chunks:
    """Joins small pieces of text."""

    def __init__(self, send: "Outlet", turn: str) -> None:
        self._send = send
        self._turn = turn
        self._held: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, text: str) -> None:
        self._held.append(text)
        if self._timer is None:
            self.flush()
            self._timer = asyncio.get_running_loop().call_later(CHUNK_S, self._due)

    def flush(self) -> None:
        if self._held:
            self._send(Text(id=self._turn, text="".join(self._held)))
            self._held.clear()

    def close(self) -> None:
        self.flush()
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        self._timer = None
        if self._held:
            self.flush()
            self._timer = asyncio.get_running_loop().call_later(CHUNK_S, self._due)


class Outlet:
    """Writes messages to the server, whole lines, from one place."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __call__(self, message: Message) -> None:
        self._file.write(encode(message))
        self._file.flush()


class Brain:
    """Runs the turns that the server sends, each as a task."""

    def __init__(self, mind: Mind, send: Outlet) -> None:
        self._mind = mind
        self._send = send
        self._turns: dict[str, asyncio.Task[None]] = {}
        self._saves: dict[str, asyncio.Queue[str]] = {}

    async def serve(self, lines: asyncio.StreamReader) -> None:
        """Until the server closes the pipe; turns that still run are cancelled then."""
        while line := await lines.readline():
            self._take(decode(line))
        for task in self._turns.values():
            task.cancel()
        await asyncio.gather(*self._turns.values(), return_exceptions=True)

    def _take(self, message: Message) -> None:
        if isinstance(message, Turn):
            self._saves[message.id] = asyncio.Queue()
            task = asyncio.create_task(self._run(message))
            self._turns[message.id] = task
            task.add_done_callback(lambda _: self._forget(message.id))
        elif isinstance(message, Cancel) and message.id in self._turns:
            self._turns[message.id].cancel()
        elif isinstance(message, Saved) and message.id in self._saves:
            self._saves[message.id].put_nowait(message.warning)

    def _forget(self, turn: str) -> None:
        del self._turns[turn]
        del self._saves[turn]

    async def _run(self, turn: Turn) -> None:
        chunks = Chunks(self._send, turn.id)

        one_at_a_time = asyncio.Lock()  # tools may run side by side; each save has one answer

        async def save() -> str:
            async with one_at_a_time:
                self._send(Save(id=turn.id))
                return await self._saves[turn.id].get()

        end = End(code="error", sentence="Something in my own program failed; an operator finds it in my log.")
        try:
            end = await self._mind.answer(turn, chunks.add, save)
        except Exception as error:  # noqa: BLE001 - the turn ends with a sentence, the process serves the others
            place = traceback.extract_tb(error.__traceback__)[-1]  # not the text: it may quote the conversation
            log.error("a turn failed: %s at %s:%s", type(error).__name__, place.filename, place.lineno)  # noqa: TRY400
        finally:
            chunks.close()
            self._send(Ended(id=turn.id, end=end))


async def main() -> None:
    """Serve turns until standard input ends."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    outlet = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not look like a message
    reader = asyncio.StreamReader(limit=MAX_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await Brain(Mind(settings.load()), Outlet(outlet)).serve(reader)


if __name__ == "__main__":
    asyncio.run(main())
