"""Who there is: agents with their places, teams, people. Pure: declared documents in. Policy and rooms work on it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from appservice.errors import Invalid
from appservice.resources import manager, team
from appservice.resources.human import HumanSpec
from appservice.resources.manager import ManagerSpec
from appservice.resources.source import FieldPath
from appservice.resources.team import TeamSpec
from appservice.resources.worker import ChannelPolicy, WorkerSpec

Role = Literal["manager", "leader", "member", "worker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Which users are ours: agents by prefix, the bot by name."""

    bot: str
    prefix: str
    server_name: str

    def agent(self, user: str) -> str:
        """The agent's name, or ''."""
        start, end = f"@{self.prefix}", f":{self.server_name}"
        return user[len(start) : -len(end)] if user.startswith(start) and user.endswith(end) else ""

    def user(self, agent: str) -> str:
        return f"@{self.prefix}{agent}:{self.server_name}"

    def person(self, name: str) -> str:
        return name if name.startswith("@") else f"@{name}:{self.server_name}"

    def is_foreign(self, user: str) -> bool:
        """Of another server: rooms of ours are closed to them."""
        return not user.endswith(f":{self.server_name}")

    def is_ours(self, user: str) -> bool:
        return user == self.bot or bool(self.agent(user))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A channelPolicy, and where it stands: the document (`team/dev`) and the field in it."""

    policy: ChannelPolicy
    document: str
    path: FieldPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """`rules`: its own, then its team's."""

    name: str
    user: str
    role: Role
    team: str = ""
    rules: tuple[Rules, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """`admin`: Matrix id of who takes the operators' place in its rooms, '' for nobody; `not_admin`: who was named and
    cannot do it, an agent or somebody of another server, for whom our rooms are closed."""

    name: str
    description: str
    leader: str
    members: tuple[str, ...]
    admin: str
    peers: bool
    not_admin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Human:
    name: str
    user: str
    shown: str
    level: int
    teams: tuple[str, ...]
    workers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """`agents` and `teams` by name, `humans` by Matrix id; `operators` by Matrix id."""

    names: Names
    operators: frozenset[str]
    agents: Mapping[str, Agent] = field(default_factory=dict)
    teams: Mapping[str, Team] = field(default_factory=dict)
    humans: Mapping[str, Human] = field(default_factory=dict)

    def agent_of(self, user: str) -> Agent | None:
        return self.agents.get(self.names.agent(user))

    @property
    def managers(self) -> tuple[Agent, ...]:
        return tuple(agent for agent in self.agents.values() if agent.role == "manager")

    def admins(self, team_name: str) -> frozenset[str]:
        """Who runs a team: its admin, else the operators."""
        found = self.teams.get(team_name)
        return frozenset({found.admin}) if found and found.admin else self.operators


Declared = tuple[str, str, Mapping[str, Any]]  # kind, name, spec in its canonical form


def build(documents: Iterable[Declared], *, names: Names, operators: frozenset[str]) -> Roster:
    """From the documents people wrote: those of objects that belong to another one are left out.

    Raises Invalid for a document that an earlier program took and this one does not: what follows from it is unknown,
    and to leave it out would end its rooms.
    """
    agents: dict[str, Agent] = {}
    teams: dict[str, Team] = {}
    humans: dict[str, Human] = {}
    for kind, name, spec in sorted(documents, key=lambda one: one[0] != "Human"):  # a team names people
        try:
            _add(kind, name, spec, names, agents, teams, humans)
        except ValidationError as error:
            key = f"{kind.lower()}/{name}"
            fix = f"Declare it again: `!edit {key}` gives it as a file."
            raise Invalid(f"the stored `{key}` cannot be read by this program", fix=fix) from error
    return Roster(names=names, operators=operators, agents=agents, teams=teams, humans=humans)


def _add(
    kind: str,
    name: str,
    spec: Mapping[str, Any],
    names: Names,
    agents: dict[str, Agent],
    teams: dict[str, Team],
    humans: dict[str, Human],
) -> None:
    match kind:
        case "Worker":
            own = Rules(policy=_policy(spec), document=f"worker/{name}", path=("spec", "channelPolicy"))
            agents[name] = Agent(name=name, user=names.user(name), role="worker", rules=(own,))
        case "Manager":
            called, _ = manager.agent(name, ManagerSpec.model_validate(spec))
            agents[called] = Agent(name=called, user=names.user(called), role="manager")
        case "Team":
            found = TeamSpec.model_validate(spec)
            teams[name] = _team(name, found, names, humans)
            agents |= _members(name, found, names)
        case "Human":
            human = HumanSpec.model_validate(spec)
            user = names.person(human.username or name)
            if names.is_ours(user):  # refused where it is declared; the user prefix may have changed since
                return
            humans[user] = Human(
                name=name,
                user=user,
                shown=human.display_name,
                level=human.permission_level,
                teams=human.accessible_teams,
                workers=human.accessible_workers,
            )


def account(name: str, humans: Mapping[str, Human], names: Names) -> str:
    """Matrix id of the Human called so, or else of the user of our homeserver."""
    return next((human.user for human in humans.values() if human.name == name), "") or names.person(name)


def _team(name: str, spec: TeamSpec, names: Names, humans: Mapping[str, Human]) -> Team:
    admin = spec.admin.matrix_user_id or account(spec.admin.name, humans, names) if spec.admin else ""
    cannot = bool(admin) and (names.is_ours(admin) or names.is_foreign(admin))  # refused where it is declared
    return Team(
        name=name,
        description=spec.description,
        leader=spec.leader.name,
        members=tuple(worker.name for worker in spec.workers),
        admin="" if cannot else admin,
        peers=spec.peer_mentions,
        not_admin=admin if cannot else "",
    )


def _members(name: str, spec: TeamSpec, names: Names) -> dict[str, Agent]:
    whole = Rules(policy=spec.channel_policy, document=f"team/{name}", path=("spec", "channelPolicy"))
    found = {}
    for member in team.members(name, spec):
        own = Rules(policy=member.spec.channel_policy, document=f"team/{name}", path=(*member.path, "channelPolicy"))
        user = names.user(member.name)
        found[member.name] = Agent(name=member.name, user=user, role=member.role, team=name, rules=(own, whole))
    return found


def _policy(spec: Mapping[str, Any]) -> ChannelPolicy:
    """Of a Worker, without reading the rest of it."""
    declared = spec.get("channelPolicy")
    return ChannelPolicy.model_validate(declared) if declared else WorkerSpec.model_fields["channel_policy"].default
