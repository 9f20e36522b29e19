"""Accounts of people on a real homeserver, with each of the two things that make them."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appservice.config import HomeserverSettings, Settings
from appservice.errors import Invalid, Unavailable
from appservice.homeserver import accounts
from appservice.homeserver.accounts import Means
from tests.support.synapse import SHARED_SECRET, Synapse, running_synapse

SECRET = Means(kind="secret", value=SHARED_SECRET)


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Synapse]:
    """One that takes registration tokens."""
    more = {"enable_registration": True, "registration_requires_token": True}
    async with running_synapse(tmp_path_factory.mktemp("accounts"), more=more) as found:
        yield found


@pytest.fixture(scope="module")
async def token(server: Synapse) -> str:
    admin = await server.person("boss", admin=True)
    path = "/_synapse/admin/v1/registration_tokens/new"
    return str((await server.call("POST", path, {}, token=admin.token))["token"])


async def test_the_shared_secret_makes_an_account_with_its_name_that_is_no_admin(server: Synapse) -> None:
    password = secrets.token_urlsafe()
    assert await accounts.register(server.url, SECRET, "ada", password, shown="Ada L.")
    assert await accounts.opens(server.url, "ada", password)
    assert not await accounts.opens(server.url, "ada", "another one")
    profile = await server.call("GET", f"/_matrix/client/v3/profile/@ada:{server.server_name}")
    assert profile["displayname"] == "Ada L."
    assert not await accounts.register(server.url, SECRET, "ada", password), "there is one of that name"


async def test_a_registration_token_makes_an_account(server: Synapse, token: str) -> None:
    password = secrets.token_urlsafe()
    assert await accounts.register(server.url, Means(kind="token", value=token), "bea", password)
    assert await accounts.opens(server.url, "bea", password)
    assert not await accounts.register(server.url, Means(kind="token", value=token), "bea", password)


async def test_an_account_that_takes_no_name_when_it_is_made_gets_it_afterwards(server: Synapse, token: str) -> None:
    password = secrets.token_urlsafe()
    assert await accounts.register(server.url, Means(kind="token", value=token), "cleo", password)
    assert await accounts.name(server.url, "cleo", password, "Cleo C.") == ""
    profile = await server.call("GET", f"/_matrix/client/v3/profile/@cleo:{server.server_name}")
    assert profile["displayname"] == "Cleo C."
    admin = await server.person("chief", admin=True)
    path = f"/_synapse/admin/v2/users/@cleo:{server.server_name}/devices"
    assert (await server.call("GET", path, token=admin.token))["total"] == 0, "it is logged out again"
    assert "password" in await accounts.name(server.url, "cleo", "another", "Cleo")


async def test_a_wrong_token_or_secret_is_refused_in_the_homeservers_words(server: Synapse) -> None:
    for means in (Means(kind="token", value="wrong"), Means(kind="secret", value="wrong")):
        with pytest.raises(Unavailable, match="did not make the account of eve"):
            await accounts.register(server.url, means, "eve", secrets.token_urlsafe())


async def test_a_homeserver_that_takes_no_tokens_says_so(synapse: Synapse) -> None:
    with pytest.raises(Unavailable, match="did not make the account of eve"):
        await accounts.register(synapse.url, Means(kind="token", value="any"), "eve", secrets.token_urlsafe())


def test_what_makes_accounts_is_read_from_the_files_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t-value\n")
    (tmp_path / "secret").write_text("s-value\n")
    for named, kind, value in (("token", "token", "t-value"), ("secret", "secret", "s-value")):
        files = HomeserverSettings.model_validate({"url": "http://hs", f"registration_{named}_file": tmp_path / named})
        found = accounts.means(Settings(homeserver=files, data_dir=tmp_path))
        assert found == Means(kind=kind, value=value)  # type: ignore[arg-type]
        assert value not in repr(found)
    assert accounts.means(Settings(homeserver=HomeserverSettings(url="http://hs"), data_dir=tmp_path)) is None
    own = Settings(homeserver=HomeserverSettings(registration_token_file=tmp_path / "token"), data_dir=tmp_path)
    assert accounts.means(own) == Means(kind="token", value="t-value")
    own.registration_secret.parent.mkdir()
    own.registration_secret.write_text("made by up\n")
    assert accounts.means(own) == Means(kind="secret", value="made by up"), "it sets the name, too"
    missing = HomeserverSettings(url="http://hs", registration_token_file=tmp_path / "none")
    with pytest.raises(Invalid, match="cannot be read"):
        accounts.means(Settings(homeserver=missing, data_dir=tmp_path))
