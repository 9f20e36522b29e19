"""How storage is reached: its address and key, bounded retries and timeouts, and threads for the blocking SDKs."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

import urllib3

from appservice.errors import Denied, Invalid, Unavailable
from appservice.storage.protocol import AccessKey

P = ParamSpec("P")
T = TypeVar("T")

WORKERS = 8
_TIMEOUT = urllib3.Timeout(connect=3.0, read=30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One storage server and the control plane's own key to it."""

    endpoint: str
    region: str
    key: AccessKey

    def __post_init__(self) -> None:
        url = urlsplit(self.endpoint)
        if url.scheme not in ("http", "https") or not url.hostname or url.path not in ("", "/") or url.username:
            raise Invalid(
                f"{self.endpoint!r} is not the address of a storage server",
                where="storage.endpoint",
                fix="Write it as http://HOST:PORT or https://HOST.",
            )

    @property
    def secure(self) -> bool:
        return urlsplit(self.endpoint).scheme == "https"

    @property
    def host(self) -> str:
        """Host and port, as in the `Host` header."""
        return urlsplit(self.endpoint).netloc

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}/"


class Threads:
    """One bounded pool for one blocking client."""

    def __init__(self, name: str, *, workers: int = WORKERS) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the call in a thread, in the caller's context. A cancelled caller leaves it to its own timeouts."""
        inside = partial(contextvars.copy_context().run, call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, inside)

    async def close(self) -> None:
        """Wait for the calls that run and drop those that wait."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)


def http_client(*, repeatable: bool) -> urllib3.PoolManager:
    """Make a client that gives up after seconds. Only `repeatable` calls are sent again once they were received."""
    again = 2 if repeatable else 0
    retries = urllib3.Retry(
        total=2,
        connect=2,
        read=again,
        status=again,
        other=0,
        redirect=0,
        allowed_methods=None,
        status_forcelist=(500, 502, 503, 504) if repeatable else (),
        backoff_factor=0.1,
        raise_on_status=False,
    )
    return urllib3.PoolManager(maxsize=WORKERS, timeout=_TIMEOUT, retries=retries)


def unreachable(server: Server, reason: str = "") -> Unavailable:
    """Say that storage does not answer, or answers with a fault of its own."""
    return Unavailable(
        f"Storage does not work: {reason}." if reason else "Storage does not answer.",
        where=server.endpoint,
        fix="Check that it runs, that its disk is not full, and that `storage.endpoint` is right.",
    )


def refused(server: Server, what: str, code: str) -> Denied:
    """Say that storage knows the call and forbids it."""
    return Denied(
        f"Storage refuses to {what} ({code}).",
        where=server.endpoint,
        fix="Check `storage.access_key` and its secret: the key needs the right to do this.",
    )
