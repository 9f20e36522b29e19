"""What a Worker may say, and what is said when it may not."""

import pytest

from appservice.errors import Invalid
from appservice.resources.document import Document
from appservice.resources.registry import parse
from appservice.resources.worker import PENDING, ChannelPolicy, McpServer, WorkerSpec, pending

HEAD = "apiVersion: hiclaw.io/v1beta1\nkind: Worker\nmetadata:\n  name: alice\nspec:\n"


def worker(lines: str = "", model: str = "m") -> Document:
    return parse(f"{HEAD}  model: {model}\n{lines}".encode(), source="w.yaml")[0]


def spec(lines: str = "", model: str = "m") -> WorkerSpec:
    found = worker(lines, model).spec
    assert isinstance(found, WorkerSpec)
    return found


def test_only_the_model_is_required() -> None:
    found = spec()

    assert (found.runtime, found.image, found.state, found.skills) == ("native", "", "Running", ())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("hiclaw-gateway/qwen3.5-plus", "qwen3.5-plus"),
        ("openai/gpt-5.4", "openai/gpt-5.4"),
        ("us.anthropic.claude-3:0", "us.anthropic.claude-3:0"),
        ("no", "no"),
        ("0123", "0123"),
        ('"4"', "4"),
    ],
)
def test_the_model_is_the_name_without_the_gateways_prefix(written: str, meant: str) -> None:
    assert spec(model=written).model == meant


def test_an_empty_runtime_is_the_default() -> None:
    assert spec('  runtime: ""\n').runtime == "native"


def test_both_forms_of_mcp_servers_are_read() -> None:
    found = spec("  mcpServers:\n    - github\n    - {name: w, url: https://w.org/mcp, transport: sse}\n")

    assert found.mcp_servers == (
        McpServer(name="github"),
        McpServer(name="w", url="https://w.org/mcp", transport="sse"),
    )


def test_a_channel_policy_takes_names_as_well_as_matrix_ids() -> None:
    found = spec('  channelPolicy:\n    dmDenyExtra: [bob, "@dora:example.org"]\n')

    assert found.channel_policy == ChannelPolicy(dmDenyExtra=("bob", "@dora:example.org"))


@pytest.mark.parametrize(
    "package", ["file:///a/b.zip", "https://x.org/a", "nacos://h:80/a", "oss://b/k", "packages/a.zip", "a-1.0.zip"]
)
def test_every_documented_form_of_a_package_is_accepted(package: str) -> None:
    assert spec(f"  package: {package}\n").package == package


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("  soul: 4\n", 'Quote it: "4".'),
        ("  soul: ~\n", "`soul` has no value."),
        ("  skills:\n", "Write [] for an empty list, or remove the line."),
        ("  skills: [a, a]\n", "The skill a is listed twice."),
        ("  skills: [Notes]\n", "Try `notes`."),
        ("  state: running\n", "Did you mean `Running`?"),
        ("  state: off\n", "Use one of Running, Sleeping, Stopped."),
        ("  state: true\n", 'Quote it: "true".'),
        ("  runtime: hermess\n", "Did you mean `hermes`?"),
        ('  expose: [{port: "80"}]\n', "Remove the quotes: 80."),
        ("  expose: [{port: 0123}]\n", "Remove the leading zeros: 123."),
        ("  expose: [{port: 0}]\n", "`port` is at least 1."),
        ("  expose: [{port: 80.5}]\n", "must be a whole number"),
        ("  expose: [{port: true}]\n", "must be a whole number"),
        ("  expose: [{port: 80}, {port: 80}]\n", "The port 80 is listed twice."),
        ("  expose: [{port: 80, protocol: tcp}]\n", "Use one of http, grpc."),
        ("  mcpServers: [a, {name: a}]\n", "The MCP server a is listed twice."),
        ("  mcpServers: [4]\n", "An MCP server is a name, or a map"),
        ("  mcpServers: [GitHub]\n", "Try `github`."),
        ("  mcpServers: [{url: https://x.org}]\n", "`name` is missing."),
        ("  mcpServers: [{name: a, url: ftp://x.org}]\n", "is not a web address"),
        ("  mcpServers: [{name: a, url: 'https://me:pw@x.org'}]\n", "no place for secrets"),
        ("  channelPolicy: {dmAllowExtra: ['@bob']}\n", 'Write "bob" or "@bob:server".'),
        ("  channelPolicy: {dmAllow: [bob]}\n", "Did you mean `dmAllowExtra`?"),
        ("  package: ../a\n", "is not a package"),
        ("  image: --privileged\n", "is not the name of an image"),
        ("  labels: {a: 'b c'}\n", 'The value of label "a" is not allowed.'),
        ("  labels: {opsroom.io/team: a}\n", 'The label "opsroom.io/team" is set by Opsroom.'),
        ("  labels: {org.opsroom.agent: a}\n", 'The label "org.opsroom.agent" is set by Opsroom.'),
        (f"  skills: [{', '.join(f's{i}' for i in range(65))}]\n", "has more than 64 entries"),
        (f"  soul: {'x' * 100_001}\n", "has 100001 characters; at most 100000 are allowed."),
    ],
)
def test_a_mistake_is_named_with_the_way_to_mend_it(lines: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        worker(lines)

    assert len(caught.value.problems) == 1
    assert said in str(caught.value)


def test_a_model_with_spaces_is_refused() -> None:
    with pytest.raises(Invalid, match="without spaces"):
        worker(model="gpt 5")


def test_a_misspelt_required_field_is_one_problem() -> None:
    with pytest.raises(Invalid) as caught:
        parse(f"{HEAD}  modle: m\n".encode(), source="w.yaml")

    assert str(caught.value) == 'w.yaml, line 6, spec.modle: "modle" is not a field of `spec`. Did you mean `model`?'


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        ("", ()),
        (
            "  runtime: native\n  image: x\n  soul: a\n  identity: a\n  agents: a\n  skills: [a]\n  state: Sleeping\n",
            (),
        ),
        ("  expose: []\n  channelPolicy: {}\n  labels: {}\n", ()),
        ("  runtime: openclaw\n", ("runtime",)),
        ("  mcpServers: [a]\n  package: a.zip\n", ("mcpServers", "package")),
        ("  expose: [{port: 1}]\n  channelPolicy: {dmDenyExtra: [a]}\n", ("expose",)),
        ("  labels: {a: b}\n  accessEntries: [{service: object-storage, scope: {prefixes: [a]}}]\n", ()),
    ],
)
def test_fields_that_are_kept_but_take_no_effect_are_named(lines: str, fields: tuple[str, ...]) -> None:
    assert pending(spec(lines)) == fields


def test_every_field_that_takes_no_effect_has_a_sentence() -> None:
    aliases = {info.alias for info in WorkerSpec.model_fields.values()}

    assert set(PENDING) <= aliases
    assert all(sentence.endswith(".") for sentence in PENDING.values())
