"""What the sandbox tells its agent: a handful of environment variables, read once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.failures import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the door, the token and the workspace are, and the limits that an operator may want to change."""

    agent: str
    gateway_dir: Path
    agent_dir: Path
    secrets_dir: Path
    workspace: Path
    forward_port: int
    brain_idle_s: float

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.forward_port}"

    @property
    def gateway_socket(self) -> Path:
        return self.gateway_dir / "gateway.sock"

    @property
    def agent_socket(self) -> Path:
        return self.agent_dir / "a2a.sock"

    @property
    def token_file(self) -> Path:
        return self.secrets_dir / "token"


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; the documented defaults fill what is not set."""
    env = os.environ if environment is None else environment
    home = Path(env.get("HOME") or "/tmp")  # noqa: S108 - the only writable place of a sandbox without a home
    return Settings(
        agent=env.get("OPSROOM_AGENT", ""),
        gateway_dir=Path(env.get("OPSROOM_GATEWAY_DIR", "/run/opsroom/gateway")),
        agent_dir=Path(env.get("OPSROOM_AGENT_DIR", "/run/opsroom/agent")),
        secrets_dir=Path(env.get("OPSROOM_SECRETS_DIR", "/run/opsroom/secrets")),
        workspace=Path(env.get("OPSROOM_WORKSPACE") or home / "workspace"),
        forward_port=int(env.get("OPSROOM_FORWARD_PORT", "4000")),
        brain_idle_s=float(env.get("OPSROOM_BRAIN_IDLE_S", "60")),
    )


def read_token(file: Path) -> str:
    """The token as it is now: it is replaced in place, so it is read for every call."""
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise Failure("My token is missing; an operator should restart me.", code="denied") from error
