"""A native agent as a real child process, behind a small gateway on a unix socket, with a real SeaweedFS.

async with Bench(storage, provider, folder) as bench:
    await bench.declare(files={"SOUL.md": "You are kind."})
    async with bench.agent() as agent:
        answer = await agent.ask("hello")
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import httpx
import pytest
import yarl
from a2a.client import Client, ClientConfig, create_client
from a2a.types import Artifact, CancelTaskRequest, Message, Part, Role, SendMessageRequest, StreamResponse, TaskState
from aiohttp import web

from appservice.storage.protocol import Access, AccessKey
from tests.support.children import free_port
from tests.support.provider import ScriptedProvider
from tests.support.storage import REGION, Storage, World, world_of

REPOSITORY = Path(__file__).parents[2]


async def until(condition: Callable[[], Any], *, timeout: float = 60.0) -> Any:
    """Look at a condition until it holds; its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)
    return value


class Door:
    """A gateway small enough to script: token check, model route, storage key, storage route."""

    def __init__(self, socket: Path, world: World, prefix: str, key: AccessKey, provider: ScriptedProvider) -> None:
        self.prefix = prefix
        self.tokens = {"first-token"}
        self.model_status: int | None = None
        self.storage_down = False
        self.key_ttl_s = 3600
        self.keys_given = 0
        self.seen_tokens: list[str] = []
        self._socket = socket
        self._world = world
        self._storage_key = key
        self._provider = provider
        self._runner: web.AppRunner | None = None
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/opsroom/v1/storage-key", self._key)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_route("*", "/{path:.*}", self._object)
        self._http = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._socket)).start()

    async def stop(self) -> None:
        if self._runner is not None and self._http is not None:
            await self._runner.cleanup()
            await self._http.close()
            self._socket.unlink(missing_ok=True)
            self._runner = self._http = None

    def _bearer(self, request: web.Request) -> str:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.seen_tokens.append(token)
        return token

    async def _key(self, request: web.Request) -> web.Response:
        if self._bearer(request) not in self.tokens:
            return web.Response(status=401)
        self.keys_given += 1
        key = {"access_key": self._storage_key.key_id, "secret_key": self._storage_key.secret}
        place = {"bucket": self._world.bucket, "prefix": self.prefix, "region": REGION}
        more = place | {"expires_at": int(time.time()) + self.key_ttl_s}
        return web.json_response(key | more)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self._bearer(request) not in self.tokens:
            return web.json_response({"error": {"message": "unknown token"}}, status=401)
        if self.model_status:
            return web.json_response({"error": {"message": "refused"}}, status=self.model_status)
        if body.get("stream") and not (body.get("stream_options") or {}).get("include_usage"):
            return web.json_response({"error": {"message": "streams need include_usage"}}, status=400)
        return await self._pass(request, f"{self._provider.base_url}/chat/completions")

    async def _object(self, request: web.Request) -> web.StreamResponse:
        if self.storage_down:
            return web.Response(status=503)
        if request.headers.get("x-opsroom-token") not in self.tokens:
            return web.Response(status=401)
        return await self._pass(request, f"{self._world.storage.server.endpoint}{request.raw_path}")

    async def _pass(self, request: web.Request, url: str) -> web.StreamResponse:
        assert self._http is not None
        target = yarl.URL(url, encoded=True)
        data = await request.read()
        skip = {"Content-Length", "Transfer-Encoding"}
        headers = {name: value for name, value in request.headers.items() if name not in skip}
        try:
            async with self._http.request(request.method, target, headers=headers, data=data) as upstream:
                kept = {n: v for n, v in upstream.headers.items() if n.lower() in ("content-type", "etag")}
                answer = web.StreamResponse(status=upstream.status, headers=kept)
                await answer.prepare(request)
                async for piece in upstream.content.iter_any():
                    await answer.write(piece)
                await answer.write_eof()
                return answer
        except aiohttp.ClientConnectorError:
            return web.json_response({"error": {"message": "upstream does not answer"}}, status=503)


@dataclass(slots=True)
class Heard:
    """What one stream brought: pieces of text in order, final state, and the sentence of a failure."""

    task_id: str = ""
    pieces: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    sentence: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def state(self) -> str:
        return self.states[-1] if self.states else ""

    def take(self, event: StreamResponse) -> None:
        kind = event.WhichOneof("payload")
        if kind == "task":
            self.task_id = event.task.id
            self._status(event.task.status)
            for artifact in event.task.artifacts:
                self._artifact(artifact)
        elif kind == "status_update":
            self.task_id = event.status_update.task_id
            self._status(event.status_update.status)
        elif kind == "artifact_update":
            self.task_id = event.artifact_update.task_id
            self._artifact(event.artifact_update.artifact)

    def _artifact(self, artifact: Artifact) -> None:
        assert artifact.name == "answer"
        self.pieces.extend(part.text for part in artifact.parts)

    def _status(self, status: Any) -> None:
        self.states.append(TaskState.Name(status.state).removeprefix("TASK_STATE_"))
        if status.HasField("message"):
            self.sentence = "".join(part.text for part in status.message.parts)
            self.metadata = dict(status.message.metadata.items())


