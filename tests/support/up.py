"""`opsroom up` as a real process, in a folder of its own."""

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic
from typing import Any

import pytest

from tests.support.children import runs
from tests.support.provider import ScriptedProvider

OPSROOM = (sys.executable, "-m", "appservice.cli")
_UP_S = 120.0


@dataclass(slots=True, kw_only=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


async def opsroom(*arguments: object, **environment: str) -> Ended:
    """Run a command of `opsroom` to its end."""
    process = await asyncio.create_subprocess_exec(
        *OPSROOM, *(str(one) for one in arguments), stdout=PIPE, stderr=PIPE, env={**os.environ, **environment}
    )
    out, err = await asyncio.wait_for(process.communicate(), _UP_S)
    return Ended(code=process.returncode or 0, out=out.decode(), err=err.decode())


@dataclass(slots=True, kw_only=True)
class Running:
    """An `opsroom up` that was started."""

    data_dir: Path
    process: Process
    lines: list[str] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    async def info(self) -> dict[str, Any]:
        """Wait until it is up; return what `info --json` prints."""
        deadline = monotonic() + _UP_S
        while (asked := await opsroom("info", "--json", "--data-dir", self.data_dir)).code:
            assert self.process.returncode is None, self.said
            assert monotonic() < deadline, self.said
            await asyncio.sleep(0.2)
        found: dict[str, Any] = json.loads(asked.out)
        return found

    async def says(self, words: str) -> str:
        """Wait until it has printed a line with these words; return the line."""
        deadline = monotonic() + _UP_S
        while not (found := [line for line in self.lines if words in line]):
            assert monotonic() < deadline, self.said
            assert self.process.returncode is None or not (self.reader and self.reader.done()), self.said
            await asyncio.sleep(0.05)
        return found[0]

    async def ended(self) -> int:
        code = await asyncio.wait_for(self.process.wait(), _UP_S)
        if self.reader:
            await self.reader
        return code

    async def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        if self.process.returncode is None:
            self.process.send_signal(how)
        return await self.ended()


async def start(data_dir: Path, *flags: object, **environment: str) -> Running:
    """Start `opsroom up`. Its output is collected line by line."""
    process = await asyncio.create_subprocess_exec(
        *OPSROOM,
        *("up", "--data-dir", str(data_dir)),
        *(str(flag) for flag in flags or ("--no-web", "--backend", "process")),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
    )
    running = Running(data_dir=data_dir, process=process)
    running.reader = asyncio.create_task(_collect(process, running.lines))
    return running


async def _collect(process: Process, lines: list[str]) -> None:
    assert process.stdout
    while line := await process.stdout.readline():
        lines.append(line.decode().rstrip())


def pids(info: dict[str, Any]) -> list[int]:
    return [pid for pid in info["pids"].values() if pid]


def all_gone(gone: list[int]) -> bool:
    return not any(runs(pid) for pid in gone)


@pytest.fixture
async def up_dir() -> AsyncIterator[Path]:
    """A short path: unix sockets lie below it. What still runs there afterwards is ended."""
    folder = Path(mkdtemp(prefix="up-"))
    yield folder / "w"
    lock = folder / "w" / "up.lock"
    if lock.exists() and lock.read_text().isdigit() and runs(int(lock.read_text())):
        os.kill(int(lock.read_text()), signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def up() -> AsyncIterator[Running]:
    """One running Opsroom that tests share; none of them may stop it for good."""
    folder = Path(mkdtemp(prefix="up-"))
    async with ScriptedProvider() as provider:
        running = await start(folder / "w", OPENAI_API_KEY="sk-test-of-up", OPENAI_BASE_URL=provider.base_url)
        await running.info()
        yield running
        await running.stop()
    shutil.rmtree(folder, ignore_errors=True)
