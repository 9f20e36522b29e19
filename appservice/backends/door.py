"""Where one agent's door is on this machine: two folders of its own and the gateway's, which all share."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from appservice.backends.protocol import AGENT_SOCKET, TOKEN_FILE
from appservice.config import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    gateway_dir: Path
    agent_dir: Path
    secrets_dir: Path

    @property
    def socket(self) -> Path:
        """The agent's A2A server."""
        return self.agent_dir / AGENT_SOCKET

    @property
    def token(self) -> Path:
        return self.secrets_dir / TOKEN_FILE


def door(settings: Settings, name: str) -> Door:
    """Folders of the agent `name`; hashed below `run`, because a socket's path must be short."""
    short = sha256(name.encode()).hexdigest()[:12]
    return Door(
        gateway_dir=settings.run_dir / "gateway",
        agent_dir=settings.run_dir / "agents" / short,
        secrets_dir=settings.data_dir / "agents" / name / "secrets",
    )
