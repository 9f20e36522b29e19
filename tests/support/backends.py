"""Both backends, each with sandboxes in a folder of its own, and an agent that does what it is told.

The agent listens where a native agent does; a test sends it Python and gets the value of `answer` back.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import Any

import docker
import pytest

from appservice.backends.docker import DockerBackend
from appservice.backends.inside import write_token
from appservice.backends.process import ProcessBackend
from appservice.backends.protocol import AGENT_SOCKET, Backend, BackendEvent, Limits, Sandbox
from appservice.paths import shipped

TEST_IMAGE = "opsroom/base"
DEADLINE_S = 30.0
AGENT = """
import json, os, socket
path = "/run/opsroom/agent/a2a.sock"
if os.path.lexists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    with connection, connection.makefile("rw") as wire:
        space = {}
        exec(json.loads(wire.readline()), space)
        wire.write(json.dumps(space.get("answer")) + "\\n")
"""


@dataclass(slots=True, kw_only=True)
class Place:
    """One backend under test. Everything it has made is gone afterwards."""

    kind: str
    root: Path
    installation: str
    made: list[Backend] = field(default_factory=list)

    def backend(self) -> Backend:
        """Another backend object of the same installation, as after a restart of the control plane."""
        made: Backend
        if self.kind == "docker":
            made = DockerBackend(installation=self.installation, command=["python3", "-c", AGENT])
        else:
            made = ProcessBackend(
                state_dir=self.root / "state",
                installation=self.installation,
                image=TEST_IMAGE,
                command=[sys.executable, "-c", AGENT],
            )
        self.made.append(made)
        return made

    def sandbox(self, name: str = "alice", *, revision: str = "", limits: Limits | None = None) -> Sandbox:
        home = self.root / name
        sandbox = Sandbox(
            name=name,
            image=TEST_IMAGE,
            gateway_dir=home / "gateway",
            agent_dir=home / "agent",
            secrets_dir=home / "secrets",
            environment={"GREETING": "hello"},
            revision=revision,
        )
        return sandbox if limits is None else replace(sandbox, limits=limits)

    def labels(self, name: str) -> dict[str, str]:
        """What people and their tools can read of a sandbox."""
        if self.kind == "process":
            return dict(json.loads((self.root / "state" / name / "spec").read_text())["labels"])
        client = docker.DockerClient.from_env()
        try:
            return dict(client.containers.get(f"opsroom-{self.installation}-{name}").labels)
        finally:
            client.close()

    async def run(self, backend: Backend, sandbox: Sandbox) -> None:
        """Create and start it, and wait until the agent listens."""
        await write_token(sandbox.secrets_dir, f"token-of-{sandbox.name}")
        await backend.create(sandbox)
        await backend.start(sandbox.name)
        await ask(sandbox, "answer = 1")


async def ask(sandbox: Sandbox, source: str) -> Any:
    """Have the agent run `source`; returns its `answer`. Waits until it listens."""
    reader, writer = await _connect(sandbox.agent_dir / AGENT_SOCKET)
    writer.write(json.dumps(source).encode() + b"\n")
    line = await asyncio.wait_for(reader.readline(), DEADLINE_S)
    await _close(writer)
    return json.loads(line)


async def tell(sandbox: Sandbox, source: str) -> None:
    """Have the agent run what it will not survive."""
    _, writer = await _connect(sandbox.agent_dir / AGENT_SOCKET)
    writer.write(json.dumps(source).encode() + b"\n")
    await writer.drain()
    await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    end = monotonic() + DEADLINE_S
    while True:
        try:
            return await asyncio.open_unix_connection(path)
        except OSError:
            if monotonic() > end:
                raise
            await asyncio.sleep(0.02)


class Events:
    """What a backend reports, in the order in which it came."""

    def __init__(self, backend: Backend) -> None:
        self.seen: list[BackendEvent] = []
        self._news = asyncio.Condition()
        self._task = asyncio.create_task(self._read(backend))

    async def until(self, *wanted: tuple[str, str]) -> None:
        """Wait until these have come, as (name, action), in this order."""

        def came() -> bool:
            stream: Iterator[tuple[str, str]] = iter([(event.name, event.action) for event in self.seen])
            return all(one in stream for one in wanted)

        async with self._news:
            await asyncio.wait_for(self._news.wait_for(came), DEADLINE_S)

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _read(self, backend: Backend) -> None:
        async for event in backend.events():
            async with self._news:
                self.seen.append(event)
                self._news.notify_all()


async def _missing(kind: str) -> str:
    probe = (
        DockerBackend(installation="probe")
        if kind == "docker"
        else ProcessBackend(state_dir=Path(tempfile.gettempdir()) / "probe", installation="probe")
    )
    try:
        return await probe.why_unusable()
    finally:
        await probe.close()


def _test_image() -> None:
    """Debian with Python: made once, then found by its tag."""
    client = docker.DockerClient.from_env()
    try:
        client.images.get(TEST_IMAGE)
    except docker.errors.ImageNotFound:
        os.spawnlp(os.P_WAIT, "sh", "sh", str(shipped("deploy", "scripts", "build-base-image.sh")), TEST_IMAGE)
    finally:
        client.close()


@pytest.fixture(scope="session")
async def backends_there() -> Callable[[str], None]:
    """Says whether a backend can be tested here. In CI both must be there."""
    why = {kind: await _missing(kind) for kind in ("docker", "process")}
    if not why["docker"]:
        await asyncio.to_thread(_test_image)

    def check(kind: str) -> None:
        if why[kind] and os.environ.get("CI") == "true":
            pytest.fail(f"CI tests the {kind} backend, but: {why[kind]}")
        if why[kind]:
            pytest.skip(f"the {kind} backend is left out: {why[kind]}")

    return check


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.docker), "process"])
async def place(request: pytest.FixtureRequest, backends_there: Callable[[str], None]) -> AsyncIterator[Place]:
    backends_there(request.param)
    root = Path(tempfile.mkdtemp(prefix="ob-"))
    here = Place(kind=request.param, root=root, installation=f"t{token_hex(4)}")
    try:
        yield here
    finally:
        last = here.backend()
        for name in await last.observe_all():
            await last.remove(name)
        for backend in here.made:
            await backend.close()
        shutil.rmtree(root)


@pytest.fixture
async def backend(place: Place) -> Backend:
    return place.backend()


@pytest.fixture
async def events(backend: Backend) -> AsyncIterator[Events]:
    listening = Events(backend)
    await listening.until(("", "resync"))
    yield listening
    await listening.close()
