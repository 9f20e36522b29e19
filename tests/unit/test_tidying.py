"""Of what nobody declares, one thing that cannot be removed keeps nothing else."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from appservice.backends.door import door
from appservice.backends.process import ProcessBackend
from appservice.backends.protocol import Observed
from appservice.config import HomeserverSettings, Settings
from appservice.errors import OpsroomError, Unavailable
from appservice.reconcile.orphans import Orphans
from appservice.reconcile.world import World
from appservice.store import consumers
from appservice.store.database import Database

BOT = "@opsroom:hs"


class Engine(ProcessBackend):
    """Three sandboxes are there, and the first of them cannot be removed; or it is away itself."""

    is_away = False

    def told(self, happened: list[str]) -> "Engine":
        self.happened = happened
        return self

    async def observe_all(self) -> Mapping[str, Observed]:
        if self.is_away:
            raise Unavailable("Docker Engine does not answer.")
        return {name: Observed(name=name, state="running") for name in ("By_Hand", "ghost", "wraith")}

    async def remove(self, name: str) -> None:
        if name == "By_Hand":
            await super().remove(name)  # refuses the name
        self.happened.append(f"sandbox of {name}")


@pytest.mark.parametrize("away", ["nothing", "storage", "engine"])
async def test_what_cannot_be_removed_keeps_nothing_else(tmp_path: Path, store: Database, away: str) -> None:
    settings = Settings(data_dir=tmp_path, installation="t", homeserver=HomeserverSettings(server_name="hs"))
    happened: list[str] = []

    async def names() -> list[str]:
        if away == "storage":
            raise Unavailable("Storage does not answer.")
        return ["ghost"]

    async def delete_user(name: str) -> None:
        happened.append(f"storage user of {name}")

    async def sync() -> None:
        happened.append("token")

    async def joined_rooms(*, user: str) -> list[str]:
        happened.append("rooms")
        return []

    engine = Engine(state_dir=tmp_path / "sandboxes", installation="t", image="x").told(happened)
    engine.is_away = away == "engine"
    world = SimpleNamespace(
        settings=settings,
        store=store,
        backend=engine,
        users=SimpleNamespace(names=names),
        keys=SimpleNamespace(delete_user=delete_user),
        keeper=SimpleNamespace(sync=sync),
        homeserver=SimpleNamespace(bot=BOT, joined_rooms=joined_rooms),
        declared=None,
    )
    folder = door(settings, "ghost").secrets_dir
    folder.mkdir(parents=True)
    await store.write(lambda db: consumers.issued(db, "j1", "ghost", 2**40))

    async def unheard() -> list[str]:
        return []

    with pytest.raises(OpsroomError):
        await Orphans(cast("World", world), unheard=unheard, look=lambda _: None).remove()

    sandboxes = [] if away == "engine" else ["sandbox of ghost", "sandbox of wraith"]
    users = [] if away == "storage" else ["storage user of ghost"]
    assert happened == ["token", *sandboxes, *users, "rooms"]
    assert await consumers.holders(store) == []
    assert not folder.exists()
