"""Manager: the agent that people talk to about all others."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from appservice.resources import worker
from appservice.resources.access import AccessEntries
from appservice.resources.kind import Duration, Kind, LongText, PlainName, ShortText, Spec, Text, fault
from appservice.resources.metadata import SandboxLabels
from appservice.resources.source import shown
from appservice.resources.worker import DEFAULT_RUNTIME, RunState, Servers, WorkerSpec

ManagerRuntime = Literal["native", "openclaw", "copaw"]  # HiClaw has no Manager on Hermes
DEFAULT: Final = "default"  # the Manager whose agent is called `manager`
CHANNEL: Final = "admin-dm"  # where it reports: the room that people have with it


def _channel(value: str) -> str:
    if value not in ("", CHANNEL):
        raise fault(f"{shown(value)} is not a channel that is known.", f"Write `{CHANNEL}`, or leave the field out.")
    return value


class ManagerConfig(Spec):
    """How the Manager looks after the others. What is left out asks for nothing: whatever is written shows as something
    that Opsroom does not do yet, what HiClaw takes for granted (15m, 720m, admin-dm) like all else."""

    heartbeat_interval: Duration = ""
    worker_idle_timeout: Duration = ""
    notify_channel: Annotated[
        Text, AfterValidator(_channel), WithJsonSchema({"type": "string", "enum": ["", CHANNEL]})
    ] = ""


class ManagerSpec(Spec):
    """An agent as a Worker is one; what a Manager does not have is left out."""

    model: Annotated[ShortText, AfterValidator(worker._model)]
    runtime: Annotated[ManagerRuntime, BeforeValidator(worker._runtime)] = DEFAULT_RUNTIME
    image: Annotated[Text, Field(max_length=255), AfterValidator(worker._image)] = ""
    soul: LongText = ""
    agents: LongText = ""
    skills: Annotated[tuple[PlainName, ...], Field(max_length=64), AfterValidator(worker._skills)] = ()
    mcp_servers: Servers = ()
    package: Annotated[Text, Field(max_length=2000), AfterValidator(worker._package)] = ""
    state: RunState = "Running"
    config: ManagerConfig = ManagerConfig()
    labels: SandboxLabels = Field(default_factory=dict)
    access_entries: AccessEntries = ()


def agent(name: str, spec: ManagerSpec) -> tuple[str, WorkerSpec]:
    """The agent of the Manager called `name`: its own name, and what it is."""
    declared = spec.model_dump(by_alias=True, exclude={"config"})
    return "manager" if name == DEFAULT else name, WorkerSpec.model_validate(declared)


_FIELDS = [info.alias for info in ManagerSpec.model_fields.values()]

PENDING: Final = {
    **{field: text for field, text in worker.PENDING.items() if field in _FIELDS},
    "config": "The Manager has no heartbeat yet, idle agents are not put to sleep, and it reports nowhere by itself.",
}

EFFECTS: Final = {change: text for change, text in worker.EFFECTS.items() if change.split("=")[0] in _FIELDS}

_EXAMPLE = """\
apiVersion: hiclaw.io/v1beta1
kind: Manager
metadata:
  name: default
spec:
  model: qwen3.5-plus
  soul: |
    You are the manager. You find the right agent or team for a task, hand it over, and report what came of it.
"""

KIND: Final = Kind(
    name="Manager",
    plural="managers",
    short_names=("mgr",),
    api_versions=("hiclaw.io/v1beta1",),
    spec=ManagerSpec,
    example=_EXAMPLE,
    pending_fields=PENDING,
    effects=EFFECTS,
)
