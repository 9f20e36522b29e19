"""Composition root: the only module that knows every part. It opens them in order and closes them in reverse."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import time
from typing import Any

import structlog
from aiohttp import web

from appservice import __version__, logs
from appservice.api import agents as agents_api
from appservice.api import operator as operator_api
from appservice.api import public as public_api
from appservice.backends.choose import choose, default_image
from appservice.backends.door import door
from appservice.backends.protocol import Backend
from appservice.config import Settings
from appservice.conversations.router import Names, Router
from appservice.conversations.runner import Agents, Runner
from appservice.conversations.waking import Waking
from appservice.errors import OpsroomError
from appservice.gateway import providers
from appservice.gateway.envoy import EnvoyGateway
from appservice.gateway.layout import EnvoyFixed
from appservice.homeserver import content, registration
from appservice.homeserver.client import ERRORS, Homeserver
from appservice.homeserver.dispatch import Dispatcher, Effect
from appservice.homeserver.events import Event
from appservice.homeserver.gaps import Gaps
from appservice.homeserver.live import Pace
from appservice.homeserver.members import Members, Operators
from appservice.homeserver.sender import Sender
from appservice.ops import welcome
from appservice.ops.checks import Checks
from appservice.ops.room import OpsRoom
from appservice.ops.uploads import Uploads
from appservice.ops.verbs import Hands, Verbs
from appservice.reconcile.engine import Engine
from appservice.reconcile.keeper import GatewayKeeper
from appservice.reconcile.worker import Place, WorkerReconciler, World, prefix
from appservice.runtimes.a2a import Agent
from appservice.storage.connect import connect
from appservice.storage.keys import Keys
from appservice.storage.protocol import Objects, Users
from appservice.store import consumers, housekeeping, meta, objects, rooms, status
from appservice.store.changes import Changes, Key
from appservice.store.database import Connection, Database
from appservice.store.outbox import Outgoing
from appservice.store.turns import Turn
from appservice.workspace import publish

USAGE_OFFSET = "usage_offset"
HOUSEKEEPING_S = 3600.0
START_TRIES = 60

log = structlog.get_logger()


def run(settings: Settings) -> int:
    """Run the control plane until it is told to end; the exit code."""
    logs.configure(settings.log_level)
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_main(settings))
    return 0


async def _main(settings: Settings) -> None:
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with control_plane(settings) as plane:
        log.info("ready", ops_room=plane.operators.ops_room, backend=plane.backend.name)
        await plane.work()


@dataclass(slots=True, kw_only=True)
class Plane:
    """The parts while they run."""

    settings: Settings
    store: Database
    changes: Changes
    homeserver: Homeserver
    backend: Backend
    gateway: EnvoyGateway
    objects: Objects
    users: Users
    members: Members
    operators: Operators
    sender: Sender
    dispatcher: Dispatcher
    gaps: Gaps
    runner: Runner
    engine: Engine
    ops: OpsRoom
    checks: Checks
    keys: Keys
    space: str = ""
    not_ready: str = "starting"
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def boot(self) -> None:
        """From connected parts to taking work: rooms, what an earlier run left, what was missed meanwhile."""
        await _patiently(partial(welcome.ensure_bot, self.homeserver), "homeserver")
        self.space, self.operators.ops_room, new = await welcome.ensure_rooms(
            self.store, self.homeserver, self.settings
        )
        self.not_ready = ""
        left = {
            "events": await self.dispatcher.resume(),
            "commands": await self.ops.resume(),
            "turns": await self.runner.resume(),
            "sends": await self.sender.resume(),
        }
        log.info("resumed", **left)
        self.own(self._first_gap(), "first gap")
        if new:
            self.own(self._greet(), "greeting")

    async def work(self) -> None:
        """Everything that goes on by itself; ends with the first that breaks."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.engine.run(self._everything), name="reconcile")
            group.create_task(self.gaps.watch(lambda: self.operators.ops_room), name="homeserver watch")
            group.create_task(self._backend_events(), name="backend events")
            group.create_task(self._usage(), name="usage")
            group.create_task(self._housekeeping(), name="housekeeping")

    async def handle(self, event: Event) -> Effect | None:
        """Where each event goes."""
        room = await rooms.get(self.store, event.room_id)
        self.members.changed(event.room_id) if event.type == "m.room.member" else None
        operators_changed = self.operators.look(event)
        if event.room_id == self.operators.ops_room or operators_changed or await self._for_bot(event, room):
            return await self.ops.handle(event, room)
        return await self.router.handle(event, room)

    router: Router = field(init=False)

    async def _for_bot(self, event: Event, room: rooms.Room | None) -> bool:
        if event.type == "m.room.member":
            return event.state_key == self.homeserver.bot
        return event.type == "m.room.message" and await self.ops.addressed(event, room)

    async def place(self) -> Place:
        return Place(space=self.space, operators=await self.operators.last_known())

    def operators_changed(self) -> None:
        self.own(self._wake_everything(), "operators changed")

    async def shut_down(self, stop_agents: bool) -> None:
        """End all work in order; rows keep what is open. With `stop_agents` no sandbox is left running."""
        self.not_ready = "shutting down"
        for part in (self.dispatcher, self.ops, self.runner):
            await part.close()
        for task in list(self.tasks):
            task.cancel()
        self.engine.pause()
        await self.sender.flush(5.0)
        if stop_agents:
            running = await self.backend.observe_all()
            async with asyncio.TaskGroup() as group:
                for name, seen in running.items():
                    if seen.state == "running":
                        group.create_task(self.backend.stop(name))
        log.info("shut down", stop_agents=stop_agents)

    def own(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run something beside the loops; a failure is logged."""
        task = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task broke", task=task.get_name(), exc_info=error)

    async def _first_gap(self) -> None:
        await _patiently(partial(self.gaps.close, ops_room=self.operators.ops_room), "homeserver")

    async def _greet(self) -> None:
        await welcome.greet(self.homeserver, self.sender, self.operators.ops_room, await self.checks.run())

    async def _everything(self) -> Iterable[Key]:
        return [stored.key for stored in await objects.every(self.store)]

    async def _wake_everything(self) -> None:
        for operator in await self.operators.now():
            if operator not in await self.members.of(self.space):
                await self.homeserver.invite(self.space, operator)
        for key in await self._everything():
            self.engine.wake(key)

    async def _backend_events(self) -> None:
        async for event in self.backend.events():
            if event.name:
                self.engine.refresh(Key("Worker", event.name))
            else:
                for key in await self._everything():
                    self.engine.wake(key)

    async def _usage(self) -> None:
        offset = int(await meta.get(self.store, USAGE_OFFSET) or 0)
        async for position, used in self.gateway.usage(offset):
            call = consumers.Call(
                call_id=used.call_id,
                at=used.at,
                consumer=used.consumer,
                model=used.model,
                status=used.status,
                tokens_in=used.tokens_in,
                tokens_out=used.tokens_out,
                took_ms=used.took_ms,
                detail=used.detail,
            )
            if used.model:
                await self.store.write(partial(_store_call, call, position))

    async def _housekeeping(self) -> None:
        while True:
            await self.store.write(partial(housekeeping.sweep, now=time()))
            await asyncio.sleep(HOUSEKEEPING_S)

    async def turn_facts(self, turn: Turn) -> dict[str, object]:
        """What an agent is told about a turn beside the question."""
        found = await status.get(self.store, Key("Worker", turn.agent))
        return {
            "org.opsroom.workspace": str(found.facts.get("workspace", "")),
            "org.opsroom.sender": turn.sender,
            "org.opsroom.room": turn.agent,
        }

    async def models(self, name: str) -> list[str] | None:
        stored = await objects.get(self.store, Key("Worker", name))
        if stored is None or stored.deleting:
            return None
        return [str(stored.document["spec"]["model"])]

    async def numbers(self) -> dict[str, float]:
        """For `/metrics`."""
        return {
            **await housekeeping.numbers(self.store),
            "opsroom_reconcile_passes": self.engine.passes,
            "opsroom_reconcile_failures": self.engine.failures,
            "opsroom_reconcile_waiting": self.engine.waiting,
        }


@asynccontextmanager
async def control_plane(settings: Settings) -> AsyncIterator[Plane]:
    """Open everything, boot, and close in reverse."""
    async with AsyncExitStack() as stack:
        settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        store = await Database.open(settings.database)
        stack.push_async_callback(store.close)
        plane = await _compose(settings, store, stack)
        await _listen(plane, stack)
        await plane.boot()
        yield plane


async def _compose(settings: Settings, store: Database, stack: AsyncExitStack) -> Plane:
    path = settings.homeserver.registration or settings.data_dir / "homeserver" / "registration.yaml"
    homeserver = Homeserver(
        settings.homeserver.url,
        registration.load(path),
        server_name=settings.server_name,
        bot=settings.bot_id,
    )
    stack.push_async_callback(homeserver.close)
    backend = await choose(settings)
    stack.push_async_callback(backend.close)
    stored, users = connect(settings)
    stack.push_async_callback(stored.close)
    stack.push_async_callback(users.close)
    gateway = EnvoyGateway(EnvoyFixed.from_settings(settings))
    stack.push_async_callback(gateway.close)

    keys = Keys(users)
    changes, pace, members = Changes(), Pace(), Members(homeserver)
    operators = Operators(homeserver, members)
    names = Names(bot=settings.bot_id, prefix=settings.user_prefix, server_name=settings.server_name)
    available = providers.providers(settings, os.environ)
    keeper = GatewayKeeper(store, gateway, available, lambda model: providers.route(model, settings, available))

    async def on_dead(item: Outgoing, reason: str) -> None:
        if not item.txn_id.startswith("dead."):
            await sender.send(_dead_letter(item, reason, operators.ops_room, settings.bot_id))

    sender = Sender(store, homeserver, on_dead=on_dead)
    stack.push_async_callback(sender.close)

    def agent(name: str) -> Agent:
        return Agent(door(settings, name).socket)

    async def place() -> Place:
        return await plane.place()

    world = World(
        settings=settings,
        store=store,
        changes=changes,
        homeserver=homeserver,
        backend=backend,
        gateway=gateway,
        keeper=keeper,
        objects=stored,
        users=users,
        keys=keys,
        image=default_image(settings),
        place=place,
    )
    engine = Engine(WorkerReconciler(world).reconcile, parallel=settings.parallel)
    waking = Waking(store, door=agent, look=engine.refresh, awake_s=settings.agents.awake_s)
    runner = Runner(
        store=store,
        homeserver=homeserver,
        sender=sender,
        pace=pace,
        agents=Agents(door=agent, user=names.user, wake=waking.wake, facts=lambda turn: plane.turn_facts(turn)),
        limit_s=settings.agents.turn_limit_s,
    )
    stack.push_async_callback(runner.close)
    checks = Checks(
        settings=settings,
        homeserver=homeserver,
        backend=backend,
        gateway=gateway,
        objects=stored,
        providers=available,
    )
    hands = Hands(
        settings=settings,
        store=store,
        changes=changes,
        backend=backend,
        objects=stored,
        wake=engine.refresh,
        stop_turn=runner.stop,
        checks=checks.run,
        managed=lambda name: publish.managed(stored, prefix(name)),
    )
    ops = OpsRoom(
        store=store,
        homeserver=homeserver,
        members=members,
        operators=operators,
        sender=sender,
        pace=pace,
        verbs=Verbs(hands, Uploads(homeserver)),
        is_ours=names.is_ours,
        operators_changed=lambda: plane.operators_changed(),
    )
    stack.push_async_callback(ops.close)
    dispatcher = Dispatcher(store, lambda event: plane.handle(event), is_ours=names.is_ours)
    stack.push_async_callback(dispatcher.close)
    plane = Plane(
        settings=settings,
        store=store,
        changes=changes,
        homeserver=homeserver,
        backend=backend,
        gateway=gateway,
        objects=stored,
        users=users,
        members=members,
        operators=operators,
        sender=sender,
        dispatcher=dispatcher,
        gaps=Gaps(store, homeserver, dispatcher.receive),
        runner=runner,
        engine=engine,
        ops=ops,
        checks=checks,
        keys=keys,
    )
    plane.router = Router(
        store=store,
        homeserver=homeserver,
        members=members,
        operators=operators,
        sender=sender,
        runner=runner,
        names=names,
        drifted=lambda name: engine.refresh(Key("Worker", name)),
    )
    return plane


async def _listen(plane: Plane, stack: AsyncExitStack) -> None:
    """Open the three doors: the homeserver's, the agents', the operator's."""
    settings = plane.settings
    public = public_api.app(
        hs_token=plane.homeserver.registration.hs_token,
        receive=plane.dispatcher.receive,
        is_ready=lambda: plane.not_ready,
        numbers=plane.numbers,
    )
    facts = agents_api.AgentFacts(
        prefix=prefix, models=plane.models, bucket=settings.storage.bucket, region=settings.storage.region
    )
    operator = operator_api.app(
        info=lambda: {
            "ops_room": plane.operators.ops_room,
            "ops_room_alias": f"#{settings.alias_prefix}ops:{settings.server_name}",
            "space": plane.space,
            "backend": plane.backend.name,
            "isolation": plane.backend.isolation,
            "version": __version__,
        },
        checks=plane.checks.run,
        shut_down=plane.shut_down,
    )
    runner = await _runner(public, stack)
    await web.TCPSite(runner, settings.homeserver.listen_host, settings.homeserver.listen_port).start()
    for name, app in (("control", agents_api.app(plane.keys, facts)), ("operator", operator)):
        path = settings.run_dir / f"{name}.sock"
        await web.UnixSite(await _runner(app, stack), _fresh(path)).start()
        path.chmod(0o600)


async def _runner(app: web.Application, stack: AsyncExitStack) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


def _fresh(path: Path) -> str:
    path.unlink(missing_ok=True)
    return str(path)


async def _patiently(work: Any, what: str) -> None:
    """Do it once what it needs is there: at start a component may still be on its way."""
    for attempt in range(1, START_TRIES + 1):
        try:
            await work()
        except (OpsroomError, *ERRORS) as error:
            if attempt == START_TRIES:
                raise
            log.warning("waiting", what=what, error=str(error), attempt=attempt)
            await asyncio.sleep(min(0.1 * 2**attempt, 2.0))
        else:
            return


async def _store_call(call: consumers.Call, position: int, db: Connection) -> None:
    await consumers.used(db, call)
    await meta.put(db, USAGE_OFFSET, str(position))


def _dead_letter(item: Outgoing, reason: str, ops_room: str, bot: str) -> Outgoing:
    text = (
        f"**NOT SENT** An event of {item.sender} for the room `{item.room_id}` could not be sent: {reason}. It is kept;"
        " `!status` lists it."
    )
    return Outgoing(
        txn_id=f"dead.{item.txn_id}",
        room_id=ops_room,
        sender=bot,
        type="m.room.message",
        content=content.message(text),
        cause=item.cause,
    )
