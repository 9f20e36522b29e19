"""Settings: one model, from flags over environment over file over defaults.

Environment: `OPSROOM_` and the field's name, `__` between levels (`OPSROOM_HOMESERVER__URL`). File: `opsroom.yaml` in
the data directory. Providers are also read from the variables their own tools use (`OPENAI_API_KEY`, ...).
Secrets are never written to `opsroom.yaml`: they live in files of mode 0600 below `secrets/`.
"""

import os
import stat
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from appservice.errors import Invalid, Problem

SETTINGS_FILE = "opsroom.yaml"
_NO_SETTINGS = ("OPSROOM_DATA_DIR", "OPSROOM_SERVER", "OPSROOM_TOKEN_FILE")  # the command line's own
_LONGEST_SOCKET_DIR = 60  # a unix socket's path has at most 107 bytes; agents' names take up to 63 of them hashed to 12


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HomeserverSettings(Section):
    """The Matrix homeserver. With `url` empty, `opsroom up` starts its own Synapse."""

    url: str = Field("", description="client-server API, for example http://127.0.0.1:8008")
    server_name: str = Field("ops.local", description="the part of every Matrix id after the colon")
    registration: Path | None = Field(None, description="registration.yaml that the homeserver has loaded")
    listen_host: str = Field("127.0.0.1", description="where the application service listens for the homeserver")
    listen_port: int = Field(9000, description="and the port")
    public_url: str = Field("", description="how the homeserver reaches us; default: the listen address")
    registration_secret_file: Path | None = Field(
        None, description="file with Synapse's registration_shared_secret: makes accounts of people"
    )
    registration_token_file: Path | None = Field(
        None, description="file with a registration token: makes accounts of people where there is no such secret"
    )


class ApiSettings(Section):
    """The REST API. It is also on the operator's socket in the data directory, whatever is set here."""

    listen_host: str = Field("127.0.0.1", description="where it listens; empty: on the operator's socket only")
    listen_port: int = Field(0, description="and the port; 0 = not chosen yet by `opsroom up`, and not opened")


class GatewaySettings(Section):
    """Envoy. `root` is its state directory, shared with the control plane."""

    root: Path | None = Field(None, description="state directory; default: `gateway` in the data directory")
    token_ttl_s: int = Field(3600, description="life of an agent's token in seconds; renewed at half of it")
    debug_port: int = Field(0, description="also listen on this port of 127.0.0.1; 0 = unix socket only")


class StorageSettings(Section):
    """S3. With `endpoint` empty, `opsroom up` starts its own SeaweedFS."""

    endpoint: str = Field("", description="for example http://127.0.0.1:8333")
    users: Literal["auto", "iam", "minio", "filer"] = Field(
        "auto",
        description="how users are made: AWS IAM calls, MinIO's admin API, or through SeaweedFS's filer;"
        " auto: `filer` for the storage that `opsroom up` starts, else `iam`",
    )
    filer: str = Field("", description="SeaweedFS's filer, for `filer`; default: the one that `opsroom up` starts")
    bucket: str = Field("opsroom", description="made if it is missing; holds the files of all agents")
    region: str = Field("us-east-1", description="its region")
    access_key: str = Field("opsroom", description="id of the key with which Opsroom makes users")
    secret_key: SecretStr = Field(SecretStr(""), description="its secret; better in a file")
    secret_key_file: Path | None = Field(None, description="file with its secret")


class AgentSettings(Section):
    """Where agents run and what one may use."""

    backend: Literal["auto", "docker", "process"] = Field("auto", description="auto: Docker if it answers or did once")
    docker_host: str = Field("", description="for example unix:///var/run/docker.sock; default: the SDK's own rules")
    image: str = Field("", description="image of the native agent; default: opsroom/worker:VERSION")
    model: str = Field("", description="model of agents that name none, or `default`; empty: the first that is known")
    memory_mb: int = Field(512, description="memory of one agent")
    cpus: float = Field(1.0, description="cores of one agent")
    pids: int = Field(256, description="processes and threads of one agent")
    awake_s: int = Field(300, description="how long a sleeping agent stays awake after its last turn, in seconds")
    silent_s: int = Field(60, description="an agent that does not answer for so long is started again, in seconds")
    hop_limit: int = Field(8, description="how often agents may call each other over one question of a person")
    turn_limit_s: int = Field(900, description="longest turn in seconds")


