"""The agents' container image, built in the background on the first start with Docker: the ops room does not wait."""

import asyncio
from collections.abc import Callable
from time import monotonic

from appservice.config import Settings
from appservice.errors import OpsroomError


class WorkerImage:
    """Builds the image of the native agent when Docker is the backend and the image is missing."""

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
        from appservice.backends import image

        began = monotonic()
        try:
            if await image.worker_image_exists():
                return
            self._say("worker image: building; agents start when it is there")
            await image.build_worker_image(base_image="", progress=lambda line: self._say(f"worker image: {line}"))
        except OpsroomError as error:
            self._say(f"worker image: {error} Agents that need it wait. Try again with `opsroom image build`.")
            return
        self._say(f"worker image ready, {monotonic() - began:.0f} s")
