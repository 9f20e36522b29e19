"""Wait out a homeserver that is away, or a full disk: what cannot be done now is done later, for a day at most."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

import structlog

from appservice.errors import Unavailable
from appservice.homeserver.client import ERRORS, is_gone

FIRST_S = 0.5
LONGEST_S = 15.0
GIVE_UP_S = 23 * 3600.0

T = TypeVar("T")

log = structlog.get_logger()


async def outlast(work: Callable[[], Awaitable[T]], doing: str) -> T:
    """Do it, again and again while the homeserver does not answer or the store takes nothing. Raises what the
    homeserver refuses for good."""
    begun = monotonic()
    pause = FIRST_S
    while True:
        try:
            return await work()
        except (Unavailable, *ERRORS) as error:
            if is_gone(error) or monotonic() - begun > GIVE_UP_S:
                raise
            log.warning("put off", doing=doing, error=str(error) or type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_S)
