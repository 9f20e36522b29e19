"""The gateway as an agent meets it: a real Envoy behind its unix socket."""

import hashlib
import time
from dataclasses import replace

import pytest

from appservice.errors import Invalid
from appservice.gateway.protocol import Provider
from appservice.gateway.tokens import TokenKey
from tests.support.gateway import BUCKET, SECRETS, Bed, words
from tests.support.provider import Fail, Say

SIGNED = "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=abc"


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


# A provider, or an agent, that goes away


async def test_a_provider_that_is_away_is_503_not_a_hang(gateway: Bed) -> None:
    away = Provider(name="first", base_url="http://127.0.0.1:9/v1")
    await gateway.apply(providers=(away, *gateway.base.providers[1:]))
    assert (await gateway.chat("alice", "gpt-a")).status == 503


async def test_an_agent_that_hangs_up_ends_the_call_at_the_provider(gateway: Bed) -> None:
    gateway.provider.when("endless", Say(words=50, hold_after=3))
    async with gateway.stream("alice", "gpt-a", "endless") as stream:
        await words(stream, 3)
    await gateway.provider.until(lambda: gateway.provider.calls[-1].ended == "cut")
