"""The doctor's checks, as seen from the control plane: each part asked for its health, none able to stop the others."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from time import time

from appservice.backends.protocol import Backend
from appservice.config import Settings
from appservice.errors import OpsroomError
from appservice.gateway import providers
from appservice.gateway.protocol import Gateway, Provider
from appservice.health import Health
from appservice.homeserver.client import ERRORS, Homeserver, readable
from appservice.storage.protocol import Objects

LIMIT_S = 10.0
LOW_DISK = 500 * 2**20
WORST_SKEW_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    settings: Settings
    homeserver: Homeserver
    backend: Backend
    gateway: Gateway
    objects: Objects
    providers: Sequence[Provider]
    journal: Callable[[], Awaitable[Health]]
    rooms: Callable[[], Awaitable[Health]]

    async def run(self) -> list[Health]:
        """All checks side by side, in a fixed order."""
        todo = {
            "homeserver": self._homeserver,
            "clock": self._clock,
            "agents": self.backend.healthy,
            "storage": self.objects.healthy,
            "gateway": self.gateway.healthy,
            "model": self._models,
            "disk": self._disk,
            "journal": self.journal,
            "rooms": self.rooms,
        }
        found = await asyncio.gather(*(_guarded(part, check) for part, check in todo.items()))
        return [replace(health, part=part) for health, part in zip(found, todo, strict=True)]

    async def _homeserver(self) -> Health:
        user = await self.homeserver.whoami()
        if user != self.homeserver.bot:
            return Health(
                part="homeserver",
                level="fail",
                detail=f"takes us for {user}",
                fix="Load the generated registration.yaml in the homeserver and restart it.",
            )
        took = await self.homeserver.ping(f"doctor-{time()}")
        return Health(part="homeserver", level="ok", detail=f"reachable both ways ({took} ms)")

    async def _clock(self) -> Health:
        skew = await self.homeserver.clock_skew_s(time())
        if abs(skew) > WORST_SKEW_S:
            fix = "Set both clocks by NTP: tokens and edits depend on them."
            return Health(part="clock", level="warn", detail=f"the homeserver is {skew:.0f} s off", fix=fix)
        return Health(part="clock", level="ok", detail="the same as the homeserver's")

    async def _models(self) -> Health:
        [*real] = [provider for provider in self.providers if not provider.socket]
        if not real:
            fix = "Set a real one: start with OPENAI_API_KEY (and OPENAI_BASE_URL) in the environment."
            return Health(part="model", level="warn", detail="offline demo model: its answers are canned.", fix=fix)
        found = await asyncio.gather(*(providers.check_key(provider) for provider in real))
        return next((health for health in found if health.level != "ok"), found[0])

    async def _disk(self) -> Health:
        free = (await asyncio.to_thread(shutil.disk_usage, self.settings.data_dir)).free
        detail = f"{free / 2**30:.1f} GB free"
        if free < LOW_DISK:
            return Health(part="disk", level="fail", detail=detail, fix="Free at least 500 MB.")
        return Health(part="disk", level="ok", detail=detail)


async def _guarded(part: str, check: Callable[[], Awaitable[Health]]) -> Health:
    try:
        async with asyncio.timeout(LIMIT_S):
            return await check()
    except TimeoutError:
        return Health(part=part, level="fail", detail=f"no answer in {LIMIT_S:.0f} s", fix="Look at its log.")
    except OpsroomError as error:
        return Health(part=part, level="fail", detail=error.problems[0].what, fix=error.problems[0].fix)
    except ERRORS as error:
        problem = readable(error, f"check the {part}").problems[0]
        return Health(part=part, level="fail", detail=problem.what, fix=problem.fix)
