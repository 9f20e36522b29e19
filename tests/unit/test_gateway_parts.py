"""The pure parts of the gateway: providers, tokens, the demo model, the usage log."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from appservice.config import AgentSettings, Settings
from appservice.errors import Denied, Invalid, NotFound
from appservice.gateway import demo, usage
from appservice.gateway.layout import EnvoyFixed, control_socket
from appservice.gateway.protocol import Provider
from appservice.gateway.providers import check_key, default_model, providers, route
from appservice.gateway.tokens import TokenKey
from tests.support.gateway import Recorder, serving
from tests.support.provider import ScriptedProvider


def settings(*declared: dict[str, Any]) -> Settings:
    return Settings.model_validate({"data_dir": "/data", "providers": declared})


def only(environ: dict[str, str]) -> Provider:
    (found,) = providers(settings(), environ)
    return found


@pytest.mark.parametrize(
    ("environ", "name", "base_url", "header"),
    [
        ({"OPENAI_API_KEY": "k"}, "openai", "https://api.openai.com/v1", "authorization: Bearer k"),
        (
            {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://x:1/v1/"},
            "openai",
            "http://x:1/v1",
            "authorization: Bearer k",
        ),
        ({"OPENAI_BASE_URL": "http://vllm:8000/v1"}, "openai", "http://vllm:8000/v1", "authorization: Bearer "),
        ({"ANTHROPIC_API_KEY": "k"}, "anthropic", "https://api.anthropic.com/v1", "authorization: Bearer k"),
        (
            {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/"},
            "azure",
            "https://me.openai.azure.com/openai/v1",
            "api-key: k",
        ),
        ({"OLLAMA_HOST": "0.0.0.0"}, "ollama", "http://127.0.0.1:11434/v1", "authorization: Bearer "),
        ({"OLLAMA_HOST": "box:99"}, "ollama", "http://box:99/v1", "authorization: Bearer "),
        ({"OLLAMA_HOST": "[::1]:99"}, "ollama", "http://[::1]:99/v1", "authorization: Bearer "),
        ({"OLLAMA_BASE_URL": "https://box/v1/"}, "ollama", "https://box:443/v1", "authorization: Bearer "),
    ],
)
def test_the_variables_of_other_tools_make_a_provider(
    environ: dict[str, str], name: str, base_url: str, header: str
) -> None:
    found = only(environ)
    assert (found.name, found.base_url) == (name, base_url)
    assert f"{found.header}: {found.prefix}{found.key}" == header


def test_without_any_provider_the_demo_model_answers_on_the_control_planes_socket() -> None:
    found = only({"OPENAI_API_KEY": " ", "AZURE_OPENAI_API_KEY": "k"})
    assert (found.name, found.key) == ("demo", "")
    assert found.socket == str(control_socket(settings().run_dir))


def test_a_declared_provider_comes_first_and_replaces_the_variable_of_the_same_name() -> None:
    declared = settings({"name": "openai", "base_url": "http://mine/v1/", "key": "a"})
    found = providers(declared, {"OPENAI_API_KEY": "b", "ANTHROPIC_API_KEY": "c"})
    assert [(item.name, item.base_url, item.key) for item in found] == [
        ("openai", "http://mine/v1", "a"),
        ("anthropic", "https://api.anthropic.com/v1", "c"),
    ]


def test_a_key_is_read_from_its_file_and_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    declared = {"name": "x", "base_url": "http://x/v1", "key_file": str(tmp_path / "key")}
    assert providers(settings(declared), {})[0].key == "from-file"
    with pytest.raises(Invalid, match="missing"):
        providers(settings(declared | {"key_file": str(tmp_path / "missing")}), {})


def test_a_model_goes_to_the_provider_that_lists_it_then_to_its_maker_then_to_the_first() -> None:
    chosen = settings(
        {"name": "limited", "base_url": "http://a/v1", "models": ["qwen*", "gpt-5-mini"]},
        {"name": "house", "base_url": "http://b/v1"},
    )
    found = providers(chosen, {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "b"})
    models = ("qwen3-max", "gpt-5-mini", "gpt-5", "o3", "claude-opus-4", "llama3", "olmo")
    assert [route(model, chosen, found) for model in models] == [
        "limited",
        "limited",
        "openai",
        "openai",
        "anthropic",
        "house",
        "house",
    ]


def test_a_model_that_nobody_lists_is_refused_with_what_is_served() -> None:
    chosen = settings({"name": "limited", "base_url": "http://a/v1", "models": ["qwen*"]})
    with pytest.raises(NotFound, match=r"qwen\*"):
        route("gpt-5", chosen, providers(chosen, {}))


@pytest.mark.parametrize(
    ("own", "lists", "environ", "expected"),
    [
        ("", (), {}, "demo"),
        ("qwen-max", (), {}, "qwen-max"),
        ("", (["qwen*", "glm-5"], ["gpt-5"]), {}, "glm-5"),
        ("gpt-5", (["qwen*", "glm-5"],), {}, "gpt-5"),
        ("", (["qwen*"],), {}, ""),
        ("", (), {"OPENAI_API_KEY": "k"}, ""),
    ],
)
def test_agents_that_name_no_model_use_the_one_that_is_set_or_else_the_first_that_is_named(
    own: str, lists: Sequence[list[str]], environ: Mapping[str, str], expected: str
) -> None:
    items = [{"name": f"p{n}", "base_url": "http://a/v1", "models": models} for n, models in enumerate(lists)]
    chosen = settings(*items).model_copy(update={"agents": AgentSettings(model=own)})
    assert default_model(chosen, providers(chosen, environ)) == expected


async def test_a_key_is_checked_with_a_real_call() -> None:
    async with ScriptedProvider() as provider:
        good = await check_key(Provider(name="p", base_url=provider.base_url, key="k"))
        assert (good.level, provider.others) == ("ok", ["GET /v1/models"])
    gone = await check_key(Provider(name="p", base_url=provider.base_url, key="sk-secret"))
    assert gone.level == "fail"
    assert "sk-secret" not in gone.detail + gone.fix
    recorder = Recorder()
    async with serving(recorder.app()) as port:
        await check_key(
            Provider(name="azure", base_url=f"http://127.0.0.1:{port}/v1", key="k", header="api-key", prefix="")
        )
    assert recorder.seen[0].headers["api-key"] == "k"


def test_settings_name_every_path_of_the_gateway() -> None:
    chosen = settings()
    fixed = EnvoyFixed.from_settings(chosen, storage="http://127.0.0.1:8333")
    assert (fixed.root, fixed.bucket, fixed.storage) == (chosen.gateway_root, "opsroom", "http://127.0.0.1:8333")
    assert fixed.socket == chosen.run_dir / "gateway" / "gateway.sock"
    assert fixed.admin_socket.parent != fixed.socket.parent


def test_the_key_of_tokens_is_made_once_and_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "consumer-key.pem"
    first, second = TokenKey.load(path), TokenKey.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [left.name for left in path.parent.iterdir()] == [path.name]
    token = first.issue("alice", now=1000, ttl_s=60)
    assert second.read(token.text + "\n") == token
    assert (token.consumer, token.expires_at) == ("alice", 1060)
    assert first.issue("alice", now=1000, ttl_s=60).jti != token.jti
    assert "d" not in first.jwks()["keys"][0]


def test_a_text_that_is_no_token_of_ours_is_denied(tmp_path: Path) -> None:
    ours, other = TokenKey.load(tmp_path / "a.pem"), TokenKey.load(tmp_path / "b.pem")
    for text in ("", "a.b.c", other.issue("alice", now=0, ttl_s=1).text):
        with pytest.raises(Denied):
            ours.read(text)


def test_a_damaged_key_is_named_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("nonsense")
    with pytest.raises(Invalid, match=r"key\.pem"):
        TokenKey.load(tmp_path / "key.pem")


@pytest.mark.parametrize(
    "asked", ["hello", "@alice: what is 2+2?", "count to 3", "tell me a long story", "", "x" * 999]
)
def test_the_demo_model_says_what_it_is_and_how_to_replace_it(asked: str) -> None:
    said = demo.answer(asked)
    assert "demo model" in said.text
    assert "OPENAI_API_KEY=... make up" in said.text
    assert demo.answer(asked) == said
    assert "".join(said.words()) == said.text


@pytest.mark.parametrize("asked", ["count to 100", "Please count slowly up to 200.", "a long text", "tell me a story"])
def test_the_demo_model_takes_its_time_when_asked_for_something_long(asked: str) -> None:
    said = demo.answer(asked)
    assert len(said.words()) * said.pause_s >= 20


def test_the_demo_model_is_useful_in_small_things() -> None:
    assert "1 2 3\n" in demo.answer("count to 3").text
    assert "“how are you”" in demo.answer("@alice how are you").text


@pytest.mark.parametrize(
    ("change", "tokens"),
    [
        ({"usage": {"prompt_tokens": 7, "completion_tokens": 3}}, (7, 3)),
        ({"usage": {"input_tokens": 7, "output_tokens": 3, "events": 9}}, (7, 3)),
        ({"usage": {"events": 9}, "flags": "DC"}, (0, 9)),
        ({"usage": {"input_tokens": 7, "output_tokens": 1, "events": 9}, "flags": "DC"}, (7, 9)),
        ({"usage": {"prompt_tokens": 7}}, (7, 0)),
        ({"usage": {"prompt_tokens": 2**63, "completion_tokens": float("inf")}}, (2**31, 2**31)),
        ({"usage": {"prompt_tokens": 10**400, "completion_tokens": -5}}, (2**31, 0)),
        ({"usage": {"prompt_tokens": None, "completion_tokens": None, "events": None}}, (0, 0)),
        ({}, (0, 0)),
    ],
)
def test_tokens_are_read_in_every_form(change: dict[str, Any], tokens: tuple[int, int]) -> None:
    line = {"type": "DownstreamEnd", "ts": "1.5", "id": "x", "consumer": "a", "route": "llm/p", "flags": "-"} | change
    found = usage.parse(json.dumps(line).encode())
    assert found is not None
    assert (found.tokens_in, found.tokens_out) == tokens


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"Downstr',
        b"[]",
        b'{"type":"DownstreamPeriodic","consumer":"a","route":"llm/p"}',
        b'{"type":"DownstreamEnd","route":"llm/p"}',
        b'{"type":"DownstreamEnd","consumer":"a","route":"storage"}',
        b'{"type":"DownstreamEnd","consumer":"a"}',
        b'{"type":"DownstreamEnd","consumer":"a","route":"llm/p"}',
        b'{"type":"DownstreamEnd","consumer":"a","route":"llm/p","id":"x","ts":"soon"}',
        b'{"type":"DownstreamEnd","consumer":"a","route":"llm/p","id":"x","ts":1,"usage":{"prompt_tokens":NaN}}',
        b'{"type":"DownstreamEnd","consumer":"a","route":"llm/p","id":"x","ts":1,"usage":{"prompt_tokens":"many"}}',
        b'{"type":"DownstreamEnd","consumer":"a","route":"llm/p","id":"x","ts":1,"usage":[1]}',
        b"[" * 100_000,
    ],
)
def test_lines_that_are_no_finished_model_call_are_passed_over(line: bytes) -> None:
    assert usage.parse(line) is None
