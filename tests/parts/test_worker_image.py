"""The worker image: built here, it answers, and it carries the agent and nothing of the control plane."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from secrets import token_hex

import httpx
import pytest

from appservice.backends import image as images
from appservice.backends.docker import DockerBackend
from appservice.backends.image import build_worker_image, is_current
from appservice.backends.inside import write_token
from appservice.backends.protocol import AGENT_SOCKET, Sandbox
from appservice.errors import Unavailable
from tests.support.backends import AGENT, DEADLINE_S, ask

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]
SEES = """
import importlib.util, os, socket
try:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    vsock = True
except OSError:
    vsock = False
answer = {
    "modules": [name for name in ("runtime", "appservice", "pip", "docker") if importlib.util.find_spec(name)],
    "vsock": vsock,
    "uncompiled": [
        name for name in ("a2a", "openai", "pydantic_ai", "runtime", "asyncio")
        if not os.path.exists(importlib.util.find_spec(name).cached)
    ],
}
"""


@pytest.fixture(scope="module")
async def image(backends_there: Callable[[str], None]) -> tuple[str, list[str]]:
    backends_there("docker")
    said: list[str] = []
    return await build_worker_image(progress=said.append), said


@pytest.fixture
async def sandbox(image: tuple[str, list[str]]) -> AsyncIterator[Sandbox]:
    root = Path(tempfile.mkdtemp(prefix="ob-"))
    yield Sandbox(
        name="alice",
        image=image[0],
        gateway_dir=root / "gateway",
        agent_dir=root / "agent",
        secrets_dir=root / "secrets",
    )
    shutil.rmtree(root)


async def test_the_build_says_what_it_does(image: tuple[str, list[str]]) -> None:
    assert image[0].startswith("opsroom/worker:")
    assert any("Fetching the agent's packages" in line for line in image[1])
    assert image[1][-1].startswith(f"{image[0]} is there: ")


async def test_it_is_current_until_the_agents_code_changes(
    image: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await is_current()
    copy = tmp_path / "runtime"
    shutil.copytree(images._agent(), copy)
    monkeypatch.setattr(images, "_agent", lambda: copy)
    assert await is_current()
    (copy / "agent.py").write_text((copy / "agent.py").read_text() + "\n")
    assert not await is_current()


async def test_the_native_agent_in_it_shows_its_card(sandbox: Sandbox) -> None:
    backend = DockerBackend(installation=f"t{token_hex(4)}")
    try:
        await write_token(sandbox.secrets_dir, "token")
        await backend.ensure_image(sandbox.image)
        await backend.create(sandbox)
        await backend.start("alice")
        path = sandbox.agent_dir / AGENT_SOCKET
        transport = httpx.AsyncHTTPTransport(uds=str(path), retries=12)  # it listens a moment after its start
        async with httpx.AsyncClient(transport=transport, base_url="http://alice", timeout=DEADLINE_S) as client:
            card = (await client.get("/.well-known/agent-card.json")).json()
        assert card["name"] == "alice"
    finally:
        await backend.remove("alice")
        await backend.close()


async def test_it_holds_the_agent_compiled_and_nothing_else_of_ours(sandbox: Sandbox) -> None:
    enter = ["python", "-I", "-S", "/opt/opsroom/enter.py", "python", "-P", "-c", AGENT]
    backend = DockerBackend(installation=f"t{token_hex(4)}", command=enter)
    try:
        await write_token(sandbox.secrets_dir, "token")
        await backend.create(sandbox)
        await backend.start("alice")
        assert await ask(sandbox, SEES) == {"modules": ["runtime"], "vsock": False, "uncompiled": []}
    finally:
        await backend.remove("alice")
        await backend.close()


async def test_a_base_image_that_cannot_be_had_is_named_with_the_way_out(image: tuple[str, list[str]]) -> None:
    with pytest.raises(Unavailable, match="opsroom/no-such-base") as caught:
        await build_worker_image(base_image="opsroom/no-such-base:1", progress=lambda _: None)
    assert "--base" in caught.value.problems[0].fix
