"""`opsroom restore --from-room`: the homeserver alone is there, the store is rebuilt from its journal room."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from appservice import config
from appservice.embedded.backup import unused
from appservice.embedded.supervisor import Supervisor
from appservice.embedded.world import HOMESERVER, World, prepare, settle
from appservice.errors import NotFound
from appservice.homeserver.client import Homeserver
from appservice.policy.roster import Names
from appservice.reconcile.rebuilding import Rebuilt, rebuild
from appservice.store.database import Database


async def from_room(data_dir: Path, *, say: Callable[[str], None]) -> Rebuilt:
    """Start our own homeserver if there is one, rebuild, stop it. Raises OpsroomError with a sentence."""
    _ready(data_dir)
    with unused(data_dir), ExitStack() as reserved:
        settings = settle(data_dir, {}, reserved, web=False).settings
        world = prepare(settings)
        supervisor = Supervisor(settings.logs_dir, say=say)
        try:
            await supervisor.start(one for one in world.foundations if one.name == HOMESERVER)
            return await _rebuild(world)
        finally:
            await supervisor.stop()


def _ready(data_dir: Path) -> None:
    """A homeserver that would be made now has no journal; with one of its own the folder may be lost, too."""
    if config.load(data_dir).own_homeserver and not (data_dir / "homeserver" / "homeserver.db").exists():
        raise NotFound(
            f"there is no homeserver in {data_dir} whose journal could be read.",
            fix="Name its folder with --data-dir.",
        )
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)


async def _rebuild(world: World) -> Rebuilt:
    settings = world.settings
    homeserver = Homeserver(
        settings.homeserver.url, world.registration, server_name=settings.server_name, bot=settings.bot_id
    )
    store = await Database.open(settings.database)
    names = Names(bot=settings.bot_id, prefix=settings.user_prefix, server_name=settings.server_name)
    try:
        return await rebuild(store, homeserver, prefix=settings.alias_prefix, names=names)
    finally:
        await store.close()
        await homeserver.close()
