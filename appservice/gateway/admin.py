"""Envoy's admin socket: is it ready, and which version of each file does it run."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from appservice.errors import Unavailable
from appservice.gateway import layout
from appservice.gateway.listener import ROUTES_NAME

_STATS = "/stats?filter=(version_text%7Cupdate_rejected%7Cupdate_failure)$"
_PREFIXES = {
    layout.DENY: "extension_config_discovery.http_filter.ops-deny",
    layout.GRANTS: "extension_config_discovery.http_filter.ops-grants",
    layout.JWT: "extension_config_discovery.http_filter.ops-jwt",
    layout.ROUTES: f"http.gateway.rds.{ROUTES_NAME}",
    layout.CLUSTERS: "cluster_manager.cds",
}
_KEY_FILE = re.compile(layout.key_file("(.+)"))


@dataclass(frozen=True, slots=True)
class Running:
    """What Envoy says of the files it read."""

    stats: Mapping[str, str]

    def version(self, path: str) -> str:
        return self.stats.get(f"{_prefix(path)}.version_text", "").strip('"')

    def refusals(self, path: str) -> int:
        return sum(int(self.stats.get(f"{_prefix(path)}.{name}", 0)) for name in ("update_rejected", "update_failure"))


def _prefix(path: str) -> str:
    of_key = _KEY_FILE.fullmatch(path)
    return f"sds.{of_key[1]}" if of_key else _PREFIXES[path]


class Admin:
    """A client of the admin socket. Every call is a connection of its own, so an Envoy that was restarted is found."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def running(self) -> Running:
        lines = (await self._call("GET", _STATS)).splitlines()
        return Running(dict(line.split(": ", 1) for line in lines if ": " in line))

    async def info(self) -> dict[str, Any]:
        text = await self._call("GET", "/server_info")
        found: dict[str, Any] = json.loads(text)
        return found

    async def reopen_logs(self) -> None:
        await self._call("POST", "/reopen_logs")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(self, method: str, path: str) -> str:
        if self._session is None:
            connector = aiohttp.UnixConnector(str(self._socket), force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=5))
        try:
            async with self._session.request(method, f"http://envoy{path}") as answer:
                return await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            fix = "See its log; `opsroom up` starts it again."
            raise Unavailable("The gateway (Envoy) does not answer.", where=str(self._socket), fix=fix) from error