class ModelProvider(Section):
    """One account at a model provider; any OpenAI-shaped URL."""

    name: str = Field(description="letters, digits, - and _; for logs and file names")
    base_url: str = Field(description="up to and with /v1")
    key: SecretStr = Field(SecretStr(""), description="the key; better in a file or the environment")
    key_file: Path | None = Field(None, description="file with the key")
    header: str = Field("authorization", description="header that carries the key")
    prefix: str = Field("Bearer ", description="what stands before the key in that header")
    models: tuple[str, ...] = Field((), description="model names or globs this provider serves; none = all others")


class EmbeddedSettings(Section):
    """Ports of what `opsroom up` starts itself, all on 127.0.0.1. It writes them here, so that the next start uses the
    same ones again; 0 = not chosen yet, or not started by us."""

    client_port: int = Field(0, description="the web client")
    homeserver_port: int = Field(0, description="Synapse")
    storage_port: int = Field(0, description="SeaweedFS, S3; each of its ports P also takes P + 10000")
    storage_master_port: int = Field(0, description="SeaweedFS, inside")
    storage_volume_port: int = Field(0, description="SeaweedFS, inside")
    storage_filer_port: int = Field(0, description="SeaweedFS, inside")


class Settings(Section):
    """Everything that can be set."""

    data_dir: Path = Field(Path(".opsroom"), description="everything Opsroom keeps")
    installation: str = Field("opsroom", description="name of this installation: labels what it owns", max_length=20)
    bot: str = Field("opsroom", description="localpart of the bot")
    user_prefix: str = Field("agent-", description="localparts of agents begin with it")
    alias_prefix: str = Field("opsroom-", description="room aliases begin with it")
    operator: str = Field("op", description="localpart (or Matrix id) of the first operator")
    log_level: Literal["debug", "info", "warning"] = Field("info", description="how much the log says")
    parallel: int = Field(
        8, description="how many objects are reconciled at once; as many rooms and people beside them"
    )
    journal_keys: int = Field(1000, description="objects in one room of the journal; more open the next room", ge=1)
    homeserver: HomeserverSettings = HomeserverSettings()
    api: ApiSettings = ApiSettings()
    gateway: GatewaySettings = GatewaySettings()
    storage: StorageSettings = StorageSettings()
    agents: AgentSettings = AgentSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    providers: tuple[ModelProvider, ...] = ()

    @property
    def own_homeserver(self) -> bool:
        """Whether `opsroom up` starts the homeserver."""
        return self.homeserver.url in ("", f"http://127.0.0.1:{self.embedded.homeserver_port}")

    @property
    def own_storage(self) -> bool:
        """Whether `opsroom up` starts the object storage."""
        return self.storage.endpoint in ("", f"http://127.0.0.1:{self.embedded.storage_port}")

    @property
    def storage_users(self) -> str:
        """How storage users are made."""
        if self.storage.users != "auto":
            return self.storage.users
        return "filer" if self.own_storage else "iam"

    @property
    def storage_filer(self) -> str:
        """Address of SeaweedFS's filer."""
        return self.storage.filer or f"http://127.0.0.1:{self.embedded.storage_filer_port}"

    @property
    def own_gateway(self) -> bool:
        """Whether `opsroom up` starts the gateway: not when its state directory was named."""
        return self.gateway.root is None

    @property
    def public_url(self) -> str:
        """How the homeserver reaches the application service."""
        return self.homeserver.public_url or f"http://{self.homeserver.listen_host}:{self.homeserver.listen_port}"

    @property
    def api_url(self) -> str:
        """Where the REST API is; '' when it is on the operator's socket only."""
        open_ = self.api.listen_host and self.api.listen_port
        return f"http://{self.api.listen_host}:{self.api.listen_port}" if open_ else ""

    @property
    def database(self) -> Path:
        return self.data_dir / "opsroom.db"

    @property
    def secrets_dir(self) -> Path:
        return self.data_dir / "secrets"

    @property
    def registration_secret(self) -> Path:
        """File with the secret that makes accounts; of our own homeserver unless another one was named."""
        return self.homeserver.registration_secret_file or self.secrets_dir / "registration-secret"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def gateway_root(self) -> Path:
        return self.gateway.root or self.data_dir / "gateway"

    @property
    def run_dir(self) -> Path:
        """Folder of all unix sockets. Beside the data, or, where that path is too long for a socket, in TMPDIR."""
        inside = self.data_dir / "run"
        if len(str(inside)) <= _LONGEST_SOCKET_DIR:
            return inside
        return Path(gettempdir()) / f"opsroom-{sha256(str(self.data_dir).encode()).hexdigest()[:12]}"

    @property
    def server_name(self) -> str:
        return self.homeserver.server_name

    @property
    def bot_id(self) -> str:
        return f"@{self.bot}:{self.server_name}"

    @property
    def operator_id(self) -> str:
        return self.operator if self.operator.startswith("@") else f"@{self.operator}:{self.server_name}"


