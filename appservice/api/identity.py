"""Who asks. On TCP that is who holds a Matrix access token; on the operator's socket, the operator.

A token is never kept or logged: what is remembered for a minute is its hash.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

from aiohttp import web

from appservice.api.problems import Unauthorized
from appservice.errors import Unavailable

KEPT_S = 60.0
REFUSED_S = 5.0
MOST = 1_000
AT_ONCE = 8
PATIENCE_S = 10.0

Whoami = Callable[[str], Awaitable[str]]
Identify = Callable[[web.Request], Awaitable["Identity"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A Matrix id, and whether it may do everything."""

    user: str
    operator: bool


class Tokens:
    """Bearer tokens of the homeserver. `whoami`: whose a token is, '' for nobody's; `operators` at this moment."""

    def __init__(self, whoami: Whoami, operators: Callable[[], Awaitable[frozenset[str]]]) -> None:
        self._whoami = whoami
        self._operators = operators
        self._known: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._asking = asyncio.Semaphore(AT_ONCE)  # strangers do not get between Opsroom and its homeserver

    async def identify(self, request: web.Request) -> Identity:
        """Raises Unauthorized, and Unavailable while the homeserver says nothing."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized(
                "There is no access token with this request.",
                fix="Send `Authorization: Bearer TOKEN` with an access token of your Matrix account.",
            )
        try:
            async with asyncio.timeout(PATIENCE_S):
                user = await self._user(token)
                operators = await self._operators() if user else frozenset()
        except TimeoutError as error:
            raise Unavailable(
                "The homeserver does not say who you are: it does not answer.", fix="Try again in a moment."
            ) from error
        if not user:
            raise Unauthorized("The homeserver does not know this access token.", fix="Log in again for a new one.")
        return Identity(user=user, operator=user in operators)

    async def _user(self, token: str) -> str:
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        user, until = self._known.get(key, ("", 0.0))
        if until > monotonic():
            return user
        if not token.isascii() or not token.isprintable():
            return ""
        async with self._asking:
            user = await self._whoami(token)
        self._known[key] = (user, monotonic() + (KEPT_S if user else REFUSED_S))
        self._known.move_to_end(key)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return user


def always(user: str) -> Identify:
    """Whoever can open the socket is the operator."""

    async def identify(_request: web.Request) -> Identity:
        return Identity(user=user, operator=True)

    return identify
