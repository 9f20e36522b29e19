"""The AI gateway: who may call which model, with which key, and what it cost.

The configuration is computed whole from the store and compared with what runs; it is never patched.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from appservice.health import Health


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One account at a model provider, OpenAI-shaped. `base_url` ends where `/chat/completions` begins, for example
    `https://api.openai.com/v1`. The key goes out as `header: prefix + key`; '' = no key. `socket`: a unix socket to
    use instead of the address in `base_url` (the offline demo model)."""

    name: str
    base_url: str
    key: str = ""
    header: str = "authorization"
    prefix: str = "Bearer "
    socket: str = ""

    def __repr__(self) -> str:
        return f"Provider({self.name!r}, {self.base_url!r}, key={'set' if self.key else 'none'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """One agent as the gateway sees it: what it may use. Nothing else is allowed."""

    name: str
    models: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """All the gateway must know. `routes`: model name -> provider name. `revoked`: token ids refused until they
    expire."""

    consumers: tuple[Consumer, ...] = ()
    providers: tuple[Provider, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    revoked: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A consumer token (JWT, ES256). `expires_at`: seconds since the epoch."""

    consumer: str
    jti: str
    expires_at: int
    text: str

    def __repr__(self) -> str:
        return f"Token({self.consumer!r}, jti={self.jti!r}, expires_at={self.expires_at})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One finished call, as the gateway logged it. `at`: seconds since the epoch. `call_id` is unique."""

    call_id: str
    at: float
    consumer: str
    model: str
    route: str
    status: int
    tokens_in: int
    tokens_out: int
    took_ms: int
    detail: str = ""


class Gateway(Protocol):
    name: str

    def issue(self, consumer: str, *, now: int, ttl_s: int) -> Token: ...

    def read(self, text: str) -> Token:
        """The token in an agent's file, expired or not. Raises Denied when it is none of ours."""

    async def apply(self, state: GatewayState) -> bool:
        """Make the gateway run exactly this state; True if anything had to be written. Validated before it is
        written, atomic, confirmed by the running gateway. Raises `Invalid` when the gateway refuses it (the old
        state goes on running), `Unavailable` when it does not answer."""

    def usage(self, offset: int) -> AsyncGenerator[tuple[int, list[Usage]], None]:
        """Calls from `offset` (0 = the beginning) on, endless; each with the offset to go on from."""

    async def healthy(self) -> Health: ...

    async def close(self) -> None: ...
