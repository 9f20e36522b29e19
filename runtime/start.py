"""The first pull of the workspace: until it is done the agent is not ready, and turns wait for it."""

import asyncio
import logging

from runtime import __version__
from runtime.failures import Failure
from runtime.workspace import Workspace

PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)  # the last one is used again and again

log = logging.getLogger("runtime.start")


class Startup:
    """Tries until the workspace is loaded; says why it is not."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._loaded = asyncio.Event()
        self._reason = "The workspace is being loaded."

    @property
    def ready(self) -> bool:
        return self._loaded.is_set()

    def state(self) -> dict[str, object]:
        """What `/healthz` shows."""
        if not self.ready:
            return {"ready": False, "reason": self._reason}
        return {"ready": True, "revision": self._workspace.revision(), "version": __version__}

    async def wait(self) -> None:
        await self._loaded.wait()

    async def run(self) -> None:
        """Load the workspace; a failed try is followed by another, ever slower, until the process is stopped."""
        tries = 0
        while not self.ready:
            try:
                await self._workspace.pull()
                self._loaded.set()
            except Failure as failure:
                self._reason = failure.sentence
                log.warning("the workspace is not loaded: %s", failure.sentence)
                await asyncio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
                tries += 1
