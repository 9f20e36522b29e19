"""The question of the first start, asked on a real terminal (a pty)."""

import asyncio
import os
import pty
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from tests.support.children import free_port

ASK = "import sys, pathlib, appservice.cli.firstrun as f; f.ask_for_provider(pathlib.Path(sys.argv[1]))"
KEY = "sk-typed-by-a-person"


@pytest.fixture
async def provider_url() -> AsyncIterator[str]:
    """The one call that checks a key, at a provider that knows a single key."""

    async def models(request: web.Request) -> web.Response:
        right = request.headers.get("Authorization") == f"Bearer {KEY}"
        return web.json_response({"data": []}, status=200 if right else 401)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}/v1"
    await runner.cleanup()


class Terminal:
    """A program on a terminal of its own: wait for what it shows, then type."""

    def __init__(self) -> None:
        self.shown = ""
        self._seen = 0
        self._master, self._slave = pty.openpty()

    async def run(self, *command: str, **environment: str) -> None:
        plain = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
        self.process = await asyncio.create_subprocess_exec(
            *command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            env=plain | environment,
        )
        os.close(self._slave)

    async def answer(self, prompt: str, text: str) -> None:
        async with asyncio.timeout(30):
            while prompt not in self.shown[self._seen :]:
                self.shown += (await asyncio.to_thread(os.read, self._master, 4096)).decode()
        self._seen = len(self.shown)
        os.write(self._master, f"{text}\n".encode())

    async def end(self) -> str:
        async with asyncio.timeout(30):
            while True:
                try:
                    self.shown += (await asyncio.to_thread(os.read, self._master, 4096)).decode()
                except OSError:  # the other end is closed
                    break
            await self.process.wait()
        os.close(self._master)
        return self.shown


async def ask(data_dir: Path, **environment: str) -> Terminal:
    data_dir.mkdir(exist_ok=True)
    terminal = Terminal()
    await terminal.run(sys.executable, "-c", ASK, str(data_dir), **environment)
    return terminal


async def test_a_key_is_checked_and_kept_where_only_its_owner_can_read_it(tmp_path: Path, provider_url: str) -> None:
    terminal = await ask(tmp_path / "w")
    await terminal.answer("> ", "5")
    await terminal.answer("URL", provider_url)
    await terminal.answer("Key", KEY)
    assert "accepts the key" in await terminal.end()
    settings = yaml.safe_load((tmp_path / "w" / "opsroom.yaml").read_text())
    kept = Path(settings["providers"][0]["key_file"])
    assert kept.read_text().strip() == KEY
    assert kept.stat().st_mode & 0o077 == 0
    assert KEY not in (tmp_path / "w" / "opsroom.yaml").read_text()
    assert KEY not in terminal.shown


async def test_a_refused_key_is_said_and_asked_for_again(tmp_path: Path, provider_url: str) -> None:
    terminal = await ask(tmp_path / "w")
    await terminal.answer("> ", "5")
    await terminal.answer("URL", provider_url)
    await terminal.answer("Key", "sk-wrong")
    await terminal.answer("URL", provider_url)
    await terminal.answer("Key", KEY)
    shown = await terminal.end()
    assert "refuses the key" in shown
    assert "accepts the key" in shown


async def test_enter_skips_the_question(tmp_path: Path) -> None:
    terminal = await ask(tmp_path / "w")
    await terminal.answer("> ", "")
    assert "demo model" in await terminal.end()
    assert not (tmp_path / "w" / "opsroom.yaml").exists()


async def test_nothing_is_asked_when_the_environment_names_a_provider(tmp_path: Path) -> None:
    terminal = await ask(tmp_path / "w", OPENAI_API_KEY="sk-from-environment")
    assert await terminal.end() == ""
    assert terminal.process.returncode == 0
