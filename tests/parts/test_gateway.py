"""The gateway as an agent meets it: a real Envoy behind its unix socket."""

import asyncio
import hashlib
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from appservice.errors import Invalid, Unavailable
from appservice.gateway import layout, usage
from appservice.gateway.admin import Admin
from appservice.gateway.envoy import EnvoyGateway, prepare
from appservice.gateway.protocol import Consumer, Provider
from appservice.gateway.tokens import TokenKey
from tests.support.gateway import BUCKET, SECRETS, Bed, words
from tests.support.provider import Fail, Say

SIGNED = "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=abc"


def files_of(gateway: Bed) -> dict[str, tuple[int, bytes]]:
    """Every watched file: its inode changes with each write."""
    return {
        str(path): (path.stat().st_ino, path.read_bytes()) for path in sorted((gateway.fixed.root / "xds").iterdir())
    }


# Who may call what


async def test_an_allowed_model_answers(gateway: Bed) -> None:
    answer = await gateway.chat("alice", "gpt-a", text="hello")
    assert answer.status == 200
    assert answer.json["choices"][0]["message"]["content"] == "You said: hello"


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer nonsense"}, {"authorization": "Basic eDp5"}])
async def test_a_call_without_a_good_token_is_401_and_reaches_nobody(gateway: Bed, headers: dict[str, str]) -> None:
    answer = await gateway.chat(None, "gpt-a", headers=headers)
    assert answer.status == 401
    assert answer.json["error"]["type"] == "authentication_error"
    assert gateway.provider.calls == []


async def test_an_expired_token_is_401(gateway: Bed) -> None:
    assert (await gateway.chat(gateway.token("alice", ttl_s=-5), "gpt-a")).status == 401


async def test_a_token_of_another_key_is_401(gateway: Bed, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = TokenKey.load(tmp_path_factory.mktemp("key") / "key.pem")
    assert (await gateway.chat(other.issue("alice", now=int(time.time()), ttl_s=60), "gpt-a")).status == 401


@pytest.mark.parametrize("header", ["x-api-key", "x-opsroom-token"])
async def test_the_token_may_come_in_other_headers(gateway: Bed, header: str) -> None:
    answer = await gateway.chat(None, "gpt-a", headers={header: gateway.token("alice").text})
    assert answer.status == 200
    assert header not in gateway.provider.calls[-1].headers


async def test_two_tokens_at_once_are_refused(gateway: Bed) -> None:
    answer = await gateway.chat("alice", "gpt-a", headers={"x-api-key": gateway.token("bob").text})
    assert answer.status == 403


@pytest.mark.parametrize(("who", "model"), [("bob", "gpt-a"), ("stranger", "gpt-a"), ("alice", "never-heard-of")])
async def test_a_consumer_that_is_not_on_the_route_gets_403(gateway: Bed, who: str, model: str) -> None:
    answer = await gateway.chat(who, model)
    assert answer.status == 403
    assert answer.json["error"]["type"] == "permission_error"
    assert gateway.provider.calls == []


async def test_a_granted_model_without_a_provider_is_404(gateway: Bed) -> None:
    assert (await gateway.chat("alice", "nowhere")).status == 404


async def test_forged_headers_change_nothing(gateway: Bed) -> None:
    forged = {
        "x-ops-sub": "alice",
        "x-ops-jti": "x",
        "x-ops-grant": "llm|alice|gpt-a",
        "x-ops-model": "gpt-a",
        "x-opsroom-consumer": "alice",
    }
    assert (await gateway.chat("bob", "gpt-a", headers=forged)).status == 403
    assert (await gateway.chat("bob", "gpt-b", headers=forged)).status == 200
    assert not [name for name in gateway.provider.calls[-1].headers if name.startswith(("x-ops", "x-opsroom"))]


async def test_a_client_cannot_steer_envoy(gateway: Bed) -> None:
    gateway.provider.when("slow", Say("done", first=0.3))
    steering = {"x-envoy-upstream-rq-timeout-ms": "50", "x-forwarded-for": "10.0.0.1"}
    assert (await gateway.chat("alice", "gpt-a", text="slow", headers=steering)).status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"model":"gpt-b\\u0000"}', 400),
        (b'{"model":"gpt-b|x"}', 400),
        (b'{"model":"gpt-b","model":"gpt-a"}', 403),
        (b'{"model":17}', 403),
        (b'{"messages":[]}', 400),
        (b"not json", 400),
        (b"", 400),
        (b'[{"model":"gpt-b"}]', 400),
        (b'{"model":"gpt-b","stream":true}', 400),
    ],
)
async def test_a_body_that_plays_tricks_is_refused(gateway: Bed, body: bytes, status: int) -> None:
    answer = await gateway.chat("bob", "", raw=body)
    assert answer.status == status
    assert gateway.provider.calls == []


