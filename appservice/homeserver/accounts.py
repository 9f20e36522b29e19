"""Accounts of people, made with what the homeserver gives to those who may make them.

Sources: Synapse admin API "shared-secret registration"; client-server API, `m.login.registration_token` (MSC3231).
"""

import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import aiohttp

from appservice.config import Settings
from appservice.errors import Invalid, Unavailable

_ADMIN = "/_synapse/admin/v1/register"
_CLIENT = "/_matrix/client/v3/register"
_LOGIN = "/_matrix/client/v3/login"
_LOGOUT = "/_matrix/client/v3/logout"
_TOKEN_FLOW = "m.login.registration_token"  # noqa: S105 - the name of a flow


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What makes accounts: Synapse's shared secret, or a registration token. `admin`: accounts of server admins."""

    kind: Literal["secret", "token"]
    value: str
    admin: bool = False

    def __repr__(self) -> str:
        return f"Means({self.kind})"


def means(settings: Settings) -> Means | None:
    """What the settings give: a secret, of our own homeserver too, before a token, for it also sets the name. Raises
    `Invalid` for a named file that cannot be read."""
    named, secret = settings.homeserver, settings.registration_secret
    if named.registration_secret_file is not None or (settings.own_homeserver and secret.exists()):
        return Means(kind="secret", value=_read(secret))
    if named.registration_token_file is not None:
        return Means(kind="token", value=_read(named.registration_token_file))
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}", fix="Name a file that Opsroom may read.") from error


async def register(url: str, means: Means, localpart: str, password: str, *, shown: str = "") -> bool:
    """Make an account; False when there is one of that name already.

    Raises `Unavailable` when the homeserver refuses.
    """
    try:
        async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=15)) as http:
            with_means = _with_secret if means.kind == "secret" else _with_token
            status, said = await with_means(http, means, localpart, password, shown)
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        raise Unavailable(f"the homeserver did not make the account of {localpart}: {error}.") from error
    if status == 200:
        return True
    if said.get("errcode") == "M_USER_IN_USE":
        return False
    raise Unavailable(f"the homeserver did not make the account of {localpart}: {said.get('error')}.")


async def opens(url: str, localpart: str, password: str) -> bool:
    """Whether this password is the account's. Raises `Unavailable` when the homeserver does not say."""
    try:
        async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=15)) as http:
            status, said = await _login(http, localpart, password)
            if status == 200:
                await _logout(http, said)
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        raise Unavailable(f"the homeserver does not say whose account {localpart} is: {error}.") from error
    if status not in (200, 403):
        raise Unavailable(f"the homeserver does not say whose account {localpart} is: {said.get('error')}.")
    return status == 200


async def name(url: str, localpart: str, password: str, shown: str) -> str:
    """Set the display name of an account as the person would; why that failed, or ''."""
    try:
        async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=15)) as http:
            status, login = await _login(http, localpart, password)
            if status != 200:
                return str(login.get("error"))
            path = f"/_matrix/client/v3/profile/{quote(login['user_id'])}/displayname"
            try:
                async with http.put(path, json={"displayname": shown}, headers=_as(login)) as answer:
                    return "" if answer.status == 200 else str((await answer.json()).get("error"))
            finally:
                await _logout(http, login)
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        return str(error) or type(error).__name__


async def _login(http: aiohttp.ClientSession, localpart: str, password: str) -> tuple[int, dict[str, Any]]:
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": localpart},
        "password": password,
    }
    return await _post(http, _LOGIN, body)


async def _logout(http: aiohttp.ClientSession, login: dict[str, Any]) -> None:
    async with http.post(_LOGOUT, json={}, headers=_as(login)):
        pass


def _as(login: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {login['access_token']}"}


async def _with_secret(
    http: aiohttp.ClientSession, means: Means, localpart: str, password: str, shown: str
) -> tuple[int, dict[str, Any]]:
    async with http.get(_ADMIN) as answer:
        nonce = str((await answer.json())["nonce"])
    role = "admin" if means.admin else "notadmin"
    mac = hmac.new(means.value.encode(), "\0".join([nonce, localpart, password, role]).encode(), "sha1").hexdigest()
    body = {"nonce": nonce, "username": localpart, "password": password, "admin": means.admin, "mac": mac}
    return await _post(http, _ADMIN, body | ({"displayname": shown} if shown else {}))


async def _with_token(
    http: aiohttp.ClientSession, means: Means, localpart: str, password: str, _shown: str
) -> tuple[int, dict[str, Any]]:
    """The display name is the person's to set: this call takes none, see `name`."""
    body: dict[str, Any] = {"username": localpart, "password": password, "inhibit_login": True}
    status, said = await _post(http, _CLIENT, body)
    done: set[str] = set()
    while status == 401 and "session" in said:
        stages = next((flow["stages"] for flow in said["flows"] if _TOKEN_FLOW in flow["stages"]), ())
        todo = next((stage for stage in stages if stage not in done), None)
        if todo not in (_TOKEN_FLOW, "m.login.dummy"):
            return 403, {"error": "it takes no registration token"}
        done.add(todo)
        auth = {"type": todo, "session": said["session"]} | ({"token": means.value} if todo == _TOKEN_FLOW else {})
        status, said = await _post(http, _CLIENT, body | {"auth": auth})
    return status, said


async def _post(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with http.post(path, json=body) as answer:
        return answer.status, dict(await answer.json())
