"""The parts of the control plane while they run: from boot to shutting down, and what goes on by itself in between."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from time import time
from typing import Any

import structlog

from appservice.backends.protocol import Backend
from appservice.config import Settings
from appservice.conversations.router import Router
from appservice.conversations.runner import Runner
from appservice.errors import OpsroomError, Unavailable
from appservice.gateway import metering
from appservice.gateway.envoy import EnvoyGateway
from appservice.homeserver import events
from appservice.homeserver.client import ERRORS, Homeserver
from appservice.homeserver.dispatch import Dispatcher, Effect
from appservice.homeserver.events import Event
from appservice.homeserver.gaps import Gaps
from appservice.homeserver.members import Members, Operators
from appservice.homeserver.patience import outlast
from appservice.homeserver.sender import Sender
from appservice.ops import welcome
from appservice.ops.checks import Checks
from appservice.ops.door import Door
from appservice.ops.journal import JournalDoor
from appservice.ops.room import OpsRoom
from appservice.reconcile import suspended
from appservice.reconcile.accounts import Accounts
from appservice.reconcile.desk import Desk
from appservice.reconcile.engine import Engine
from appservice.reconcile.journal import Journal
from appservice.reconcile.keeper import GatewayKeeper
from appservice.reconcile.orphans import Orphans
from appservice.reconcile.rooms import KIND as ROOM
from appservice.reconcile.rooms import RoomKeeper
from appservice.reconcile.sweeper import Sweeper
from appservice.rooms.declared import Declared
from appservice.storage.keys import Keys
from appservice.storage.protocol import Objects, Users
from appservice.store import housekeeping, meta, objects, rooms, status
from appservice.store.changes import Changes, Key
from appservice.store.database import Database, Reader
from appservice.store.turns import Turn

LOOKS, LOOK_EVERY_S = 30, 1.0  # at the parts that were not there yet when the greeting was written
HOUSEKEEPING_S = 3600.0
START_TRIES = 60
DRAIN_S = FLUSH_S = 5.0
STARTS_S = 30.0  # for agents that are being started, when all are to be stopped

log = structlog.get_logger()


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
    door: Door
    desk: Desk
    router: Router
    checks: Checks
    keys: Keys
    keeper: GatewayKeeper
    room_keeper: RoomKeeper
    declared: Declared
    accounts: Accounts
    sweeper: Sweeper
    orphans: Orphans
    journal: Journal
    journal_door: JournalDoor
    space: str = ""
    not_ready: str = "starting"
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def boot(self) -> None:
        """From connected parts to taking work: rooms, what an earlier run left, what was missed meanwhile."""
        await _patiently(partial(welcome.ensure_bot, self.homeserver), "homeserver")
        self.space, self.operators.ops_room = await welcome.ensure_rooms(self.store, self.homeserver, self.settings)
        await _patiently(self.operators.now, "homeserver")  # from now on they are known, whoever is away
        await self.sweeper.begin()
        self.not_ready = ""
        left = {
            "commands": await self.ops.resume(),
            "turns": await self.runner.resume(),
            "sends": await self.sender.resume(),
            "events": await self.dispatcher.resume(),  # last: what it handles makes commands and turns of its own
        }
        log.info("resumed", **left)
        self.own(self._first_gap(), "first gap")
        if not await meta.get(self.store, meta.GREETED):
            self.own(self._greet(), "greeting")

    async def work(self) -> None:
        """Everything that goes on by itself; ends with the first that breaks."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.engine.run(self._everything), name="reconcile")
            group.create_task(self.sweeper.run(), name="sweeper")
            group.create_task(self.orphans.run(), name="orphans")
            group.create_task(self.journal.run(), name="journal")
            group.create_task(self.gaps.watch(lambda: self.operators.ops_room), name="homeserver watch")
            group.create_task(self._backend_events(), name="backend events")
            group.create_task(suspended.watch(self.engine.refresh_all), name="clocks")
            group.create_task(metering.keep(self.store, self.gateway.usage), name="usage")
            group.create_task(self._housekeeping(), name="housekeeping")

    async def handle(self, event: Event) -> Effect | None:
        """Where each event goes."""
        room = await rooms.get(self.store, event.room_id)
        if event.type == "m.room.member":
            self.members.changed(event.room_id)
        if event.state_key is not None:
            await self._drift(event, room)
        operators_changed = self.operators.look(event)
        await self.accounts.look(event)
        if self.journal_door.takes(event, room):
            return await self.journal_door.handle(event)
        if event.room_id == self.operators.ops_room or operators_changed or await self._for_bot(event, room):
            return await self.ops.handle(event, room)
        return await self.router.handle(event, room)

    async def _for_bot(self, event: Event, room: rooms.Room | None) -> bool:
        if event.type == "m.room.member":
            return event.state_key == self.homeserver.bot
        if event.type == "m.reaction":
            return self.ops.may_wait_for(event)
        return event.type == "m.room.message" and await self.ops.addressed(event, room)

    async def _drift(self, event: Event, room: rooms.Room | None) -> None:
        """Somebody changed a room of ours: it is looked at now."""
        if event.sender == self.homeserver.bot:
            return
        if event.type == "m.space.child" and event.state_key:
            room = await rooms.get(self.store, event.state_key)
        if room is not None and room.purpose == "ops" and event.type in (*events.ROOM_STATE, "m.space.child"):
            heal = welcome.heal_ops_room(self.homeserver, self.settings, self.space, room.room_id)
            self.own(heal, "ops room put right")
        if room is None or not room.alias or room.alias not in (wanted := await self.declared.rooms()):
            return
        inside = wanted[room.alias].members | wanted[room.alias].guests
        gone = event.membership in ("leave", "ban") and event.state_key in inside
        strange = event.membership in ("join", "invite", "knock") and event.state_key not in inside
        if gone or strange or event.type in (*events.ROOM_STATE, "m.space.child"):
            self.room_keeper.forget(room.alias)
            self.engine.refresh(Key(ROOM, room.alias))

    async def who_operates(self) -> frozenset[str]:
        """At this moment. Raises Unavailable while there is no ops room to say it."""
        if not self.operators.ops_room:
            raise Unavailable("Opsroom is starting.", fix="Ask again in a moment.")
        return await self.operators.now()

    def operators_changed(self) -> None:
        self.own(self._operators_changed(), "operators changed")

    async def shut_down(self, stop_agents: bool) -> list[str]:
        """End all work in order; rows keep what is open. With `stop_agents` no sandbox is left running but for those
        that are returned: a sentence each."""
        self.not_ready = "shutting down"
        for part in (self.dispatcher, self.ops, self.runner):
            await part.close()
        for task in list(self.tasks):
            task.cancel()
        # Else a pass would start an agent behind our back.
        await self.engine.drain(STARTS_S if stop_agents else DRAIN_S)
        flush = asyncio.create_task(self.sender.flush(FLUSH_S))
        left = await stop_all(self.backend) if stop_agents else []
        await flush
        log.info("shut down", stop_agents=stop_agents, left=left)
        return left

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
        await _patiently(partial(self.gaps.close, ops_room=self.operators.ops_room), "homeserver", tries=None)
        self.journal.caught_up()

    async def _greet(self) -> None:
        """Say hello at once; when parts were still on their way, say so there when they have come."""
        room, found = self.operators.ops_room, await self.checks.run()
        hello = partial(welcome.greet, self.homeserver, self.sender, room, found)
        sent = await outlast(hello, "greet the operators")
        await self.store.write(lambda db: meta.put(db, meta.GREETED, room))
        late = False
        for _ in range(LOOKS):
            if not any(check.level == "fail" for check in found):
                break
            late = True
            await asyncio.sleep(LOOK_EVERY_S)
            found = await self.checks.run()
        if late and sent:
            await welcome.correct(self.homeserver, self.sender, room, sent, found)

    async def _everything(self) -> Iterable[Key]:
        return [*(stored.key for stored in await objects.every(self.store)), *await self.room_keeper.everything()]

    async def _operators_changed(self) -> None:
        """Whoever is away meanwhile, what follows from it is done in the end."""
        await outlast(self.operators.now, "read who operates")
        self.sweeper.look()

    async def _backend_events(self) -> None:
        async for event in self.backend.events():
            if event.name:
                self.engine.wake(Key("Worker", event.name))
                continue
            self.runner.excuse()
            if event.action == "resync":
                self.engine.refresh_all()

    async def _housekeeping(self) -> None:
        while True:
            try:
                await self.store.write(partial(housekeeping.sweep, now=time()))
                await self.accounts.expire(time())
            except OpsroomError as error:
                log.warning("housekeeping put off", problem=str(error))
            await asyncio.sleep(HOUSEKEEPING_S)

    @staticmethod
    async def turn_facts(store: Reader, turn: Turn) -> dict[str, object]:
        """What an agent is told about a turn beside the question."""
        found = await status.get(store, Key("Worker", turn.agent))
        return {
            "org.opsroom.workspace": str(found.facts.get("workspace", "")),
            "org.opsroom.sender": turn.sender,
            "org.opsroom.room": turn.agent,
        }

    async def models(self, name: str) -> list[str] | None:
        stored = await objects.get(self.store, Key("Worker", name))
        if stored is None or stored.deleting:
            return None
        return [self.keeper.model(str(stored.document["spec"]["model"]))]

    async def numbers(self) -> dict[str, float]:
        """For `/metrics`."""
        return {
            **await housekeeping.numbers(self.store),
            "opsroom_reconcile_passes": self.engine.passes,
            "opsroom_reconcile_failures": self.engine.failures,
            "opsroom_reconcile_waiting": self.engine.waiting,
            "opsroom_homeserver_reads": self.homeserver.reads,
            "opsroom_homeserver_writes": self.homeserver.writes,
        }


async def stop_all(backend: Backend) -> list[str]:
    """Stop every sandbox that runs; a sentence for each that could not be."""
    try:
        seen = await backend.observe_all()
    except OpsroomError as error:
        return [str(error)]
    running = sorted(name for name, found in seen.items() if found.state == "running")
    ends = await asyncio.gather(*(backend.stop(name) for name in running), return_exceptions=True)
    left = []
    for name, end in zip(running, ends, strict=True):
        if isinstance(end, BaseException):
            foreseen = isinstance(end, OpsroomError)
            log.error("agent not stopped", worker=name, problem=str(end), exc_info=None if foreseen else end)
            left.append(f"{name}: {end if foreseen else type(end).__name__}")
    return left


async def _patiently(work: Callable[[], Awaitable[object]], what: str, *, tries: int | None = START_TRIES) -> None:
    """Do it once what it needs is there: at start a component may still be on its way. `tries`: None for no end."""
    for attempt in count(1):
        try:
            await work()
        except (OpsroomError, *ERRORS) as error:
            if attempt == tries:
                raise
            log.warning("waiting", what=what, error=str(error), attempt=attempt)
            await asyncio.sleep(min(0.1 * 2 ** min(attempt, 10), 2.0))
        else:
            return