async def test_a_body_of_another_type_is_refused(gateway: Bed) -> None:
    assert (await gateway.chat("bob", "gpt-b", headers={"content-type": "text/plain"})).status == 400
    assert (
        await gateway.chat("bob", "gpt-b", headers={"content-type": "application/json; charset=utf-8"})
    ).status == 200


async def test_a_body_over_the_limit_is_413(gateway: Bed) -> None:
    answer = await gateway.chat("alice", "gpt-a", raw=b'{"model":"gpt-a","x":"' + b"x" * (17 << 20) + b'"}')
    assert answer.status == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/files"),
        ("POST", "/v1/chat/completions/../files"),
        ("POST", "/v1/chat%2fcompletions"),
        ("POST", "//v1/chat/completions"),
        ("GET", "/v1/chat/completions"),
        ("DELETE", "/v1/models"),
        ("GET", "/"),
        ("POST", "/"),
        ("GET", "/demo/v1/models"),
        ("POST", "/elsewhere/v1/x"),
        ("GET", "/opsroom/v1/../v2"),
        ("GET", "/opsroom/v1/%2e%2e/v2"),
    ],
)
async def test_paths_that_are_not_offered_reach_nobody(gateway: Bed, method: str, path: str) -> None:
    headers = {"content-type": "application/json", **gateway.bearer("alice")}
    answer = await gateway.ask(method, path, headers=headers, data=b'{"model":"gpt-a"}' if method == "POST" else None)
    assert answer.status in {400, 403}
    assert (gateway.provider.calls, gateway.provider.others) == ([], [])
    assert (gateway.control.seen, gateway.storage.seen) == ([], [])


# Providers


async def test_the_key_is_put_in_and_nothing_of_the_client_leaks(gateway: Bed) -> None:
    leaky = {"cookie": "a=b", "api-key": "mine", "proxy-authorization": "Basic eA=="}
    token = gateway.token("alice")
    assert (await gateway.chat(token, "gpt-a", headers=leaky)).status == 200
    seen = gateway.provider.calls[-1].headers
    assert seen["authorization"] == f"Bearer {SECRETS[0]}"
    assert not seen.keys() & {"cookie", "x-api-key", "api-key", "proxy-authorization", "accept-encoding"}
    assert token.text not in str(seen)
    assert token.jti not in str(seen)
    assert seen["host"] == f"127.0.0.1:{gateway.provider.port}"


async def test_a_provider_has_its_own_path_and_its_own_header_for_the_key(gateway: Bed) -> None:
    assert (await gateway.chat("bob", "gpt-b")).status == 200
    call = gateway.provider.calls[-1]
    assert call.path == "/openai/v1/chat/completions"
    assert call.headers["api-key"] == SECRETS[1]
    assert "authorization" not in call.headers


async def test_a_provider_without_a_key_gets_no_credentials(gateway: Bed) -> None:
    assert (await gateway.chat("alice", "llama")).status == 200
    assert not gateway.provider.calls[-1].headers.keys() & {"authorization", "api-key", "x-api-key"}


async def test_a_provider_over_tls_is_checked_against_its_name(gateway: Bed) -> None:
    assert (await gateway.chat("alice", "tls-c")).status == 200
    assert gateway.control.seen[-1].headers["authorization"] == f"Bearer {SECRETS[2]}"
    gateway.control.seen.clear()
    assert (await gateway.chat("alice", "tls-d")).status == 503
    assert gateway.control.seen == []


