"""Talk to an agent: A2A 1.0 (JSON-RPC, streaming) over the unix socket in its door.

By hand and not with the SDK: a turn needs four methods of it, and the SDK cost every control plane 17 MB and every
mention a millisecond (docs/decisions/0012).
"""

import asyncio
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from appservice.errors import Unavailable
from appservice.runtimes.wire import Reply, Result, Update

URL = "http://agent/"
CONNECT_S = 5.0
CALL_S = 30.0
READY_S = 2.0
DRAIN_S = 0.5
IDLE_S = 600.0  # shorter than the agent waits for another request
MAX_LINE = 8 * 2**20  # an answer so far, or a list of tasks
_HEADERS = {"A2A-Version": "1.0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One turn as an agent gets it. `facts`: what the control plane knows of it (`org.opsroom.*`)."""

    message_id: str
    context_id: str
    text: str
    facts: Mapping[str, Any]


class AgentLost(Unavailable):
    """The agent broke off or does not answer: its container is gone, starting, or ill."""


class Socket(NamedTuple):
    """A socket file that somebody has made: another after each start."""

    inode: int
    made_ns: int


class Refused(Exception):
    """The agent answered with an error of its own: there is no such task, or it has ended."""


class Agent:
    """One agent behind its socket. Close it at the end. While it answers it is asked whether it is still there: one
    that is silent to that for `silent_s` is lost."""

    def __init__(self, path: Path, *, silent_s: float) -> None:
        self._path = path
        self._silent_s = silent_s
        self._line: tuple[Socket, aiohttp.ClientSession] | None = None
        self._streams: set[asyncio.Timeout] = set()
        self._watch: asyncio.Task[None] | None = None

    def socket(self) -> Socket | None:
        """The socket that is there at this moment. Whether somebody listens shows when it is used: asking first would
        cost the agent as much as a call."""
        try:
            found = self._path.lstat()
        except OSError:
            return None
        return Socket(found.st_ino, found.st_mtime_ns) if stat.S_ISSOCK(found.st_mode) else None

    async def ready(self, within_s: float = READY_S) -> Mapping[str, Any] | None:
        """What the agent says of itself once it takes turns, None before."""
        try:
            async with asyncio.timeout(within_s), (await self._session()).get(f"{URL}healthz") as answer:
                facts = await answer.json()
        except (AgentLost, aiohttp.ClientError, OSError, ValueError):
            return None
        return facts if answer.status == 200 and isinstance(facts, dict) else None

    async def ask(self, question: Question) -> AsyncGenerator[Update]:
        """Deliver a question and follow its answer. Raises AgentLost when the connection breaks."""
        message = {
            "messageId": question.message_id,
            "contextId": question.context_id,
            "role": "ROLE_USER",
            "parts": [{"text": question.text}],
            "metadata": dict(question.facts),
        }
        async for update in self._stream("SendStreamingMessage", {"message": message}):
            yield update

    async def follow(self, task_id: str) -> AsyncGenerator[Update]:
        """Take up a running task again: first all there is so far, then the rest. Raises AgentLost when it has ended
        meanwhile; `find` has its answer then."""
        async for update in self._stream("SubscribeToTask", {"id": task_id}):
            yield update

    async def find(self, context_id: str, message_id: str) -> Update | None:
        """The task that a question made, if the agent knows it; with `state` '' when it runs."""
        found = await self._call("ListTasks", {"contextId": context_id, "includeArtifacts": True})
        for task in found.tasks:
            if any(message.message_id == message_id for message in task.history):
                return task.update()
        return None

    async def cancel(self, task_id: str) -> None:
        """End a task; one that has ended, or that nobody knows any more, is a success."""
        with suppress(Refused):
            await self._call("CancelTask", {"id": task_id})

    async def close(self) -> None:
        """Hang up, on answers that are under way too."""
        for stream in self._streams:  # closing the session would leave them waiting for ever
            stream.reschedule(0)
        self._streams.clear()
        line, self._line = self._line, None
        if line is not None:
            await line[1].close()

    # -- the wire -----------------------------------------------------------------------------------------------

    async def _session(self) -> aiohttp.ClientSession:
        """To the agent as it was last started: what leads to an earlier start is closed.

        The folder is the agent's: a link there could lead to another socket of ours."""
        socket = self.socket()
        if self._line is not None and self._line[0] != socket:
            await self.close()
        if socket is None:
            raise AgentLost("the agent has no socket", fix="It is started again by itself.")
        if self._line is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self._path), limit=0, keepalive_timeout=IDLE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=_HEADERS,
                read_bufsize=MAX_LINE // 2,  # aiohttp holds twice as much
            )
            self._line = socket, session
        return self._line[1]

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Raises TimeoutError in the block when somebody hangs up."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._hang_up_on_silence(), name=f"watch {self._path}")
        try:
            async with asyncio.timeout(None) as stream:
                self._streams.add(stream)
                try:
                    yield
                finally:
                    self._streams.discard(stream)
        finally:
            if not self._streams and (watch := self._watch) is not None:
                self._watch = None
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)

    async def _hang_up_on_silence(self) -> None:
        third = self._silent_s / 3
        while True:
            await asyncio.sleep(third)
            if await self.ready(third) is None and await self.ready(third) is None:
                await self.close()

    @asynccontextmanager
    async def _post(
        self, method: str, params: Mapping[str, Any], total_s: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Raises AgentLost for whatever breaks, within the block too."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            timeout = aiohttp.ClientTimeout(total=total_s, connect=CONNECT_S)
            async with self._watched(), (await self._session()).post(URL, json=body, timeout=timeout) as response:
                response.raise_for_status()
                yield response
        except (aiohttp.ClientError, OSError, ValueError) as error:  # of pydantic too
            raise AgentLost("the agent broke off", fix="It is started again by itself.") from error

    async def _call(self, method: str, params: Mapping[str, Any]) -> Result:
        async with self._post(method, params, CALL_S) as response:
            reply = Reply.model_validate_json(await _whole(response))
        if reply.error is not None:
            raise Refused(reply.error.message)
        return reply.result

    async def _stream(self, method: str, params: Mapping[str, Any]) -> AsyncGenerator[Update]:
        async with self._post(method, params) as response, aclosing(_said(response)) as lines:
            async for line in lines:
                reply = Reply.model_validate_json(line)
                if reply.error is not None:
                    raise AgentLost("the agent has no such answer", fix="It is asked again by itself.")
                update = reply.result.update()
                if update.state:
                    await _drained(lines)
                yield update


async def _said(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    """The data of server-sent events. An A2A agent sends each reply as one line, or a whole body without a stream."""
    if response.content_type != "text/event-stream":
        yield await _whole(response)
        return
    async for line in response.content:
        if line.startswith(b"data:"):
            yield line[5:]


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > MAX_LINE:
            raise ValueError("the agent says too much at once")
    return bytes(data)


async def _drained(lines: AsyncIterator[bytes]) -> None:
    """Read a stream that has said its last to its end: a connection that is cut cannot be used again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in lines:
                pass
