"""Composition root: the only module that knows every part. It opens them in order and closes them in reverse."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import structlog
from aiohttp import web

from appservice import __version__, logs
from appservice.api import agents as agents_api
from appservice.api import identity
from appservice.api import operator as operator_api
from appservice.api import public as public_api
from appservice.api import server as rest_api
from appservice.api import world as rest
from appservice.backends.choose import choose_again, default_image
from appservice.backends.door import door
from appservice.config import Settings
from appservice.conversations.calling import Calling
from appservice.conversations.router import Router
from appservice.conversations.runner import Runner
from appservice.conversations.running import Agents
from appservice.conversations.waking import Waking
from appservice.gateway import providers
from appservice.gateway.envoy import EnvoyGateway
from appservice.gateway.layout import EnvoyFixed
from appservice.homeserver import accounts, content, registration
from appservice.homeserver.arrivals import since_arrival
from appservice.homeserver.client import Homeserver
from appservice.homeserver.dispatch import Dispatcher
from appservice.homeserver.gaps import Gaps
from appservice.homeserver.live import Pace
from appservice.homeserver.members import Members, Operators
from appservice.homeserver.sender import Sender
from appservice.ops.checks import Checks
from appservice.ops.describe import Tries
from appservice.ops.door import Door
from appservice.ops.hands import Hands, checked
from appservice.ops.journal import JournalDoor
from appservice.ops.order import Order
from appservice.ops.room import OpsRoom
from appservice.ops.uploads import Uploads
from appservice.ops.verbs import Verbs
from appservice.plane import Plane
from appservice.policy.roster import Names
from appservice.reconcile.accounts import Accounts
from appservice.reconcile.adoption import Adoption
from appservice.reconcile.desk import Desk
from appservice.reconcile.engine import Engine
from appservice.reconcile.identity import Identities
from appservice.reconcile.journal import Journal
from appservice.reconcile.keeper import GatewayKeeper
from appservice.reconcile.kinds import Kinds
from appservice.reconcile.orphans import Orphans
from appservice.reconcile.rooms import KIND as ROOM
from appservice.reconcile.rooms import RoomKeeper
from appservice.reconcile.sweeper import Sweeper
from appservice.reconcile.world import World
from appservice.rooms.declared import Declared
from appservice.runtimes.a2a import Agent
from appservice.storage.connect import connect
from appservice.storage.keys import Keys
from appservice.store import lease
from appservice.store.changes import Changes
from appservice.store.database import Connection, Database
from appservice.store.outbox import Outgoing
from appservice.store.turns import Turn
from appservice.workspace import publish
from appservice.workspace.names import prefix

_LONGEST_ADDRESS = 2**16  # longer ones aiohttp refuses without us, and in its own way

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


@asynccontextmanager
async def control_plane(settings: Settings) -> AsyncIterator[Plane]:
    """Open everything, boot, and close in reverse. Until nobody else works on this database, nothing is opened: the
    homeserver goes on trying, and the schema stays what the other one knows."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(lease.alone(settings.database))
        settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        store = await Database.open(settings.database)
        stack.push_async_callback(store.close)
        plane = await _compose(settings, store, stack)
        await _listen(plane, stack)
        await plane.boot()
        gc.freeze()  # what is here now stays: no collection looks at it again
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
    backend = await choose_again(settings, store)
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
    keeper = GatewayKeeper(
        store,
        gateway,
        available,
        lambda model: providers.route(model, settings, available),
        default_model=providers.default_model(settings, available),
    )

    async def on_dead(item: Outgoing, reason: str) -> None:
        if not item.txn_id.startswith("dead."):
            await sender.send(_dead_letter(item, reason, operators.ops_room, settings.bot_id))

    sender = Sender(store, homeserver, on_dead=on_dead)
    stack.push_async_callback(sender.close)

    agents: dict[str, Agent] = {}

    def agent(name: str) -> Agent:
        if name not in agents:
            agents[name] = Agent(door(settings, name).socket, silent_s=settings.agents.silent_s)
        return agents[name]

    async def hang_up(name: str) -> None:
        if name in agents:
            await agents.pop(name).close()

    async def hang_up_all() -> None:
        for name in list(agents):
            await hang_up(name)

    stack.push_async_callback(hang_up_all)

    async def brief(db: Connection, turn: Turn) -> dict[str, object]:
        await waking.wanted(db, turn.agent)
        return await plane.turn_facts(db, turn)

    declared = Declared(store, names, operators.last_known, prefix=settings.alias_prefix)
    identities = Identities(homeserver, names)
    room_keeper = RoomKeeper(homeserver, store, declared, identities, lambda key: engine.refresh(key))
    people = Accounts(store, homeserver, sender, means=accounts.means(settings), ops_room=lambda: operators.ops_room)
    world = World(
        settings=settings,
        store=store,
        changes=changes,
        homeserver=homeserver,
        sender=sender,
        backend=backend,
        gateway=gateway,
        keeper=keeper,
        objects=stored,
        users=users,
        keys=keys,
        image=default_image(settings),
        agent=agent,
        declared=declared,
        rooms=room_keeper,
        identities=identities,
        accounts=people,
    )
    engine = Engine(Kinds(world).reconcile, parallel=settings.parallel, beside=(ROOM, "Human"))
    waking = Waking(store, door=agent, look=engine.refresh, awake_s=settings.agents.awake_s)
    runner = Runner(
        store=store,
        homeserver=homeserver,
        sender=sender,
        pace=pace,
        agents=Agents(
            door=agent,
            user=names.user,
            awake=waking.awake,
            wake=waking.wake,
            brief=brief,
            calls=Calling(members, declared.roster).calls,
        ),
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
        journal=lambda: journal_door.health(),
        rooms=room_keeper.health,
    )
    desk = Desk(store, changes, engine.refresh, names)
    hands = Hands(
        settings=settings,
        store=store,
        changes=changes,
        backend=backend,
        objects=stored,
        desk=desk,
        order=Order(),
        stop_turn=runner.stop,
        checks=checks.run,
        managed=lambda name: publish.managed(stored, prefix(name)),
        explain=lambda user, agent, room: router.explain(user, agent, room),
        names=names,
        tries=lambda key: Tries(failed=engine.attempts(key), next_s=engine.due_in(key)),
        confirm=lambda event, question: ops.confirm(event, question),
        resolve=homeserver.resolve,
        adoption=Adoption(homeserver, store, declared, room_keeper, engine.refresh),
    )
    ops = OpsRoom(
        store=store,
        homeserver=homeserver,
        members=members,
        operators=operators,
        sender=sender,
        pace=pace,
        verbs=Verbs(hands, Uploads(homeserver)),
        order=hands.order,
        is_ours=names.is_ours,
        operators_changed=lambda: plane.operators_changed(),
    )
    stack.push_async_callback(ops.close)
    router = Router(
        store=store,
        homeserver=homeserver,
        members=members,
        sender=sender,
        runner=runner,
        names=names,
        declared=declared,
        hop_limit=settings.agents.hop_limit,
    )
    dispatcher = Dispatcher(store, lambda event: plane.handle(event), is_ours=names.is_ours)
    stack.push_async_callback(dispatcher.close)
    journal = Journal(
        store=store,
        changes=changes,
        homeserver=homeserver,
        rooms=room_keeper,
        prefix=settings.alias_prefix,
        receive=dispatcher.receive,
        tell=lambda keys: journal_door.tell(keys),
        limit=settings.journal_keys,
    )
    journal_door = JournalDoor(
        store=store, homeserver=homeserver, operators=operators, sender=sender, desk=desk, writer=journal
    )
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
        gaps=Gaps(store, homeserver, lambda batch: dispatcher.receive(since_arrival(batch, settings.bot_id))),
        runner=runner,
        engine=engine,
        ops=ops,
        door=Door(hands),
        desk=hands.desk,
        router=router,
        checks=checks,
        keys=keys,
        keeper=keeper,
        room_keeper=room_keeper,
        declared=declared,
        accounts=people,
        sweeper=Sweeper(store, changes, declared, wake=engine.wake, refresh=engine.refresh, gone=hang_up),
        orphans=Orphans(world, unheard=journal.unheard, look=engine.refresh),
        journal=journal,
        journal_door=journal_door,
    )
    return plane


