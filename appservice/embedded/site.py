"""The web client beside the stack: built in the background when it must be, then served from this process."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from appservice.config import Settings
from appservice.embedded import ports, webclient
from appservice.errors import Unavailable


class ClientSite:
    """Builds and serves the web client. Opsroom works without it, so its failure is a sentence and not the end."""

    def __init__(self, settings: Settings, *, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._task: asyncio.Task[bool] | None = None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it is, or will be; '' when there is none."""
        if self._task is None or (self._task.done() and not self._works(self._task)):
            return ""
        return f"http://{ports.HOST}:{self._settings.embedded.client_port}"

    def begin(self) -> None:
        self._task = asyncio.create_task(self._build_and_serve(), name="web client")

    async def ready(self) -> None:
        """Wait until it is served, or cannot be."""
        if self._task:
            await self._task

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._runner:
            await self._runner.cleanup()

    async def _build_and_serve(self) -> bool:
        settings = self._settings
        try:
            dist = await webclient.build(webclient.dist_folder(settings.data_dir), progress=self._say)
            app = webclient.client_app(dist, base_url=settings.homeserver.url, server_name=settings.server_name)
            self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await self._runner.setup()
            await web.TCPSite(self._runner, ports.HOST, settings.embedded.client_port).start()
        except Unavailable as error:
            self._say(f"{error} Until then use any Matrix client with {settings.homeserver.url}.")
            return False
        except OSError as error:
            self._say(f"the web client is not served: port {settings.embedded.client_port}: {error.strerror}.")
            return False
        return True

    @staticmethod
    def _works(task: asyncio.Task[bool]) -> bool:
        return not task.cancelled() and task.exception() is None and task.result()