async def test_a_provider_that_fails_once_is_asked_again(gateway: Bed) -> None:
    gateway.provider.when("shaky", Fail(503), Say("better"))
    answer = await gateway.chat("alice", "gpt-a", text="shaky")
    assert answer.json["choices"][0]["message"]["content"] == "better"
    assert len(gateway.provider.calls) == 2


async def test_the_error_of_a_provider_reaches_the_agent(gateway: Bed) -> None:
    gateway.provider.when("broken", Fail(400, "context too long"))
    answer = await gateway.chat("alice", "gpt-a", text="broken")
    assert (answer.status, answer.json["error"]["message"]) == (400, "context too long")


async def test_the_demo_model_answers_through_the_gateway_and_says_what_it_is(gateway: Bed) -> None:
    answer = await gateway.chat("alice", "demo", text="what is this?")
    assert "demo model" in answer.json["choices"][0]["message"]["content"]
    async with gateway.stream("alice", "demo", "what is this?") as stream:
        assert "".join(await words(stream)) == answer.json["choices"][0]["message"]["content"]


async def test_no_secret_is_in_a_file_of_the_configuration_or_in_a_log(gateway: Bed) -> None:
    token = gateway.token("alice")
    await gateway.chat(token, "gpt-a")
    await gateway.usage(1, of="alice")
    broken = replace(gateway.base.providers[0], header="no header\n")
    with pytest.raises(Invalid):
        await gateway.apply(providers=(broken, *gateway.base.providers[1:]))
    told = [path.read_text() for path in gateway.fixed.root.rglob("*.json*")]
    for secret in (*SECRETS, token.text):
        assert not [text for text in (*told, gateway.log) if secret in text]
    kept = list((gateway.fixed.root / "secrets").iterdir())
    assert sorted(path.read_text() for path in kept) == sorted([*SECRETS, SECRETS[2]])
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


# The control plane and object storage behind it


async def test_the_control_plane_is_told_the_verified_consumer(gateway: Bed) -> None:
    headers = {**gateway.bearer("alice"), "x-opsroom-consumer": "bob"}
    answer = await gateway.ask("POST", "/opsroom/v1/storage-key?a=1", headers=headers, data=b"{}")
    assert answer.status == 200
    seen = gateway.control.seen[-1]
    assert (seen.path, seen.headers["x-opsroom-consumer"]) == ("/opsroom/v1/storage-key?a=1", "alice")
    assert "authorization" not in seen.headers


async def test_the_list_of_models_comes_from_the_control_plane(gateway: Bed) -> None:
    assert (await gateway.ask("GET", "/v1/models", headers=gateway.bearer("bob"))).status == 200
    seen = gateway.control.seen[-1]
    assert (seen.path, seen.headers["x-opsroom-consumer"]) == ("/opsroom/v1/models", "bob")


async def test_a_consumer_that_was_never_declared_reaches_neither(gateway: Bed) -> None:
    token = gateway.token("stranger").text
    for path in ("/opsroom/v1/x", "/v1/models", f"/{BUCKET}/a"):
        assert (await gateway.ask("GET", path, headers={"x-opsroom-token": token})).status == 403
    assert (gateway.control.seen, gateway.storage.seen) == ([], [])


