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
import sysconfig
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
import pytest_asyncio
import yarl
from a2a.client import Client, ClientConfig, create_client
from a2a.types import Artifact, CancelTaskRequest, Message, Part, Role, SendMessageRequest, StreamResponse, TaskState
from aiohttp import web
from minio import Minio

from tests.support.children import free_port
from tests.support.provider import ScriptedProvider

BUCKET = "opsroom"
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """SeaweedFS with its root key."""

    port: int
    access_key: str
    secret_key: str

    def client(self) -> Minio:
        return Minio(f"127.0.0.1:{self.port}", self.access_key, self.secret_key, secure=False, region="us-east-1")


async def until(condition: Callable[[], Any], *, timeout: float = 15.0) -> Any:
    """Look at a condition until it holds; its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)
    return value


def _pair() -> int:
    """A free port whose partner for gRPC is free too."""
    while (port := free_port()) > 50000:
        pass
    return port


@asynccontextmanager
async def seaweed() -> AsyncIterator[Storage]:
    """A SeaweedFS of one process, with the bucket made."""
    folder = Path(tempfile.mkdtemp(prefix="runtime-weed-"))
    storage = Storage(port=_pair(), access_key=f"root-{uuid.uuid4().hex[:8]}", secret_key=uuid.uuid4().hex)
    identity = {
        "name": "opsroom",
        "credentials": [{"accessKey": storage.access_key, "secretKey": storage.secret_key}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    (folder / "root.json").write_text(json.dumps({"identities": [identity]}))
    weed = Path(sysconfig.get_path("scripts")) / "weed"
    options = [
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={_pair()}",
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
        "-master.heartbeatInterval=100ms",
        "-master.volumeSizeLimitMB=64",
        f"-volume.port={_pair()}",
        "-volume.max=20",
        "-volume.preStopSeconds=0",
        "-filer",
        f"-filer.port={_pair()}",
        "-s3",
        f"-s3.port={storage.port}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={folder / 'root.json'}",
    ]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(weed), "-logtostderr", "server", *options, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        client = storage.client()
        deadline = time.monotonic() + 40
        while not await asyncio.to_thread(_writable, client):
            assert process.returncode is None and time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            await asyncio.sleep(0.2)
        yield storage
    finally:
        process.kill()
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _writable(client: Minio) -> bool:
    import io

    import urllib3
    from minio.error import MinioException

    try:
        if not client.bucket_exists(BUCKET):
            client.make_bucket(BUCKET)
        client.put_object(BUCKET, "ready", io.BytesIO(b"x"), 1)
    except (MinioException, urllib3.exceptions.HTTPError, OSError):
        return False
    return True


class Door:
    """A gateway small enough to script: token check, model route, storage key, storage route."""

    def __init__(self, socket: Path, storage: Storage, provider: ScriptedProvider, prefix: str) -> None:
        self.tokens = {"first-token"}
        self.prefix = prefix
        self.model_status: int | None = None
        self.storage_down = False
        self.key_ttl_s = 3600
        self.keys_given = 0
        self.seen_tokens: list[str] = []
        self._socket = socket
        self._storage = storage
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
        key = {"access_key": self._storage.access_key, "secret_key": self._storage.secret_key, "bucket": BUCKET}
        more = {"prefix": self.prefix, "region": "us-east-1", "expires_at": int(time.time()) + self.key_ttl_s}
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
        return await self._pass(request, f"http://127.0.0.1:{self._storage.port}{request.raw_path}")

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

    def __init__(self, storage: Storage, provider: ScriptedProvider, folder: Path) -> None:
        self.provider = provider
        self.folder = folder
        self.prefix = f"agents/{uuid.uuid4().hex[:12]}/"
        self.gateway_dir, self.agent_dir, self.secrets_dir = (folder / name for name in ("g", "a", "s"))
        for made in (self.gateway_dir, self.agent_dir, self.secrets_dir):
            made.mkdir()
        self.token_file = self.secrets_dir / "token"
        self.token_file.write_text("first-token")
        self.door = Door(self.gateway_dir / "gateway.sock", storage, provider, self.prefix)
        self._objects = storage.client()

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
        import io

        data = text.encode()
        await asyncio.to_thread(self._objects.put_object, BUCKET, self.prefix + path, io.BytesIO(data), len(data))

    async def delete(self, path: str) -> None:
        await asyncio.to_thread(self._objects.remove_object, BUCKET, self.prefix + path)

    async def stored(self) -> dict[str, bytes]:
        """Everything in the agent's prefix."""

        def read() -> dict[str, bytes]:
            found = {}
            for entry in self._objects.list_objects(BUCKET, self.prefix, recursive=True):
                with self._objects.get_object(BUCKET, entry.object_name) as answer:
                    found[entry.object_name.removeprefix(self.prefix)] = answer.read()
            return found

        return await asyncio.to_thread(read)

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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def runtime_storage() -> AsyncIterator[Storage]:
    async with seaweed() as storage:
        yield storage


@pytest_asyncio.fixture(loop_scope="session")
async def bench(runtime_storage: Storage) -> AsyncIterator[Bench]:
    """A declared agent that is not started yet, with a provider of its own."""
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="rt-"))  # short: a unix socket's path has 107 characters at most
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        provider = await stack.enter_async_context(ScriptedProvider())
        made = await stack.enter_async_context(Bench(runtime_storage, provider, folder))
        await made.declare()
        yield made
