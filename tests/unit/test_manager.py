"""What a Manager may say, what is said when it may not, and which agent it stands for."""

import pytest

from appservice.errors import Invalid
from appservice.resources.manager import EFFECTS, KIND, PENDING, ManagerConfig, ManagerSpec, agent
from appservice.resources.registry import parse
from appservice.resources.worker import McpServer, WorkerSpec

HEAD = "apiVersion: hiclaw.io/v1beta1\nkind: Manager\nmetadata:\n  name: default\nspec:\n"
MODEL = "  model: m\n"


def spec(lines: str = MODEL) -> ManagerSpec:
    found = parse((HEAD + lines).encode(), source="m.yaml")[0].spec
    assert isinstance(found, ManagerSpec)
    return found


def test_only_the_model_is_required() -> None:
    found = spec()

    assert (found.model, found.runtime, found.state) == ("m", "native", "Running")
    assert found.config == ManagerConfig()


def test_shared_fields_are_written_as_for_a_worker() -> None:
    for name, field in ManagerSpec.model_fields.items():
        if name not in ("config", "runtime"):
            worker = WorkerSpec.model_fields[name]
            assert (field.annotation, field.metadata) == (worker.annotation, worker.metadata)


@pytest.mark.parametrize(
    ("lines", "where", "said"),
    [
        ("  soul: x\n", "line 5, spec.model", "Add `model:` with a value."),
        ("  modle: m\n", "line 6, spec.modle", "Did you mean `model`?"),
        (f"{MODEL}  runtime: copow\n", "line 7, spec.runtime", "Did you mean `copaw`?"),
        (f"{MODEL}  runtime: hermes\n", "line 7, spec.runtime", "Use one of native, openclaw, copaw."),
        (f"{MODEL}  identity: x\n", "line 7, spec.identity", "is not a field of `spec`"),
        (f"{MODEL}  expose: []\n", "line 7, spec.expose", "is not a field of `spec`"),
        (f"{MODEL}  channelPolicy: {{}}\n", "line 7, spec.channelPolicy", "is not a field of `spec`"),
        (f"{MODEL}  skills: [a, a]\n", "line 7, spec.skills", "The skill a is listed twice."),
        (f"{MODEL}  state: off\n", "line 7, spec.state", "Use one of Running, Sleeping, Stopped."),
        (f"{MODEL}  config: {{heartbeatInterval: often}}\n", "line 7, spec.config.heartbeatInterval", "1h30m."),
        (f"{MODEL}  config: {{heartbeat: 1h}}\n", "line 7, spec.config.heartbeat", "`heartbeatInterval`?"),
        (f"{MODEL}  config: {{notifyChannel: bla bla}}\n", "line 7, spec.config.notifyChannel", "Write `admin-dm`"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_way_to_mend_it(lines: str, where: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        spec(lines)

    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(f"m.yaml, {where}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(("name", "called"), [("default", "manager"), ("night", "night")])
def test_the_agent_of_the_default_manager_is_called_manager(name: str, called: str) -> None:
    assert agent(name, spec()) == (called, WorkerSpec(model="m"))


def test_the_agent_is_what_a_worker_with_the_same_fields_is() -> None:
    lines = "  soul: be brief\n  mcpServers: [github]\n  state: Sleeping\n  config: {notifyChannel: admin-dm}\n"

    _, found = agent("default", spec(MODEL + lines))

    assert found == WorkerSpec(model="m", soul="be brief", mcpServers=(McpServer(name="github"),), state="Sleeping")


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        ("  soul: x\n", ()),
        ("  config: {}\n", ()),
        ("  config: {heartbeatInterval: 15m}\n", ("config",)),
        ("  config: {workerIdleTimeout: 720m}\n", ("config",)),
        ("  config: {notifyChannel: admin-dm}\n", ("config",)),
        ("  config: {heartbeatInterval: 1h}\n", ("config",)),
        ("  package: a.zip\n  runtime: openclaw\n", ("runtime", "package")),
    ],
)
def test_fields_that_are_kept_but_take_no_effect_are_named(lines: str, fields: tuple[str, ...]) -> None:
    assert KIND.pending(spec(MODEL + lines)) == fields


def test_what_is_said_of_a_field_is_said_of_a_field_that_there_is() -> None:
    fields = {info.alias for info in ManagerSpec.model_fields.values()}

    assert set(PENDING) == {"runtime", "mcpServers", "package", "config"}
    assert {change.split("=")[0] for change in EFFECTS} <= fields
