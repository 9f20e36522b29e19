"""The agents' container image, built in the background on the first start with Docker: the ops room does not wait."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import suppress

from appservice.config import Settings
from appservice.embedded.child import bound_to_us

_AGAIN = "Agents that need it wait for it. Try again with `opsroom image build`."


class WorkerImage:
    """Builds the image when Docker is the backend and it is missing. In a process of its own, because the SDK that
    it needs would stay in our memory."""

    def __init__(self, settings: Settings, *, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._task: asyncio.Task[None] | None = None

    def begin(self, backend: str) -> None:
        """Start it if this backend needs an image; one that the settings name is not ours to build."""
        if backend == "docker" and not self._settings.agents.image:
            self._task = asyncio.create_task(self._build(), name="worker image")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _build(self) -> None:
        command = ("-m", "appservice.cli", "image", "build", "--if-missing", "--data-dir", str(self._settings.data_dir))
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(), sys.executable, *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, start_new_session=True
        )
        try:
            await self._repeat(process)
            if await process.wait() != 0:
                self._say(f"worker image: not built. {_AGAIN}")
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    async def _repeat(self, process: Process) -> None:
        if process.stderr:
            async for line in process.stderr:
                self._say(f"worker image: {line.decode('utf-8', 'replace').rstrip()}")
