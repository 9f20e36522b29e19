"""A process that notes when something reaches it: a bare application service, and the door of an agent.

Both take the time at the first line of their handler. It is a process of its own, so that what measures does not
hold up what is measured. CLOCK_MONOTONIC is the same in all processes.
"""

import asyncio
import json
import multiprocessing
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from aiohttp import web

MARK = re.compile(rb"mark-[0-9a-z-]+")


class Arrivals:
    """What has arrived, from the other process: mark -> monotonic time."""

    def __init__(self, pipe: Connection) -> None:
        self.port = 0
        self._pipe = pipe
        self._came: dict[str, float] = {}
        self._news = asyncio.Condition()

    async def follow(self) -> None:
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        loop.add_reader(self._pipe.fileno(), arrived.set)
        try:
            while True:
                await arrived.wait()
                arrived.clear()
                async with self._news:
                    while self._pipe.poll():
                        mark, at = self._pipe.recv()
                        self._came.setdefault(mark, at)
                    self._news.notify_all()
        finally:
            loop.remove_reader(self._pipe.fileno())

    async def of(self, mark: str, timeout_s: float = 30.0) -> float:
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: mark in self._came)
        return self._came[mark]


@asynccontextmanager
async def ends(agent_socket: Path, port: int) -> AsyncIterator[Arrivals]:
    """Listen at the agent's socket, in the agent's place, and at a port for the bare application service."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(theirs, str(agent_socket), port), daemon=True)
    process.start()
    arrivals = Arrivals(ours)
    assert await asyncio.to_thread(ours.recv) == "ready"
    following = asyncio.create_task(arrivals.follow())
    try:
        yield arrivals
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        process.kill()
        process.join()


def run(tell: Connection, socket: str, port: int) -> None:
    asyncio.run(serve(tell, socket, port))


async def serve(tell: Connection, socket: str, port: int) -> None:
    def note(at: float, data: bytes) -> None:
        for mark in {found.decode() for found in MARK.findall(data)}:
            tell.send((mark, at))

    async def transaction(request: web.Request) -> web.Response:
        at = time.monotonic()
        note(at, await request.read())
        return web.json_response({})

    async def question(request: web.Request) -> web.StreamResponse:
        at = time.monotonic()
        data = await request.read()
        note(at, data)
        return await answered(request, json.loads(data))

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({})

    bare = web.Application(client_max_size=16 << 20)
    bare.router.add_put("/_matrix/app/v1/transactions/{id}", transaction)
    door = web.Application()
    door.router.add_post("/", question)
    door.router.add_get("/healthz", healthz)
    runners = [web.AppRunner(app, access_log=None) for app in (bare, door)]
    for runner in runners:
        await runner.setup()
    await web.TCPSite(runners[0], "127.0.0.1", port).start()
    await web.UnixSite(runners[1], socket).start()
    tell.send("ready")
    await asyncio.Event().wait()


async def answered(request: web.Request, call: dict[str, Any]) -> web.StreamResponse:
    """The shortest answer an A2A 1.0 server can give."""
    message = call["params"]["message"]
    task = {"id": message["messageId"], "contextId": message["contextId"]}
    artifact = {"artifactId": "a", "name": "answer", "parts": [{"text": "ok"}]}
    done = {"status": {"state": "TASK_STATE_COMPLETED"}, "artifacts": [artifact]}
    line = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": {"task": task | done}})
    out = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await out.prepare(request)
    await out.write(f"data: {line}\n\n".encode())
    await out.write_eof()
    return out
