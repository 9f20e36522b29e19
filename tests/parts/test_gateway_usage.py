"""What the gateway writes of model calls, and how that is read."""

import asyncio
from contextlib import aclosing

from appservice.gateway import layout, usage
from appservice.gateway.admin import Admin
from appservice.gateway.protocol import Consumer
from tests.support.gateway import BUCKET, Bed, words
from tests.support.provider import Fail, Say


async def test_the_log_counts_what_the_provider_counts(gateway: Bed) -> None:
    who = "counted"
    await gateway.apply(consumers=(Consumer(name=who, models=frozenset({"gpt-a"})),))
    gateway.provider.when("novel", Say(words=50))
    gateway.provider.when("endless", Say(words=50, hold_after=7))
    gateway.provider.when("broken", Fail(400))
    await gateway.chat(who, "gpt-a", text="one two three")
    async with gateway.stream(who, "gpt-a", "a novel please") as stream:
        assert len(await words(stream)) == 50
    async with gateway.stream(who, "gpt-a", "an endless one") as stream:
        assert len(await words(stream, 7)) == 7
    await gateway.provider.until(lambda: gateway.provider.calls[-1].ended == "cut")
    await gateway.chat(who, "gpt-a", text="broken")
    await gateway.chat(who, "gpt-b")
    found = await gateway.usage(5, of=who)
    assert [entry.status for entry in found] == [200, 200, 200, 400, 403]
    assert [(entry.tokens_in, entry.tokens_out) for entry in found] == [(3, 5), (3, 50), (0, 7), (0, 0), (0, 0)]
    assert (sum(e.tokens_in for e in found), sum(e.tokens_out for e in found)) == gateway.provider.tokens()
    assert {(entry.model, entry.route) for entry in found[:4]} == {("gpt-a", "first")}
    assert len({entry.call_id for entry in found}) == 5
    assert found[0].detail == ""
    assert "downstream" in found[2].detail


async def test_retries_are_one_call_in_the_log(gateway: Bed) -> None:
    await gateway.apply(consumers=(Consumer(name="shaky", models=frozenset({"gpt-a"})),))
    gateway.provider.when("shaky", Fail(503), Say("better"))
    await gateway.chat("shaky", "gpt-a", text="shaky")
    (found,) = await gateway.usage(1, of="shaky")
    assert (found.status, found.detail, found.tokens_out) == (200, "2 attempts", 1)


async def test_calls_of_storage_and_of_strangers_are_no_usage(gateway: Bed) -> None:
    await gateway.apply(consumers=(Consumer(name="quiet", models=frozenset({"gpt-a"})),))
    await gateway.ask("GET", f"/{BUCKET}/a", headers={"x-opsroom-token": gateway.token("quiet").text})
    await gateway.ask("GET", "/opsroom/v1/x", headers=gateway.bearer("quiet"))
    await gateway.chat(None, "gpt-a")
    await gateway.chat("quiet", "gpt-a")
    (found,) = await gateway.usage(1, of="quiet")
    assert found.model == "gpt-a"


async def test_the_log_is_read_whole_across_rotations_and_restarts_of_the_reader(gateway: Bed) -> None:
    await gateway.apply(consumers=(Consumer(name="turner", models=frozenset({"gpt-a"})),))
    admin = Admin(gateway.fixed.admin_socket)
    log, offset, seen = gateway.fixed.root / layout.USAGE_LOG, 0, list[str]()
    for round_ in range(4):
        for _ in range(3):
            await gateway.chat("turner", "gpt-a")
        async with (
            asyncio.timeout(60),
            aclosing(usage.follow(log, offset, reopen=admin.reopen_logs, rotate_at=1)) as calls,
        ):
            async for position, entries in calls:
                offset = position
                seen += [entry.call_id for entry in entries if entry.consumer == "turner"]
                if len(seen) == 3 * round_ + 3:
                    break
        await turned(gateway, admin, offset)
    await admin.close()
    assert len(set(seen)) == len(seen) == 12
    assert len(list(log.parent.glob("usage.jsonl.*"))) <= 2


async def turned(gateway: Bed, admin: Admin, offset: int) -> None:
    """Let one reader without work rotate the log."""
    log = gateway.fixed.root / layout.USAGE_LOG
    before = sorted(path.name for path in log.parent.glob("usage.jsonl.*"))

    async def idle() -> None:
        async for _ in usage.follow(log, offset, reopen=admin.reopen_logs, rotate_at=1):
            raise AssertionError("a call was given twice")

    reader = asyncio.create_task(idle())
    async with asyncio.timeout(60):
        while (names := sorted(path.name for path in log.parent.glob("usage.jsonl.*"))) == before or any(
            name.endswith("rotating") for name in names
        ):
            assert not reader.done(), reader.exception()
            await asyncio.sleep(0.05)
    reader.cancel()
    await asyncio.wait([reader])
