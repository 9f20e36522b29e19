"""The whole of Opsroom on real components, with a scripted model provider and the operator at a Matrix client.

`stack` is one that tests share (local processes); `docker_stack` the same with containers. A test makes workers of
its own, under names of its own.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import quote

import pytest

from appservice import config
from appservice.backends.image import build_worker_image, is_current
from appservice.embedded.accounts import ensure_operator
from appservice.storage.connect import connect
from tests.support import up
from tests.support.children import runs
from tests.support.person import Message, Person, person
from tests.support.provider import ScriptedProvider

KEY = "sk-test-" + secrets.token_hex(8)


@dataclass(slots=True, kw_only=True)
class Stack:
    running: up.Running
    info: dict[str, Any]
    provider: ScriptedProvider
    op: Person
    exits: AsyncExitStack = field(repr=False)
    installation: str

    @property
    def ops_room(self) -> str:
        return str(self.info["ops_room"])

    @property
    def data_dir(self) -> Path:
        return Path(self.info["data_dir"])

    def logs(self, lines: int = 60) -> str:
        """The end of what each part has said."""
        paths = sorted((self.data_dir / "logs").glob("*.log"))
        said = {path.stem: path.read_text(errors="replace").splitlines()[-lines:] for path in paths}
        return "\n".join(f"{part}: {line}" for part, told in said.items() for line in told)

    def agent(self, name: str) -> str:
        return f"@agent-{name}:{self.info['server_name']}"

    async def apply(self, text: str | bytes, *, name: str = "test.yaml", timeout_s: float = 150) -> Message:
        """Upload a file into the ops room and wait for the end of its apply."""
        data = text if isinstance(text, bytes) else text.encode()
        return await self.op.ended(await self.op.upload(self.ops_room, name, data), timeout_s)

    async def command(self, text: str, timeout_s: float = 60) -> Message:
        return await self.op.command(self.ops_room, text, timeout_s)

    async def worker(self, name: str, **spec: Any) -> str:
        """Make a Worker that is ready; its room's id, with the operator in it."""
        answer = await self.apply(worker_yaml(name, **spec))
        assert "ready" in answer.text or "asleep" in answer.text or "stopped" in answer.text, answer.text
        return await self.room(name)

    async def room(self, name: str) -> str:
        room = await self.op.resolve(f"#opsroom-worker-{name}:{self.info['server_name']}")
        await self.op.until(lambda: room in self.op.rooms, f"{name}'s room")
        return room

    async def ask(self, room: str, name: str, text: str, **more: Any) -> str:
        return await self.op.say(room, text, mention=self.agent(name), **more)

    async def somebody(self, name: str) -> Person:
        """Another person on the same homeserver."""
        kept = json.loads((self.data_dir / "secrets" / "homeserver.json").read_text())
        await ensure_operator(self.info["homeserver"], kept["registration_shared_secret"], name, "just a test")
        return await self.exits.enter_async_context(person(self.info["homeserver"], name, "just a test"))

    async def human(self, name: str, *, level: int, **spec: Any) -> Person:
        """Somebody with a place here: an account, and a Human that says what it opens."""
        someone = await self.somebody(name)
        fields = {"displayName": name, "permissionLevel": level} | spec
        answer = await self.apply(document("Human", name, **fields))
        assert "ready" in answer.text, answer.text
        return someone

    async def joined(self, someone: Person, alias: str) -> str:
        """Have somebody take up the invitation into a room; its id."""
        room = await self.id(alias)
        await someone.until(lambda: room in someone.invited or room in someone.rooms, f"an invitation into {alias}")
        await someone.call("POST", f"join/{quote(room)}", {})
        await someone.until(lambda: room in someone.rooms, f"the room {alias}")
        return room

    async def id(self, alias: str) -> str:
        """Id of a room of ours."""
        return await self.op.resolve(f"#opsroom-{alias}:{self.info['server_name']}")

    async def files(self, prefix: str) -> dict[str, bytes]:
        """What is in the bucket below a prefix, as the storage itself has it."""
        stored, users = connect(config.load(self.data_dir, installation=self.installation))
        try:
            return {item.key: await stored.get(item.key) for item in await stored.list(prefix)}
        finally:
            await users.close()
            await stored.close()

    async def kill_control_plane(self) -> None:
        """kill -9, and wait until the supervisor has started another one."""
        old = self.info["pids"]["control_plane"]
        os.kill(old, signal.SIGKILL)
        while True:
            found = await up.opsroom("info", "--json", "--data-dir", str(self.data_dir))
            fresh = await self.running.info() if found.code == 0 else None
            if fresh and fresh["pids"]["control_plane"] not in (None, old) and runs(fresh["pids"]["control_plane"]):
                self.info = fresh
                return
            await asyncio.sleep(0.1)

    def log(self) -> str:
        return (self.data_dir / "logs" / "control-plane.log").read_text()


def worker_yaml(name: str, **spec: Any) -> str:
    return document("Worker", name, **({"model": "gpt-test"} | spec))


def document(kind: str, name: str, **spec: Any) -> str:
    """A document whose fields are written as they are given: YAML for lists and maps."""
    lines = "".join(f"  {key}: {value}\n" for key, value in spec.items())
    return f"apiVersion: hiclaw.io/v1beta1\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n{lines}"


@asynccontextmanager
async def opened(*flags: object, **environment: str) -> AsyncIterator[Stack]:
    """Start everything in a folder of its own; stop and remove it afterwards."""
    folder = Path(mkdtemp(prefix="ops-"))
    async with AsyncExitStack() as exits:
        provider = await exits.enter_async_context(ScriptedProvider())
        known = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.base_url, "OPSROOM_AGENTS__MODEL": "gpt-test"}
        running = await up.start(folder / "w", *flags, **known, **environment)
        exits.push_async_callback(running.stop)
        info = await running.info()
        password = Path(info["password_file"]).read_text().strip()
        op = await exits.enter_async_context(person(info["homeserver"], "op", password))
        await op.until(lambda: info["ops_room"] in op.rooms, "the ops room")
        yield Stack(
            running=running,
            info=info,
            provider=provider,
            op=op,
            exits=exits,
            installation=environment.get("OPSROOM_INSTALLATION") or config.load(Path(info["data_dir"])).installation,
        )
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with opened() as found:
        yield found


@pytest.fixture(scope="session")
async def docker_stack(backends_there: Callable[[str], None]) -> AsyncIterator[Stack]:
    """Its containers are its own, whatever else runs in this engine, and gone afterwards."""
    from tests.support.inside import containers

    backends_there("docker")
    if not await is_current():
        await build_worker_image(progress=print)
    installation = f"t{secrets.token_hex(4)}"
    try:
        async with opened("--no-web", "--backend", "docker", OPSROOM_INSTALLATION=installation) as found:
            yield found
    finally:
        for container in containers(installation):
            container.remove(force=True)
