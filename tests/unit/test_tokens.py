"""An agent's token: renewed while it is paused, and revoked whatever else is away."""

from dataclasses import dataclass, field
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import cast

import pytest

from appservice.backends.door import door
from appservice.backends.inside import write_token
from appservice.backends.process import ProcessBackend
from appservice.config import HomeserverSettings, Settings
from appservice.errors import OpsroomError, Unavailable
from appservice.gateway.envoy import EnvoyGateway
from appservice.gateway.layout import EnvoyFixed
from appservice.gateway.protocol import Token
from appservice.reconcile.kinds import Kinds
from appservice.reconcile.tokens import Tokens
from appservice.reconcile.world import World
from appservice.store import consumers, objects
from appservice.store.changes import Changes, Key
from appservice.store.database import Connection, Database
from tests.support.journalled import declare
from tests.support.rosters import team, worker

ADA = Key("Worker", "ada")


class Away(ProcessBackend):
    """Cannot be reached."""

    async def remove(self, name: str) -> None:
        raise Unavailable(f"Docker Engine does not answer about {name}.")


@dataclass
class Here:
    """A gateway's tokens and a store, and what else an agent is made of as far as its access needs it."""

    settings: Settings
    store: Database
    gateway: EnvoyGateway
    synced: list[frozenset[str]] = field(default_factory=list)  # revoked tokens that the gateway was told
    users_gone: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> Tokens:
        return Tokens(self._world)

    @property
    def kinds(self) -> Kinds:
        return Kinds(self._world)

    @property
    def _world(self) -> World:
        backend = Away(state_dir=self.settings.data_dir, installation="t", image="x")
        world = SimpleNamespace(
            settings=self.settings,
            store=self.store,
            gateway=self.gateway,
            changes=Changes(),
            rooms=None,
            backend=backend,
            keeper=SimpleNamespace(sync=self._sync),
            keys=SimpleNamespace(delete_user=self._delete_user),
        )
        return cast("World", world)

    def token(self, name: str = "ada") -> Token:
        return self.gateway.read(door(self.settings, name).token.read_text())

    async def had(self, name: str, *, left_s: int) -> Token:
        """It was given a token that ends so soon."""
        old = self.gateway.issue(name, now=int(time()), ttl_s=left_s)
        await self.store.write(lambda db: consumers.issued(db, old.jti, name, old.expires_at))
        await write_token(door(self.settings, name).secrets_dir, old.text)
        return old

    async def _sync(self) -> None:
        self.synced.append(await consumers.revoked(self.store, now=int(time())))

    async def _delete_user(self, name: str) -> None:
        self.users_gone.append(name)


@pytest.fixture
def here(tmp_path: Path, store: Database) -> Here:
    settings = Settings(data_dir=tmp_path, installation="t", homeserver=HomeserverSettings(server_name="hs"))
    return Here(settings, store, EnvoyGateway(EnvoyFixed.from_settings(settings), binary="unused"))


async def paused(store: Database, key: Key) -> None:
    async def unit(db: Connection) -> None:
        await objects.set_paused(db, key, paused=True)

    await store.write(unit)


@pytest.mark.parametrize(
    ("document", "key"), [(worker("ada"), ADA), (team("dev", "ada", "ben"), Key("Team", "dev"))], ids=["itself", "team"]
)
@pytest.mark.parametrize("left_s", [100, -100])
async def test_the_token_of_a_paused_agent_is_renewed(here: Here, document: str, key: Key, left_s: int) -> None:
    await declare(here.store, document)
    await paused(here.store, key)
    old = await here.had("ada", left_s=left_s)
    kinds = here.kinds

    assert await kinds.reconcile(ADA) == here.settings.gateway.token_ttl_s / 3

    fresh = here.token()
    assert fresh.jti != old.jti
    assert fresh.expires_at > time() + here.settings.gateway.token_ttl_s - 60
    await kinds.reconcile(ADA)
    assert here.token() == fresh


async def test_a_paused_agent_that_has_no_access_gets_none(here: Here) -> None:
    await declare(here.store, worker("ada"))
    await paused(here.store, ADA)

    await here.kinds.reconcile(ADA)

    assert not door(here.settings, "ada").token.exists()
    assert await consumers.holders(here.store) == []


async def test_an_agent_whose_token_was_revoked_gets_another_one_when_it_is_wanted_again(here: Here) -> None:
    await here.tokens.ensure("ada")
    first = here.token()

    await here.tokens.end("ada")
    assert await consumers.is_revoked(here.store, first.jti)
    assert not door(here.settings, "ada").token.exists()

    await here.tokens.ensure("ada")
    assert here.token().jti != first.jti
    assert not await consumers.is_revoked(here.store, here.token().jti)


async def test_a_deleted_agent_loses_its_access_though_its_sandbox_cannot_be_removed(here: Here) -> None:
    await declare(here.store, worker("ada"))
    await here.tokens.ensure("ada")
    token = here.token()
    await here.store.write(lambda db: objects.begin_delete(db, ADA, author="@op:hs", cause="$2", now=2.0))

    with pytest.raises(OpsroomError, match="does not answer about ada"):
        await here.kinds.reconcile(ADA)

    assert here.synced == [{token.jti}]
    assert here.users_gone == ["ada"]
    assert await objects.get(here.store, ADA)