async def _listen(plane: Plane, stack: AsyncExitStack) -> None:
    """Open the doors: the homeserver's, the agents', the operator's, and that of whoever has a Matrix account."""
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
    world = _rest(plane)
    rest_api.install(operator, world, identity.always(settings.operator_id))
    if settings.api_url:
        tokens = identity.Tokens(plane.homeserver.holder, plane.who_operates)
        runner = await _runner(rest_api.app(world, tokens.identify), stack)
        await web.TCPSite(runner, settings.api.listen_host, settings.api.listen_port).start()
    runner = await _runner(public, stack)
    await web.TCPSite(runner, settings.homeserver.listen_host, settings.homeserver.listen_port).start()
    for name, app in (("control", agents_api.app(plane.keys, facts)), ("operator", operator)):
        path = settings.run_dir / f"{name}.sock"
        await web.UnixSite(await _runner(app, stack), _fresh(path)).start()
        path.chmod(0o600)


def _rest(plane: Plane) -> rest.World:
    return rest.World(
        store=plane.store,
        changes=plane.changes,
        desk=plane.desk,
        read=checked,
        logs=lambda name, lines: plane.backend.logs(name, lines=lines),
        own_files=plane.door.own_files,
        explain=plane.door.explain,
        obey=plane.door.obey,
        not_ready=lambda: plane.not_ready,
        facts=lambda: {"backend": plane.backend.name, "isolation": plane.backend.isolation},
    )


async def _runner(app: web.Application, stack: AsyncExitStack) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, max_line_size=_LONGEST_ADDRESS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


def _fresh(path: Path) -> str:
    path.unlink(missing_ok=True)
    return str(path)


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
