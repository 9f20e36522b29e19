"""What an agent is given: its sandbox with its labels. Pure."""

from collections.abc import Mapping

from appservice.backends.door import door
from appservice.backends.protocol import Limits, Sandbox
from appservice.config import Settings
from appservice.policy.roster import Agent
from appservice.resources.metadata import is_ours
from appservice.resources.worker import WorkerSpec
from appservice.store.objects import Stored

TEAM_LABEL = "opsroom.io/team"
ROLE_LABEL = "opsroom.io/role"


def sandbox(stored: Stored, spec: WorkerSpec, agent: Agent, *, settings: Settings, image: str) -> Sandbox:
    """`image`: what runs where none is declared."""
    where, agents = door(settings, stored.name), settings.agents
    return Sandbox(
        name=stored.name,
        image=spec.image or image,
        gateway_dir=where.gateway_dir,
        agent_dir=where.agent_dir,
        secrets_dir=where.secrets_dir,
        limits=Limits(memory_bytes=agents.memory_mb * 2**20, cpus=agents.cpus, pids=agents.pids),
        labels=labels(stored.document["metadata"].get("labels", {}), spec.labels, agent),
        revision=stored.restart,
    )


def labels(metadata: Mapping[str, str], own: Mapping[str, str], agent: Agent) -> dict[str, str]:
    """Those of the metadata, over them the agent's own, over both ours."""
    declared = {key: value for key, value in {**metadata, **own}.items() if not is_ours(key)}
    return declared | ({TEAM_LABEL: agent.team, ROLE_LABEL: agent.role} if agent.team else {})
