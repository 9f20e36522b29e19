"""What the gateway is told while it works: taken over whole, or refused and taken back; and what a restart finds."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from appservice.errors import Invalid, Unavailable
from appservice.gateway import layout
from appservice.gateway.envoy import EnvoyGateway, prepare
from appservice.gateway.protocol import Consumer, Provider
from tests.support.gateway import BUCKET, SECRETS, Bed, words
from tests.support.provider import Say


def files_of(gateway: Bed) -> dict[str, tuple[int, bytes]]:
    """Every watched file: its inode changes with each write."""
    return {
        str(path): (path.stat().st_ino, path.read_bytes()) for path in sorted((gateway.fixed.root / "xds").iterdir())
    }


async def test_a_revoked_token_is_401_at_every_route_and_others_go_on(gateway: Bed) -> None:
    old, new = gateway.token("alice"), gateway.token("alice")
    gateway.provider.when("novel", Say(words=30, hold_after=10))
    async with gateway.stream(old, "gpt-a", "novel") as running:
        got = await words(running, 10)
        assert await gateway.apply(revoked=frozenset({old.jti})) is True
        answer = await gateway.chat(old, "gpt-a")
        assert (answer.status, answer.json["error"]["message"]) == (401, "this token was revoked")
        for path in ("/opsroom/v1/x", f"/{BUCKET}/a"):
            assert (await gateway.ask("GET", path, headers={"x-opsroom-token": old.text})).status == 401
        assert (await gateway.chat(new, "gpt-a")).status == 200
        assert (await gateway.chat("bob", "gpt-b")).status == 200
        gateway.provider.release()
        assert len(got + await words(running)) == 30


async def test_a_stream_stays_whole_while_everything_around_it_changes(gateway: Bed) -> None:
    gateway.provider.when("novel", Say(words=40, hold_after=15))
    async with gateway.stream("alice", "gpt-a", "novel") as running:
        got = await words(running, 15)
        changed = replace(gateway.base.providers[0], key="sk-rotated", base_url="http://127.0.0.1:9/v1")
        await gateway.apply(
            consumers=(Consumer(name="bob", models=frozenset({"new"})),),
            providers=(changed, Provider(name="another", base_url="http://127.0.0.1:9/v1", key="k")),
            routes=(("new", "another"),),
            revoked=frozenset({"some", "tokens"}),
        )
        assert (await gateway.chat("alice", "gpt-a")).status == 403
        gateway.provider.release()
        got += await words(running)
    assert got == [f"word{n} " for n in range(1, 41)]
    assert gateway.provider.calls[0].ended == "whole"


async def test_a_new_key_is_used_by_the_next_call_and_the_old_one_is_gone(gateway: Bed) -> None:
    rotated = replace(gateway.base.providers[0], key="sk-rotated")
    assert await gateway.apply(providers=(rotated, *gateway.base.providers[1:])) is True
    await gateway.chat("alice", "gpt-a")
    assert gateway.provider.calls[-1].headers["authorization"] == "Bearer sk-rotated"
    kept = [path.read_text() for path in (gateway.fixed.root / "secrets").iterdir()]
    assert "sk-rotated" in kept
    assert SECRETS[0] not in kept


async def test_the_same_state_again_writes_nothing(gateway: Bed) -> None:
    before = files_of(gateway)
    assert await gateway.apply() is False
    assert files_of(gateway) == before


async def test_a_new_control_plane_finds_the_state_as_it_is(gateway: Bed) -> None:
    before = files_of(gateway)
    another = EnvoyGateway(gateway.fixed)
    prepare(gateway.fixed)  # as a second start beside a running Envoy would
    assert await another.apply(gateway.base) is False
    await another.close()
    assert {path: content for path, (_, content) in files_of(gateway).items()} == {
        path: content for path, (_, content) in before.items()
    }


async def test_a_removed_consumer_and_provider_leave_nothing(gateway: Bed) -> None:
    await gateway.apply(consumers=(), providers=(), routes=())
    assert (await gateway.chat("alice", "gpt-a")).status == 403
    assert list((gateway.fixed.root / "secrets").iterdir()) == []
    assert list((gateway.fixed.root / "xds").glob("sds-*")) == []
    assert "alice" not in "".join(path.read_text() for path in (gateway.fixed.root / "xds").iterdir())


async def test_a_state_that_means_nothing_is_refused_by_name(gateway: Bed) -> None:
    with pytest.raises(Invalid) as refused:
        await gateway.apply(
            consumers=(Consumer(name="a|b", models=frozenset({"x\n"})),),
            routes=(("gpt-a", "first"), ("gpt-a", "second"), ("m", "missing")),
            providers=(*gateway.base.providers, Provider(name="../x", base_url="ftp://x")),
        )
    told = str(refused.value)
    for part in ("'a|b'", "'x\\n'", "two providers", "'missing'", "'../x'", "base_url"):
        assert part in told


async def test_a_state_that_envoy_would_refuse_is_not_written_and_the_old_one_runs(gateway: Bed) -> None:
    before = files_of(gateway)
    broken = replace(gateway.base.providers[0], header="no header\n", key="sk-new")
    with pytest.raises(Invalid, match="Envoy refuses"):
        await gateway.apply(providers=(broken, *gateway.base.providers[1:]))
    assert files_of(gateway) == before
    assert sorted(p.read_text() for p in (gateway.fixed.root / "secrets").iterdir()) == sorted([*SECRETS, SECRETS[2]])
    assert (await gateway.chat("alice", "gpt-a")).status == 200


async def test_a_file_that_the_running_envoy_refuses_is_put_back(gateway: Bed) -> None:
    careless = EnvoyGateway(gateway.fixed, binary="/bin/true")  # its trial passes everything
    broken = replace(gateway.base.providers[0], header="no header\n")
    state = replace(gateway.base, providers=(broken, *gateway.base.providers[1:]))
    with pytest.raises(Invalid, match="put back"):
        await careless.apply(state)
    await careless.close()
    assert (await gateway.chat("alice", "gpt-a")).status == 200
    assert await gateway.apply() is False


async def test_a_revocation_counts_even_when_the_rest_of_the_change_is_refused(gateway: Bed) -> None:
    token = gateway.token("alice")
    broken = replace(gateway.base.providers[0], header="no header\n")
    with pytest.raises(Invalid):
        await gateway.apply(revoked=frozenset({token.jti}), providers=(broken, *gateway.base.providers[1:]))
    assert (await gateway.chat(token, "gpt-a")).status == 401


async def test_a_file_that_somebody_damaged_is_mended(gateway: Bed) -> None:
    (gateway.fixed.root / layout.GRANTS).write_text("{")
    assert await gateway.apply() is True
    assert await gateway.apply() is False
    assert (await gateway.chat("alice", "gpt-a")).status == 200


async def test_applies_at_the_same_time_end_with_the_last_one(gateway: Bed) -> None:
    states = [frozenset({f"token{n}"}) for n in range(10)]
    await asyncio.gather(*(gateway.apply(revoked=revoked) for revoked in states))
    assert await gateway.apply(revoked=states[-1]) is False


# Envoy comes and goes


async def test_an_envoy_that_was_restarted_runs_the_same_state(gateway: Bed) -> None:
    token = gateway.token("alice")
    await gateway.apply(revoked=frozenset({token.jti}))
    await gateway.stop()
    assert (await gateway.gateway.healthy()).level == "fail"
    prepare(gateway.fixed)
    await gateway.start()
    assert (await gateway.chat(token, "gpt-a")).status == 401
    assert (await gateway.chat("alice", "gpt-a")).status == 200
    assert await gateway.apply(revoked=frozenset({token.jti})) is False


async def test_a_change_while_envoy_is_away_is_what_it_starts_with(gateway: Bed) -> None:
    await gateway.stop()
    token = gateway.token("carol")
    state = replace(gateway.base, consumers=(Consumer(name="carol", models=frozenset({"gpt-a"})),))
    with pytest.raises(Unavailable):
        await gateway.gateway.apply(state)
    with pytest.raises(Unavailable):
        await gateway.gateway.apply(state)
    await gateway.start()
    assert (await gateway.chat(token, "gpt-a")).status == 200
    assert await gateway.gateway.apply(state) is False


async def test_a_root_that_was_damaged_starts_empty_but_starts(gateway: Bed) -> None:
    await gateway.stop()
    (gateway.fixed.root / layout.ROUTES).unlink()
    prepare(gateway.fixed)
    await gateway.start()
    assert (await gateway.chat("alice", "gpt-a")).status == 403
    assert await gateway.apply() is True
    assert (await gateway.chat("alice", "gpt-a")).status == 200


def test_the_door_is_for_everyone_and_the_rest_for_the_owner_alone(gateway_bed: Bed) -> None:
    def mode(path: Path) -> int:
        return path.stat().st_mode & 0o777

    fixed = gateway_bed.fixed
    assert (mode(fixed.socket.parent), mode(fixed.socket)) == (0o755, 0o666)
    assert [entry.name for entry in fixed.socket.parent.iterdir()] == ["gateway.sock"]
    assert (mode(fixed.admin_socket), mode(fixed.root), mode(fixed.root / "secrets")) == (0o600, 0o700, 0o700)


async def test_healthy_tells_the_version(gateway: Bed) -> None:
    health = await gateway.gateway.healthy()
    assert health.level == "ok"
    assert health.detail.startswith("Envoy 1.")


async def test_envoy_starts_without_a_warning(gateway: Bed) -> None:
    lines = [line for line in gateway.log.splitlines() if "][warning]" in line or "work-in-progress" in line]
    assert [line for line in lines if "caught ENVOY_SIGTERM" not in line and "rejected" not in line.lower()] == []
