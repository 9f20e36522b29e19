"""Where agents run: one protocol for Docker, local sandboxed processes and, later, Kubernetes.

The door (see docs/architecture.md): a sandbox has no network but loopback. Three folders are mounted into it,

    /run/opsroom/gateway   read-only, holds `gateway.sock`: the only way out
    /run/opsroom/agent     writable, the agent makes `a2a.sock` there: the only way in
    /run/opsroom/secrets   read-only, holds `token`: the agent's consumer token, replaced in place when it is rotated

Folders are mounted, never the socket or token files, because a restarted gateway and a rotated token make new inodes.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Literal, Protocol

from appservice.health import Health

GATEWAY_DIR = "/run/opsroom/gateway"
AGENT_DIR = "/run/opsroom/agent"
SECRETS_DIR = "/run/opsroom/secrets"
GATEWAY_SOCKET = "gateway.sock"
AGENT_SOCKET = "a2a.sock"
TOKEN_FILE = "token"  # noqa: S105 - a file name


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one agent may use. `cpus` in cores."""

    memory_bytes: int = 512 * 2**20
    cpus: float = 1.0
    pids: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """One agent's sandbox as it should be. `name` is the agent's name, unique in this installation.

    `revision` is any text; a new one makes a new sandbox (`restart`, a changed model). `labels` are for people and
    their tools; those that a backend needs for itself win over them.
    """

    name: str
    image: str
    gateway_dir: Path
    agent_dir: Path
    secrets_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""

    @property
    def spec_hash(self) -> str:
        """Hash of all that makes a sandbox what it is; stored with it (Docker: a label) and compared."""
        content = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        return sha256(dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


State = Literal["absent", "created", "running", "exited"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One sandbox as it is. `detail` says in a phrase why it ended ('out of memory', 'exit code 3'), '' otherwise."""

    name: str
    state: State
    id: str = ""
    spec_hash: str = ""
    exit_code: int | None = None
    detail: str = ""
    running_since: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendEvent:
    """Something happened to a sandbox. `action`: start, die, oom, destroy. With name '': `gap` when what runs sandboxes
    is away (agents may be lost with it), `resync` once events come again and everything has to be looked at."""

    name: str
    action: str


class Backend(Protocol):
    """All calls are idempotent: creating what exists with the same hash, starting what runs, stopping or removing
    what is gone are successes. Errors: `Unavailable` (engine away, image missing; with the way to mend it),
    `Invalid` (the engine refuses the specification)."""

    name: str
    isolation: str  # one sentence for `status`: what keeps an agent in

    async def healthy(self) -> Health: ...

    async def ensure_image(self, image: str) -> None:
        """Return when the image is there. Raises `Unavailable` when it is missing and cannot be had, `Invalid` when
        this backend can never run it."""

    async def observe(self, name: str) -> Observed: ...

    async def observe_all(self) -> Mapping[str, Observed]:
        """Every sandbox of this installation, by agent name: orphans are found with it."""

    async def create(self, sandbox: Sandbox) -> None:
        """Make the sandbox without starting it. One with another hash is removed first."""

    async def start(self, name: str) -> None: ...

    async def stop(self, name: str, *, grace_s: float = 5.0) -> None: ...

    async def remove(self, name: str) -> None: ...

    async def logs(self, name: str, *, lines: int = 200) -> str:
        """The last lines of what the agent wrote to stdout and stderr, oldest first."""

    def events(self) -> AsyncIterator[BackendEvent]:
        """Endless. Reconnects by itself, with a `gap` event when it must and a `resync` once it has. Closed by
        cancelling the consumer."""

    async def close(self) -> None: ...