class Agent:
    """A running `python -m runtime` and a client of it."""

    def __init__(self, process: asyncio.subprocess.Process, socket: Path, workspace: Path, log: Path) -> None:
        self.process = process
        self.workspace = workspace
        self.log = log
        self.http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket)), base_url="http://agent", timeout=60
        )
        self._client: Client | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    async def client(self) -> Client:
        if self._client is None:
            self._client = await create_client("http://agent", ClientConfig(streaming=True, httpx_client=self.http))
        return self._client

    async def health(self) -> httpx.Response | None:
        assert self.process.returncode is None, self.log.read_text()
        try:
            return await self.http.get("/healthz")
        except httpx.TransportError:
            return None

    async def ready(self) -> dict[str, Any]:
        """Wait for readiness; what it said."""
        deadline = time.monotonic() + 30
        while True:
            answer = await self.health()
            if answer is not None and answer.status_code == 200:
                return dict(answer.json())
            assert time.monotonic() < deadline, f"not ready: {answer and answer.text} {self.log.read_text()}"
            await asyncio.sleep(0.02)

    async def stream(self, text: str, *, context: str = "!room|$thread", **facts: Any) -> AsyncIterator[StreamResponse]:
        message = Message(message_id=uuid.uuid4().hex, role=Role.ROLE_USER, parts=[Part(text=text)], context_id=context)
        message.metadata.update({f"org.opsroom.{name}": value for name, value in facts.items()})
        async for event in (await self.client()).send_message(SendMessageRequest(message=message)):
            yield event

    async def ask(
        self, text: str, *, context: str = "!room|$thread", heard: Heard | None = None, **facts: Any
    ) -> Heard:
        """Ask and listen to the end. `heard` is filled on the way for those who look at it meanwhile."""
        heard = heard or Heard()
        async for event in self.stream(text, context=context, **facts):
            heard.take(event)
        return heard

    async def cancel(self, task: str) -> None:
        await (await self.client()).cancel_task(CancelTaskRequest(id=task))

    def turns(self) -> list[dict[str, Any]]:
        """The log lines of finished turns."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"event": "turn"')]

    def memory_mb(self) -> float:
        """Resident memory of the process and its children."""
        return sum(_resident(pid) for pid in (self.pid, *children(self.pid))) / 1024


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


class Bench:
    """The world around one agent: its door, its prefix in the bucket, its token."""

    def __init__(self, world: World, prefix: str, key: AccessKey, provider: ScriptedProvider, folder: Path) -> None:
        self.prefix = prefix
        self.provider = provider
        self.folder = folder
        self.gateway_dir, self.agent_dir, self.secrets_dir = (folder / name for name in ("g", "a", "s"))
        for made in (self.gateway_dir, self.agent_dir, self.secrets_dir):
            made.mkdir()
        self.token_file = self.secrets_dir / "token"
        self.token_file.write_text("first-token")
        self.door = Door(self.gateway_dir / "gateway.sock", world, prefix, key, provider)
        self._objects = world.objects

    async def __aenter__(self) -> Self:
        await self.door.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.door.stop()

    async def declare(self, *, revision: str = "r1", files: dict[str, str] | None = None) -> None:
        """Write managed files as the control plane does."""
        managed = {"SOUL.md": "You are alice."} | (files or {})
        card = {"name": "alice", "displayName": "Alice", "model": "stub-model", "revision": revision}
        for path, text in managed.items():
            await self.put(path, text)
        listed = [*managed, ".opsroom/agent.json", ".opsroom/manifest.json"]
        await self.put(".opsroom/manifest.json", json.dumps({"files": listed}))
        await self.put(".opsroom/agent.json", json.dumps(card))

    async def put(self, path: str, text: str) -> None:
        await self._objects.put(self.prefix + path, text.encode())

    async def delete(self, path: str) -> None:
        await self._objects.delete([self.prefix + path])

    async def stored(self) -> dict[str, bytes]:
        """Everything in the agent's prefix."""
        listed = await self._objects.list(self.prefix)
        return {entry.key.removeprefix(self.prefix): await self._objects.get(entry.key) for entry in listed}

    @asynccontextmanager
    async def agent(self, *, wait: bool = True, **environment: str) -> AsyncIterator[Agent]:
        """A new agent in an empty sandbox."""
        home = Path(tempfile.mkdtemp(dir=self.folder, prefix="h"))
        log = home / "log"
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(REPOSITORY),
            "OPSROOM_AGENT": "alice",
            "OPSROOM_GATEWAY_DIR": str(self.gateway_dir),
            "OPSROOM_AGENT_DIR": str(self.agent_dir),
            "OPSROOM_SECRETS_DIR": str(self.secrets_dir),
            "OPSROOM_FORWARD_PORT": str(free_port()),
        }
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "runtime", env=env | environment, cwd=home, stdout=output, stderr=output
            )
        agent = Agent(process, self.agent_dir / "a2a.sock", home / "workspace", log)
        try:
            if wait:
                await agent.ready()
            yield agent
        finally:
            await agent.http.aclose()
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(process.wait(), 8)
                except TimeoutError:
                    process.kill()
                    await process.wait()


@pytest.fixture(scope="session")
async def agents_world(storage: Storage) -> AsyncIterator[World]:
    """One bucket for all agents: SeaweedFS has room for few buckets, and agents share one in earnest too."""
    async with world_of(storage) as world:
        yield world


@pytest.fixture
async def bench(agents_world: World) -> AsyncIterator[Bench]:
    """A declared agent that is not started yet, with a storage user and a provider of its own."""
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="rt-"))  # short: a unix socket's path has 107 characters at most
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        world, user = agents_world, f"alice-{uuid.uuid4().hex[:8]}"
        prefix = f"agents/{user}/"
        await world.users.ensure(user, Access(write=(prefix,)))
        key = await world.users.issue_key(user)
        stack.push_async_callback(world.users.delete, user)
        provider = await stack.enter_async_context(ScriptedProvider())
        made = await stack.enter_async_context(Bench(world, prefix, key, provider, folder))
        await made.declare()
        yield made
