"""`opsroom up`: from a data directory to a running ops room, and back to nothing running."""

import asyncio
import secrets
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from appservice import config
from appservice.embedded import accounts, probes, upfile
from appservice.embedded.child import Component
from appservice.embedded.files import check_disk, disk_is_full, kept_secret, only_one
from appservice.embedded.site import ClientSite
from appservice.embedded.supervisor import Supervisor
from appservice.embedded.waiting import wait_until_registered
from appservice.embedded.worker_image import WorkerImage
from appservice.embedded.world import CONTROL_PLANE, HOMESERVER, World, prepare, settle
from appservice.errors import OpsroomError, Unavailable
from appservice.store import lease

Say = Callable[[str], None]
Greet = Callable[[dict[str, Any]], None]
_ROOM_PATIENCE_S = 90.0
_DRAIN_S = 60.0  # for all agents to end; a hundred containers need so long
INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the command line asks for. `flags` are settings, nested like them."""

    data_dir: Path
    flags: dict[str, Any] = field(default_factory=dict)
    web: bool = True


async def run(wish: Wish, *, say: Say, greet: Greet) -> int:
    """Bring everything up, stay until a signal or until a component dies for good, stop everything in order.

    `say` gets lines of progress, `greet` the facts of `up.json` once there is an ops room. Returns an exit code;
    raises `OpsroomError` with the sentence when it could not start or go on.
    """
    wish.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with only_one(wish.data_dir), ExitStack() as reserved:
        upfile.remove(wish.data_dir)
        check_disk(wish.data_dir)
        with lease.at_once(config.load(wish.data_dir, **wish.flags).database):
            pass  # else everything would start, and the control plane wait
        settled = settle(wish.data_dir, wish.flags, reserved, web=wish.web)
        for sentence in settled.said:
            say(sentence)
        world = prepare(settled.settings)
        config.remember(wish.data_dir, settled.changes)
        try:
            return await _Up(world, wish, say, greet).run()
        finally:
            upfile.remove(wish.data_dir)


class _Up:
    def __init__(self, world: World, wish: Wish, say: Say, greet: Greet) -> None:
        self._world = world
        self._wish = wish
        self._say = say
        self._greet = greet
        self._facts: dict[str, Any] = {}
        self._stop = asyncio.Event()
        self._hurried = False
        self._supervisor = Supervisor(world.settings.logs_dir, say=say, changed=self._note)
        self._site = ClientSite(world.settings, say=say)
        self._image = WorkerImage(world.settings, say=say)

    async def run(self) -> int:
        self._take_signals()
        life = asyncio.create_task(self._live())
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({life, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                await life
            was_up = bool(self._facts)
        finally:
            await self._end(life, stopped)
        return 0 if was_up and not self._hurried else INTERRUPTED

    async def _live(self) -> None:
        """Come up and stay. Ends only with an error."""
        async with AsyncExitStack() as beside:
            if self._wish.web:
                beside.push_async_callback(self._site.stop)
                self._site.begin()
            beside.push_async_callback(self._image.stop)
            await _together(self._watch(), self._come_up())

    async def _watch(self) -> None:
        sentence = await self._supervisor.failed()
        if disk_is_full(self._wish.data_dir):
            sentence = f"the disk of {self._wish.data_dir} is full; free some space. {sentence}"
        raise Unavailable(sentence)

    async def _come_up(self) -> None:
        """The control plane needs the homeserver to begin with; it waits for gateway and storage by itself."""
        supervisor = self._supervisor
        first = tuple(one for one in self._world.foundations if one.name == HOMESERVER)
        rest = tuple(one for one in self._world.foundations if one.name != HOMESERVER)
        room, _ = await _together(self._matrix_side(first), supervisor.start(rest))
        self._facts = self._gather(room)
        self._note()
        await self._site.ready()
        self._facts["client"] = self._site.url
        self._note()
        self._greet(self._facts)
        self._image.begin(str(room.get("backend", "")))

    async def _matrix_side(self, homeserver: tuple[Component, ...]) -> dict[str, Any]:
        """From the homeserver to the ops room."""
        began, world = monotonic(), self._world
        await self._supervisor.start(homeserver)
        if world.shared_secret:
            await self._make_operator(world.settings.homeserver.url)
        else:
            await wait_until_registered(world.settings, world.registration, say=self._say)
        await self._supervisor.start((world.control_plane,))
        room = await self._ops_room()
        self._say(f"ops room ready, {monotonic() - began:.1f} s after the start")
        return room

    async def _make_operator(self, url: str) -> None:
        world = self._world
        password = kept_secret(world.password_file, lambda: secrets.token_urlsafe(18))
        localpart = world.settings.operator_id[1:].partition(":")[0]
        if await accounts.ensure_operator(url, world.shared_secret, localpart, password):
            self._say(f"account {world.settings.operator_id} made")

    async def _ops_room(self) -> dict[str, Any]:
        """Ask the control plane until it has made the ops room."""
        deadline = monotonic() + _ROOM_PATIENCE_S
        while monotonic() < deadline:
            with suppress(Unavailable):
                told = await probes.ask(self._world.operator_socket, "GET", "/info")
                if told.get("ops_room"):
                    return told
            await asyncio.sleep(0.1)
        raise Unavailable(
            f"the control plane made no ops room within {_ROOM_PATIENCE_S:g} s.",
            fix=f"See {self._world.settings.logs_dir / CONTROL_PLANE}.log.",
        )

    def _gather(self, room: dict[str, Any]) -> dict[str, Any]:
        world, settings = self._world, self._world.settings
        return {
            "homeserver": settings.homeserver.url,
            "server_name": settings.server_name,
            "operator": settings.operator_id,
            "password_file": str(world.password_file) if world.shared_secret else None,
            "ops_room": room["ops_room"],
            "client": self._site.url,
            "api": settings.api_url,
            "data_dir": str(settings.data_dir),
            "backend": room.get("backend", ""),
            "gateway": str(settings.run_dir / "gateway" / "gateway.sock"),
            "storage": settings.storage.endpoint,
        }

    def _note(self) -> None:
        """Keep up.json equal to what runs; before the ops room exists there is none."""
        if self._facts:
            upfile.write(self._wish.data_dir, self._facts, self._supervisor.pids)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        if self._stop.is_set():
            self._hurried = True
            self._supervisor.kill()
            return
        self._say("stopping; once more Ctrl-C ends everything at once")
        self._stop.set()

    async def _end(self, *tasks: asyncio.Task[Any]) -> None:
        """The agents first, then the control plane, then what it stands on."""
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._facts:
            await self._stop_agents()
        await self._supervisor.stop()
        self._say("everything is stopped")

    async def _stop_agents(self) -> None:
        """Only the control plane knows them."""
        body = {"agents": "stop"}
        try:
            told = await probes.ask(self._world.operator_socket, "POST", "/shutdown", body, patience_s=_DRAIN_S)
        except OpsroomError as error:
            self._say(f"agents may go on until the next start: {error}")
            return
        for sentence in told["left"]:
            self._say(f"an agent may go on until the next start: {sentence}")


async def _together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Do all of it side by side; the first error ends the rest and is raised as it is."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