def load(data_dir: Path | None = None, **flags: Any) -> Settings:
    """Read the settings. `flags` (nested dicts allowed) win over the environment, that over the file.

    Raises Invalid: every fault at once, with the field's path and where it was read.
    """
    home = (data_dir or Path(os.environ.get("OPSROOM_DATA_DIR", ".opsroom"))).expanduser().resolve()
    path = home / SETTINGS_FILE
    try:
        written = yaml.safe_load(path.read_text()) if path.exists() else {}
    except yaml.YAMLError as error:
        raise Invalid(f"{path} is not valid YAML: {error}", fix="Mend it or delete it.") from error
    try:
        found = merged(merged(written or {}, _environment()), flags)
        found["data_dir"] = home
        return Settings.model_validate(found)
    except ValidationError as error:
        problems = [
            Problem(
                what=fault["msg"], where=".".join(str(part) for part in fault["loc"]), fix=f"See {path} or OPSROOM_*."
            )
            for fault in error.errors()
        ]
        raise Invalid("the settings are wrong", problems=problems) from error


def remember(data_dir: Path, changes: dict[str, Any]) -> None:
    """Merge values into `opsroom.yaml`, written only when one of them is new; who may read it stays as it is. No secret
    may be among them, but there may be some in it already."""
    path = data_dir / SETTINGS_FILE
    before = (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}
    after = merged(before, changes)
    if after == before:
        return
    fresh = path.with_name(path.name + ".new")
    head = "# Settings of this Opsroom. `opsroom up` writes the ports it chose here; edit the rest as you like.\n"
    fresh.touch(mode=0o600)
    fresh.chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600)
    fresh.write_text(head + yaml.safe_dump(after, sort_keys=False))
    fresh.replace(path)


def _environment() -> dict[str, Any]:
    """`OPSROOM_A__B=x` as {'a': {'b': 'x'}}; values that look like YAML lists or maps are read as such."""
    found: dict[str, Any] = {}
    for name, value in os.environ.items():
        if not name.startswith("OPSROOM_") or name in _NO_SETTINGS:
            continue
        level = found
        *parents, last = name.removeprefix("OPSROOM_").lower().split("__")
        for part in parents:
            level = level.setdefault(part, {})
        level[last] = yaml.safe_load(value) if value[:1] in "[{" else value
    return found


def merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """`low` with the values of `high` over it, level by level; None in `high` says nothing."""
    result = dict(low)
    for key, value in high.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        elif value is not None:
            result[key] = value
    return result