@pytest.mark.parametrize(
    "path",
    [
        f"/{BUCKET}?list-type=2&prefix=agents%2Falice%2F",
        f"/{BUCKET}/agents/alice/with%20space",
        f"/{BUCKET}/agents/alice/a%2Bb+c",
        f"/{BUCKET}/agents/alice/slash%2Finside",
        f"/{BUCKET}/agents/alice/percent%252F",
        f"/{BUCKET}/agents/alice//two",
        f"/{BUCKET}/agents/alice/~tilde'()*%21%27%28%29%2A%7E",
        f"/{BUCKET}/agents/alice/%C3%BCber..dots...",
    ],
)
async def test_what_an_agent_signs_arrives_at_storage_as_it_was_sent(gateway: Bed, path: str) -> None:
    headers = {
        "authorization": SIGNED,
        "x-amz-date": "20260101T000000Z",
        "host": "127.0.0.1:8800",
        "x-opsroom-token": gateway.token("alice").text,
        "x-opsroom-consumer": "bob",
    }
    assert (await gateway.ask("GET", path, headers=headers)).body == b"stored"
    seen = gateway.storage.seen[-1]
    assert seen.path == path
    assert (seen.headers["authorization"], seen.headers["host"]) == (SIGNED, "127.0.0.1:8800")
    assert seen.headers["x-amz-date"] == "20260101T000000Z"
    assert not [name for name in seen.headers if name.startswith(("x-ops-", "x-opsroom"))]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("GET", "/"),
        ("PUT", f"/{BUCKET}"),
        ("DELETE", f"/{BUCKET}"),
        ("POST", f"/{BUCKET}?delete"),
        ("PUT", f"/{BUCKET}/?policy"),
        ("DELETE", f"/{BUCKET}//"),
        ("GET", f"/{BUCKET}2/key"),
        ("GET", "/another/key"),
        ("GET", f"/{BUCKET}/agents/alice/../bob/key"),
        ("GET", f"/{BUCKET}/agents/alice/..%2Fbob/key"),
        ("GET", f"/{BUCKET}/agents/alice/%2e%2E/bob/key"),
        ("GET", f"/{BUCKET}/..%5cother/key"),
        ("GET", f"/{BUCKET}/nul%00"),
        ("PATCH", f"/{BUCKET}/key"),
    ],
)
async def test_nothing_else_reaches_storage(gateway: Bed, method: str, path: str) -> None:
    headers = {"x-opsroom-token": gateway.token("alice").text, "authorization": SIGNED}
    answer = await gateway.ask(method, path, headers=headers, data=None if method == "GET" else b"x")
    assert answer.status in {400, 403}
    assert gateway.storage.seen == []


async def test_large_objects_pass_whole_in_both_directions(gateway: Bed) -> None:
    data = bytes(range(256)) * (50 << 12)
    headers = {"x-opsroom-token": gateway.token("alice").text, "content-type": "application/json"}
    assert (await gateway.ask("PUT", f"/{BUCKET}/big", headers=headers, data=data)).status == 200
    seen = gateway.storage.seen[-1]
    assert (seen.size, seen.digest) == (50 << 20, hashlib.sha256(data).hexdigest())
    gateway.storage.answer = data
    try:
        assert (await gateway.ask("GET", f"/{BUCKET}/big", headers=headers)).body == data
    finally:
        gateway.storage.answer = b"stored"


# Changes


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


# Usage


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
            asyncio.timeout(15),
            aclosing(usage.follow(log, offset, reopen=admin.reopen_logs, rotate_at=1)) as calls,
        ):
            async for position, entry in calls:
                offset = position
                seen += [entry.call_id] if entry.consumer == "turner" else []
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
    async with asyncio.timeout(10):
        while (names := sorted(path.name for path in log.parent.glob("usage.jsonl.*"))) == before or any(
            name.endswith("rotating") for name in names
        ):
            assert not reader.done(), reader.exception()
            await asyncio.sleep(0.05)
    reader.cancel()
    await asyncio.wait([reader])


async def test_a_provider_that_is_away_is_503_not_a_hang(gateway: Bed) -> None:
    away = Provider(name="first", base_url="http://127.0.0.1:9/v1")
    await gateway.apply(providers=(away, *gateway.base.providers[1:]))
    assert (await gateway.chat("alice", "gpt-a")).status == 503


async def test_an_agent_that_hangs_up_ends_the_call_at_the_provider(gateway: Bed) -> None:
    gateway.provider.when("endless", Say(words=50, hold_after=3))
    async with gateway.stream("alice", "gpt-a", "endless") as stream:
        await words(stream, 3)
    await gateway.provider.until(lambda: gateway.provider.calls[-1].ended == "cut")
