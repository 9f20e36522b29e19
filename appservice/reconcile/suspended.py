"""A machine that was suspended: appointments stood still with the monotonic clock, and tokens ran out by the other."""

import asyncio
from collections.abc import Callable
from time import monotonic, time
from typing import NamedTuple

import structlog

LOOK_EVERY_S = 10.0
JUMP_S = 30.0

log = structlog.get_logger()


class Clocks(NamedTuple):
    wall: float
    steady: float


def read() -> Clocks:
    return Clocks(wall=time(), steady=monotonic())


def jumped(before: Clocks, now: Clocks) -> bool:
    """Whether one of them went on without the other."""
    return abs((now.wall - before.wall) - (now.steady - before.steady)) > JUMP_S


async def watch(refresh: Callable[[], None], *, clocks: Callable[[], Clocks] = read) -> None:
    """For ever: have everything looked at when the clocks have come apart."""
    before = clocks()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        now = clocks()
        if jumped(before, now):
            log.info("the clock jumped", seconds=round((now.wall - before.wall) - (now.steady - before.steady)))
            refresh()
        before = now
