"""What an agent is given: its sandbox with its labels, its access to files, its workspace. Pure, but for the skills,
which are files that ship with Opsroom."""

from collections.abc import Iterator, Mapping

from appservice.backends.door import door
from appservice.backends.protocol import Limits, Sandbox
from appservice.config import Settings
from appservice.errors import Invalid
from appservice.policy.roster import Agent, Role, Roster
from appservice.resources.access import ALL_AGENTS, NAMESPACE, AccessEntry, expanded
from appservice.resources.metadata import is_ours
from appservice.resources.worker import WorkerSpec
from appservice.storage.protocol import Access, Grant
from appservice.store.objects import Stored
from appservice.workspace import files, skills
from appservice.workspace.names import MANAGERS, SHARED, prefix, team_prefix
from appservice.workspace.surroundings import surroundings

TEAM_LABEL = "opsroom.io/team"
ROLE_LABEL = "opsroom.io/role"
_KINDS: Mapping[Role, str] = {  # what `${self.kind}` is, in the words of HiClaw
    "worker": "Worker",
    "manager": "Manager",
    "leader": "TeamLeader",
    "member": "TeamWorker",
}


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


def access(spec: WorkerSpec, agent: Agent) -> Access:
    """Its own files, its team's, those for all, which Managers write and others read; and what it is granted beyond.
    Raises Invalid for a grant that says too much once its variables are known."""
    manages = agent.role == "manager"
    common: tuple[str, ...] = (MANAGERS, SHARED) if manages else (team_prefix(agent.team),) if agent.team else ()
    grants = tuple(grant for entry in spec.access_entries for grant in _grants(entry, agent))
    return Access(write=(prefix(agent.name), *common), read=() if manages else (SHARED,), grants=grants)


def _grants(entry: AccessEntry, agent: Agent) -> Iterator[Grant]:
    kind = _KINDS[agent.role]
    variables = {"self.name": agent.name, "self.kind": kind, "self.namespace": NAMESPACE, "self.team": agent.team}
    permissions = frozenset(entry.permissions)
    for declared in entry.scope.prefixes:
        meant = expanded(declared, variables)
        if meant == ALL_AGENTS and permissions & {"write", "delete"}:
            what = f"{declared!r} means all of `{ALL_AGENTS}` for {agent.name}, which no agent may write or delete."
            raise Invalid(what, fix="Name other folders in its `accessEntries`.")
        yield Grant(prefix=meant, permissions=permissions)


def workspace(name: str, spec: WorkerSpec, roster: Roster) -> dict[str, bytes]:
    """Its managed files, by path. Raises Invalid for a skill that does not exist."""
    return files.workspace(
        name=name,
        display_name=name,
        model=spec.model,
        identity=spec.identity,
        soul=spec.soul,
        agents=spec.agents,
        skills=skills.chosen(spec.skills),
        user_id=roster.names.user(name),
        room=name,
        around=surroundings(roster, roster.agents[name]),
    )
