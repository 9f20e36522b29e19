"""Worker: one agent."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from appservice.resources.access import AccessEntries
from appservice.resources.kind import (
    Kind,
    LongText,
    PlainName,
    ShortText,
    Spec,
    Text,
    WholeNumber,
    fault,
    unique,
)
from appservice.resources.metadata import SandboxLabels
from appservice.resources.source import shown

Runtime = Literal["native", "openclaw", "copaw", "hermes"]
DEFAULT_RUNTIME: Final = "native"
DEFAULT_MODEL: Final = "default"  # stands for the one that the settings give
RunState = Literal["Running", "Sleeping", "Stopped"]

_MODEL_PREFIX = "hiclaw-gateway/"
_MODEL = re.compile(r"[A-Za-z0-9][\w.:/@+-]*")
_IMAGE = re.compile(r"[A-Za-z0-9][\w./:@-]*")
_PACKAGE = re.compile(r"(?:(?:file|https?|nacos|oss)://\S+|packages/\S+|[\w.-]+\.zip)")
_URL = re.compile(r"https?://[^\s/]+\S*")
_URL_WITH_USER = re.compile(r"\w+://[^/\s]*@")
_USER_ID = re.compile(r"@[^:\s@]+:[^\s@]+|[a-z0-9._=/+-]+")


def _model(value: str) -> str:
    name = value.removeprefix(_MODEL_PREFIX)
    if not name:
        raise fault("The model has no name.", "Write for example `model: qwen3.5-plus`.")
    if not _MODEL.fullmatch(name):
        raise fault(f"{shown(value)} cannot be a model's name.", "Use letters, digits and . _ - / : without spaces.")
    return name


def _runtime(value: Any) -> Any:
    return DEFAULT_RUNTIME if value == "" else value


def _image(value: str) -> str:
    if value and not _IMAGE.fullmatch(value):
        raise fault(f"{shown(value)} is not the name of an image.", "Write it as registry.org/team/image:tag.")
    return value


def _without_user(value: str) -> str:
    if _URL_WITH_USER.match(value):
        raise fault("This URL holds a user name or password.", "Remove it: a file in a room is no place for secrets.")
    return value


def _package(value: str) -> str:
    if value and (not _PACKAGE.fullmatch(value) or ".." in value.split("/")):
        raise fault(
            f"{shown(value)} is not a package.",
            "Use file://, http://, https://, nacos:// or oss://, packages/NAME, or a NAME.zip.",
        )
    return _without_user(value)


def _url(value: str) -> str:
    if value and not _URL.fullmatch(value):
        raise fault(f"{shown(value)} is not a web address.", "Begin it with https:// or http://.")
    return _without_user(value)


def _user(value: str) -> str:
    if not _USER_ID.fullmatch(value):
        fix = f'Write "{value[1:]}" or "{value}:server".' if re.fullmatch(r"@[a-z0-9._=/+-]+", value) else ""
        raise fault(
            f"{shown(value)} is neither a name nor a Matrix id.", fix or "Write alice, or @alice:example.org in quotes."
        )
    return value


def _skills(values: tuple[str, ...]) -> tuple[str, ...]:
    unique("The skill", values)
    return values


def _server(value: Any) -> Any:
    """A server given by its name is the same as an object with only that name."""
    if not isinstance(value, str | dict | McpServer):
        raise fault("An MCP server is a name, or a map with `name` and `url`.", "Write one of them; quote numbers.")
    return {"name": value} if isinstance(value, str) else value


Users = Annotated[tuple[Annotated[ShortText, AfterValidator(_user)], ...], Field(max_length=500)]


class McpServer(Spec):
    """An MCP server that the agent may use; with `url` empty, one that the gateway already knows."""

    name: PlainName
    url: Annotated[Text, Field(max_length=2000), AfterValidator(_url)] = ""
    transport: Literal["http", "sse"] = "http"


class ExposedPort(Spec):
    """A port of the agent that the gateway publishes."""

    port: Annotated[WholeNumber, Field(ge=1, le=65535)]
    protocol: Literal["http", "grpc"] = "http"


class ChannelPolicy(Spec):
    """Who else may, or may not, trigger the agent. Deny wins over allow."""

    group_allow_extra: Users = ()
    group_deny_extra: Users = ()
    dm_allow_extra: Users = ()
    dm_deny_extra: Users = ()


def _servers(values: tuple[McpServer, ...]) -> tuple[McpServer, ...]:
    unique("The MCP server", tuple(value.name for value in values))
    return values


def _ports(values: tuple[ExposedPort, ...]) -> tuple[ExposedPort, ...]:
    unique("The port", tuple(value.port for value in values))
    return values


Servers = Annotated[
    tuple[Annotated[McpServer, BeforeValidator(_server, json_schema_input_type=PlainName | McpServer)], ...],
    Field(max_length=64),
    AfterValidator(_servers),
]


class WorkerSpec(Spec):
    """One agent: the model it thinks with, what it is told to be, and whether it runs."""

    model: Annotated[ShortText, AfterValidator(_model)]
    runtime: Annotated[Runtime, BeforeValidator(_runtime)] = DEFAULT_RUNTIME
    image: Annotated[Text, Field(max_length=255), AfterValidator(_image)] = ""
    identity: LongText = ""
    soul: LongText = ""
    agents: LongText = ""
    skills: Annotated[tuple[PlainName, ...], Field(max_length=64), AfterValidator(_skills)] = ()
    mcp_servers: Servers = ()
    package: Annotated[Text, Field(max_length=2000), AfterValidator(_package)] = ""
    expose: Annotated[tuple[ExposedPort, ...], Field(max_length=32), AfterValidator(_ports)] = ()
    channel_policy: ChannelPolicy = ChannelPolicy()
    state: RunState = "Running"
    labels: SandboxLabels = Field(default_factory=dict)
    access_entries: AccessEntries = ()


PENDING: Final = {
    "runtime": "Only the native agent runs yet; it answers in place of the runtime named here.",
    "mcpServers": "The agent cannot use these MCP servers yet.",
    "package": "The package is not fetched yet.",
    "expose": "No port is published yet.",
}

EFFECTS: Final = {
    "image": "its sandbox is made anew, its files stay",
    "labels": "its sandbox is made anew, its files stay",
    "state=Stopped": "its sandbox is removed, its files stay",
    "state=Sleeping": "its sandbox is stopped; a mention wakes it",
    "state=Running": "its sandbox is started",
    "model": "from its next turn on",
    "identity": "from its next turn on",
    "soul": "from its next turn on",
    "agents": "from its next turn on",
    "skills": "from its next turn on",
    "channelPolicy": "at once",
    "accessEntries": "at once",
}

_EXAMPLE = """\
apiVersion: hiclaw.io/v1beta1
kind: Worker
metadata:
  name: alice
spec:
  model: qwen3.5-plus
  soul: |
    You are Alice. You answer briefly and say so when you do not know.
  skills:
    - notes
"""

KIND: Final = Kind(
    name="Worker",
    plural="workers",
    short_names=("wk",),
    api_versions=("hiclaw.io/v1beta1",),
    spec=WorkerSpec,
    example=_EXAMPLE,
    pending_fields=PENDING,
    effects=EFFECTS,
)


def pending(spec: WorkerSpec) -> tuple[str, ...]:
    """Names of the fields this spec sets that are kept but do not take effect yet; `PENDING` says why."""
    return KIND.pending(spec)
