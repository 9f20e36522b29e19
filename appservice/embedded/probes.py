"""Does a component answer, and is it ours? A port alone proves nothing: somebody else's program may listen there."""

from pathlib import Path
from typing import Any

import aiohttp

from appservice.embedded import ports
from appservice.embedded.child import Probe
from appservice.errors import Unavailable

_PATIENCE = aiohttp.ClientTimeout(total=2)
_NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError)


def on_port(port: int, path: str) -> Probe:
    """Ready when the path answers 200 on a port that the child itself listens on."""

    async def probe(pid: int) -> bool:
        return ports.listens(pid, port) and await _ok(f"http://{ports.HOST}:{port}{path}")

    return probe


def homeserver(port: int, as_token: str, sender: str) -> Probe:
    """Ready when the homeserver knows our registration: its sender's random name is known to no other server."""
    url = f"http://{ports.HOST}:{port}"

    async def probe(pid: int) -> bool:
        return ports.listens(pid, port) and await whoami(url, as_token) == sender

    return probe


def on_socket(socket: Path, path: str, *, expect: str = "") -> Probe:
    """Ready when the path answers 200 on a unix socket in a folder of ours; with `expect`, with that text in it."""

    async def probe(_pid: int) -> bool:
        try:
            async with _session(socket) as http, http.get(f"http://local{path}") as answer:
                return answer.status == 200 and expect in await answer.text()
        except _NO_ANSWER:
            return False

    return probe


def both(one: Probe, other: Probe) -> Probe:
    """Ready when both are."""

    async def probe(pid: int) -> bool:
        return await one(pid) and await other(pid)

    return probe


async def whoami(url: str, as_token: str) -> str:
    """The user a homeserver takes the holder of this token for; '' when it does not answer or does not know it."""
    headers = {"Authorization": f"Bearer {as_token}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=_PATIENCE) as http,
            http.get(f"{url}/_matrix/client/v3/account/whoami", headers=headers) as answer,
        ):
            return str((await answer.json()).get("user_id", "")) if answer.status == 200 else ""
    except (*_NO_ANSWER, ValueError):
        return ""


async def ask(socket: Path, method: str, path: str, body: object = None, *, patience_s: float = 10.0) -> dict[str, Any]:
    """Call the control plane on its operator socket. Raises `Unavailable` when it does not answer."""
    patience = aiohttp.ClientTimeout(total=patience_s)
    try:
        async with (
            _session(socket, patience) as http,
            http.request(method, f"http://local{path}", json=body) as answer,
        ):
            answer.raise_for_status()
            found = await answer.json()
    except (*_NO_ANSWER, ValueError) as error:
        raise Unavailable(
            f"the control plane does not answer {method} {path} ({type(error).__name__}).",
            fix="Look at logs/control-plane.log in the data directory.",
        ) from error
    return dict(found)


def _session(socket: Path, patience: aiohttp.ClientTimeout = _PATIENCE) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket)), timeout=patience)


async def _ok(url: str) -> bool:
    try:
        async with aiohttp.ClientSession(timeout=_PATIENCE) as http, http.get(url) as answer:
            return answer.status == 200
    except _NO_ANSWER:
        return False
