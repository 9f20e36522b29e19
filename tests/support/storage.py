"""A real SeaweedFS on free loopback ports, in a folder of its own."""

import asyncio
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import monotonic

import pytest

from appservice.errors import Denied
from appservice.storage import seaweed
from appservice.storage.filer import FilerUsers
from appservice.storage.iam import IamUsers
from appservice.storage.objects import MinioObjects
from appservice.storage.protocol import AccessKey, Users
from appservice.storage.wire import Server

REGION = "us-east-1"
BUCKET = "opsroom"  # one for all tests: SeaweedFS gives every bucket volumes of its own, and has 50
_SOCKETS = Path("/tmp")  # where SeaweedFS puts its unix sockets, whatever TMPDIR says
_numbers = count(1)


@dataclass(slots=True, kw_only=True)
class Storage:
    """One SeaweedFS that can be killed and started again."""

    prepared: seaweed.Prepared
    process: asyncio.subprocess.Process | None = None

    @property
    def server(self) -> Server:
        return self.server_as(self.prepared.root_key)

    @property
    def filer(self) -> str:
        return f"http://127.0.0.1:{self.prepared.ports.filer}"

    def users(self, driver: str, installation: str) -> Users:
        """Clients of that driver."""
        if driver == "filer":
            return FilerUsers(self.server, filer=self.filer, bucket=BUCKET, installation=installation)
        return IamUsers(self.server, bucket=BUCKET, installation=installation)

    def server_as(self, key: AccessKey) -> Server:
        return Server(endpoint=self.prepared.ports.endpoint, region=REGION, key=key)

    async def start(self) -> None:
        with (self.prepared.data.parent / "seaweed.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                "setpriv",
                "--pdeathsig",
                "KILL",
                *seaweed.command(self.prepared),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        objects = MinioObjects(self.server, BUCKET)
        try:
            await until_ready(self.process, objects)
        finally:
            await objects.close()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM, two seconds, SIGKILL; and away with the sockets that a killed one leaves."""
        if self.process and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), 2)
        await self.kill()
        for port in self.prepared.ports.every:
            for left in _SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)


async def until_ready(process: asyncio.subprocess.Process, objects: MinioObjects) -> None:
    deadline = monotonic() + 60
    while not await seaweed.ready(objects):
        assert process.returncode is None, "SeaweedFS ended while it started"
        assert monotonic() < deadline, "SeaweedFS is not ready after 60 s"
        await asyncio.sleep(0.1)


def free_ports() -> seaweed.Ports:
    """Four ports that are free now, and 10000 above as well."""
    chosen: list[int] = []
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        start = 10240 + first.getsockname()[1] % 10000
    for port in range(start, start + 10000):
        if _free(port) and _free(port + seaweed.GRPC_OFFSET):
            chosen.append(port)
        if len(chosen) == 4:
            break
    s3, master, volume, filer = chosen
    return seaweed.Ports(s3=s3, master=master, volume=volume, filer=filer)


def _free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@asynccontextmanager
async def running() -> AsyncIterator[Storage]:
    """Start one, and stop it at the end whatever happened."""
    root = Path(tempfile.mkdtemp(prefix="opsroom-storage-"))
    one = Storage(prepared=seaweed.prepare(root, root / "secrets", free_ports()))
    try:
        await one.start()
        yield one
    finally:
        await one.stop()
        shutil.rmtree(root)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """An empty bucket, and an installation that no other test uses."""

    storage: Storage
    objects: MinioObjects
    users: Users
    installation: str
    login: Callable[[AccessKey], MinioObjects]
    bucket: str = BUCKET


@pytest.fixture(scope="session")
async def storage() -> AsyncIterator[Storage]:
    """One SeaweedFS for the whole run."""
    async with running() as one:
        yield one


@asynccontextmanager
async def world_of(storage: Storage, driver: str = "filer") -> AsyncIterator[World]:
    """Open clients; at the end the bucket is emptied, and users and clients are gone."""
    name = f"test{next(_numbers)}"
    async with AsyncExitStack() as stack:

        def opened(server: Server) -> MinioObjects:
            objects = MinioObjects(server, BUCKET)
            stack.push_async_callback(objects.close)
            return objects

        users = storage.users(driver, name)
        stack.push_async_callback(users.close)
        objects = opened(storage.server)
        await objects.ensure_bucket()
        yield World(
            storage=storage,
            objects=objects,
            users=users,
            installation=name,
            login=lambda key: opened(storage.server_as(key)),
        )
        await objects.delete([entry.key for entry in await objects.list("")])
        for user in await users.names():
            await users.delete(user)


@pytest.fixture
async def world(storage: Storage, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """An empty bucket with clients of the control plane; users as `opsroom up` makes them, or as `both` says."""
    async with world_of(storage, getattr(request, "param", "filer")) as one:
        yield one


both = pytest.mark.parametrize("world", ["filer", "iam"], indirect=True)
by_calls = pytest.mark.parametrize("world", ["iam"], indirect=True)


async def until_denied(objects: MinioObjects, key: str, *, seconds: float = 30) -> None:
    """Wait until the key can no longer be read."""
    deadline = monotonic() + seconds
    while True:
        try:
            await objects.get(key)
        except Denied:
            return
        assert monotonic() < deadline, f"{key} can still be read"
        await asyncio.sleep(0.02)
