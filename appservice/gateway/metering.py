"""Keep what agents use: from the gateway's log into the store, each call once."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial

import structlog

from appservice.errors import OpsroomError
from appservice.gateway.protocol import Usage
from appservice.store import consumers, meta
from appservice.store.database import Connection, Database

OFFSET = "usage_offset"
AGAIN_S = 5.0

log = structlog.get_logger()

Follow = Callable[[int], AsyncGenerator[tuple[int, list[Usage]], None]]


async def keep(store: Database, follow: Follow) -> None:
    """Endless. What cannot be read or stored now is read again from where the store stands."""
    while True:
        try:
            await _keep(store, follow)
        except (OpsroomError, OSError) as error:
            log.warning("usage put off", problem=str(error))
            await asyncio.sleep(AGAIN_S)


async def _keep(store: Database, follow: Follow) -> None:
    offset = int(await meta.get(store, OFFSET) or 0)
    async with aclosing(follow(offset)) as readings:
        async for position, found in readings:
            await store.write(partial(_store, [_call(used) for used in found if used.model], position))


async def _store(calls: Sequence[consumers.Call], position: int, db: Connection) -> None:
    for call in calls:
        await consumers.used(db, call)
    await meta.put(db, OFFSET, str(position))


def _call(used: Usage) -> consumers.Call:
    return consumers.Call(
        call_id=used.call_id,
        at=used.at,
        consumer=used.consumer,
        model=used.model,
        status=used.status,
        tokens_in=used.tokens_in,
        tokens_out=used.tokens_out,
        took_ms=used.took_ms,
        detail=used.detail,
    )
