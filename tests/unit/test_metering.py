"""From the gateway's log into the store: every call once, whatever happens in between."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from appservice.gateway import metering, usage
from appservice.gateway.protocol import Usage
from appservice.store import consumers
from appservice.store.database import Database
from tests.support.store import fill, free

CALLS = [
    Usage(
        call_id=f"c{n}",
        at=float(n),
        consumer="alice",
        model="gpt-a",
        route="first",
        status=200,
        tokens_in=1,
        tokens_out=2,
        took_ms=3,
        detail="x" * 100_000,
    )
    for n in range(3)
]


async def test_usage_goes_on_where_it_stood_once_a_full_disk_has_space(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering, "AGAIN_S", 0.001)
    begun: list[int] = []
    stored = asyncio.Event()

    async def follow(offset: int) -> AsyncGenerator[tuple[int, list[Usage]], None]:
        begun.append(offset)
        if len(begun) == 3:
            await store.write(free)
        for position in range(offset, len(CALLS)):
            yield position + 1, CALLS[position : position + 1]
            if position == 0:
                await fill(store)
        stored.set()
        await asyncio.Event().wait()

    keeping = asyncio.create_task(metering.keep(store, follow))
    waiting = asyncio.create_task(stored.wait())
    await asyncio.wait({keeping, waiting}, timeout=20, return_when=asyncio.FIRST_COMPLETED)

    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, waiting, return_exceptions=True)
    assert stored.is_set()
    assert begun == [0, 1, 1]
    assert [call.call_id for call in await consumers.calls(store, "alice")] == ["c2", "c1", "c0"]


async def test_whatever_a_provider_counts_is_stored_and_summed(store: Database) -> None:
    line = b'{"type":"DownstreamEnd","ts":1,"id":"x","consumer":"alice","route":"llm/p","model":"\\ud800","usage":%s}'
    stored = asyncio.Event()

    async def follow(_offset: int) -> AsyncGenerator[tuple[int, list[Usage]], None]:
        found = usage.parse(line % b'{"prompt_tokens":9223372036854775808,"completion_tokens":1e999}')
        assert found is not None
        yield 1, [found]
        stored.set()
        await asyncio.Event().wait()

    keeping = asyncio.create_task(metering.keep(store, follow))
    waiting = asyncio.create_task(stored.wait())
    await asyncio.wait({keeping, waiting}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, waiting, return_exceptions=True)

    [used] = await consumers.summary(store, "alice")
    assert (used.tokens_in, used.tokens_out) == (2**31, 2**31)
