"""Rooms as they should be: a pure function of what is declared. The only place that says who is in which room.

    room of           members
    a worker          operators, managers, the worker; level 1; who names it
    a leader          operators, managers, the leader; level 1
    a member          the team's admins, the leader, the member; level 1, level 2 of the team; who names it
    a team            the team's admins, the leader, all members; level 1, level 2 of the team
    a leader alone    the team's admins, the leader
    a manager         operators, the manager
    a team's space    who is in the team's room, but for guests
    the root space    operators, everybody who is in a room of ours
    the journal       operators

The team's admins are its admin, else the operators. Guests are people whom a channelPolicy allows: they are not
invited, and stay when somebody has done so. Room version 12, whose creator (the bot) cannot be locked out; `events`
of the power levels replaces the homeserver's default map, so it is written in full.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from appservice.policy.roster import Agent, Human, Roster, Team
from appservice.policy.triggers import named

ROOM_VERSION = "12"
OPERATOR_POWER = 100
LEADER_POWER = 50
_NOBODY = 150  # out of everybody's reach but the creator's

Purpose = Literal["space", "ops", "worker", "team-space", "team", "leader-dm", "manager", "journal"]
SPACES = ("space", "team-space")


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredRoom:
    """`alias`: localpart, the room's identity; `owner`: name of the agent or team it is for; `members`: who is invited
    and kept (without the bot, who creates it); `guests`: who may stay; `powers`: user -> power level; `parent`: alias
    of the space it hangs under, '' for the root; `open_to`: alias of the space whose members may join by themselves;
    `portrait`: user whose picture it is made with."""

    alias: str
    name: str
    topic: str
    purpose: Purpose
    owner: str = ""
    members: frozenset[str] = frozenset()
    guests: frozenset[str] = frozenset()
    powers: Mapping[str, int] = field(default_factory=dict)
    parent: str = ""
    open_to: str = ""
    portrait: str = ""


def topology(roster: Roster, *, prefix: str, journals: int = 0) -> Mapping[str, DesiredRoom]:
    """All rooms that follow from what is declared, by alias; spaces before what hangs under them. `journals`: how many
    rooms the journal needs."""
    return {room.alias: room for room in (*_rooms(roster, prefix), *_journals(roster, prefix, journals))}


def journal_alias(number: int, *, prefix: str) -> str:
    """Alias of a room of the journal; they count from 1."""
    return f"{prefix}journal-{number}" if number > 1 else f"{prefix}journal"


def own_room(agent: Agent, *, prefix: str) -> str:
    """Alias of the room in which an agent is asked."""
    [alias] = aliases("Manager" if agent.role == "manager" else "Worker", agent.name, prefix=prefix)
    return alias


def aliases(kind: str, name: str, *, prefix: str) -> list[str]:
    """Of the rooms that are called after an object, a space first."""
    return [f"{prefix}{word}-{name}" for word in _CALLED.get(kind, ())]


def is_of_a_part(alias: str, *, prefix: str) -> bool:
    """Whether a room under a team's space is one of its agents', and not what people hung there."""
    return alias.startswith((f"{prefix}worker-", f"{prefix}leader-dm-"))


_CALLED: Mapping[str, tuple[str, ...]] = {"Worker": ("worker",), "Manager": ("manager",), "Team": ("space", "team")}


_LABELS: Mapping[str, Purpose] = {
    "worker-": "worker",
    "manager-": "manager",
    "space-": "team-space",
    "team-": "team",
    "leader-dm-": "leader-dm",
}


def labelled(alias: str, *, prefix: str) -> tuple[Purpose | None, str]:
    """What an alias says: the purpose of the room of an object (None for other rooms), and the name in it."""
    for label, purpose in _LABELS.items():
        if alias.startswith(prefix + label):
            return purpose, alias.removeprefix(prefix + label)
    return None, ""


def space(*, prefix: str, operators: frozenset[str], people: frozenset[str] = frozenset(), bot: str) -> DesiredRoom:
    return DesiredRoom(
        alias=f"{prefix}space",
        name="Opsroom",
        topic="All rooms of Opsroom: the ops room, one room for each agent, one space for each team.",
        purpose="space",
        members=operators | people,
        powers=dict.fromkeys(operators, OPERATOR_POWER),
        portrait=bot,
    )


def ops_room(*, prefix: str, operators: frozenset[str], bot: str) -> DesiredRoom:
    return DesiredRoom(
        alias=f"{prefix}ops",
        name="Ops room",
        topic="What you type or upload here becomes what runs. Begin with !help",
        purpose="ops",
        members=operators,
        powers=dict.fromkeys(operators, OPERATOR_POWER),
        parent=f"{prefix}space",
        portrait=bot,
    )


def _rooms(roster: Roster, prefix: str) -> Iterator[DesiredRoom]:
    people = frozenset(roster.humans) | {team.admin for team in roster.teams.values() if team.admin}
    root = space(prefix=prefix, operators=roster.operators, people=people, bot=roster.names.bot)
    yield root
    for team in roster.teams.values():
        yield from _team_rooms(roster, team, prefix, root.alias)
    for agent in roster.agents.values():
        yield _agent_room(roster, agent, prefix, root.alias)


def _journals(roster: Roster, prefix: str, count: int) -> Iterator[DesiredRoom]:
    for number in range(1, count + 1):
        yield DesiredRoom(
            alias=journal_alias(number, prefix=prefix),
            name=f"Journal {number}" if number > 1 else "Journal",
            topic="What is declared, as state events: one key an object, with author, cause and revision.",
            purpose="journal",
            members=roster.operators,
            powers=dict.fromkeys(roster.operators, OPERATOR_POWER),
            parent=f"{prefix}space",
            portrait=roster.names.bot,
        )


def _team_rooms(roster: Roster, team: Team, prefix: str, root: str) -> Iterator[DesiredRoom]:
    leader, admins = roster.agents[team.leader], roster.admins(team.name)
    agents = frozenset(roster.agents[name].user for name in (team.leader, *team.members))
    members = admins | agents | _people(roster, team.name)
    powers = dict.fromkeys(admins, OPERATOR_POWER) | {leader.user: LEADER_POWER}
    about = team.description or f"Team {team.name}: {', '.join((team.leader, *team.members))}."
    space_alias, team_alias = aliases("Team", team.name, prefix=prefix)
    whole = DesiredRoom(
        alias=space_alias,
        name=f"Team {team.name}",
        topic=about,
        purpose="team-space",
        owner=team.name,
        members=members,
        powers=powers,
        parent=root,
    )
    yield whole
    yield DesiredRoom(
        alias=team_alias,
        name=f"{team.name} (team)",
        topic=f"{about} Ask {team.leader} by mentioning @{team.leader}.",
        purpose="team",
        owner=team.name,
        members=members,
        guests=_guests(roster, *(roster.agents[name] for name in (team.leader, *team.members))),
        powers=powers,
        parent=whole.alias,
        open_to=whole.alias,
    )
    yield DesiredRoom(
        alias=f"{prefix}leader-dm-{team.leader}",
        name=f"{team.leader} (direct)",
        topic=f"Alone with {team.leader}, who leads {team.name}: no mention is needed.",
        purpose="leader-dm",
        owner=team.name,
        members=admins | {leader.user},
        powers=powers,
        parent=whole.alias,
        portrait=leader.user,
    )


def _agent_room(roster: Roster, agent: Agent, prefix: str, root: str) -> DesiredRoom:
    admins, others, parent = roster.operators, frozenset[str](), root
    managers = frozenset(manager.user for manager in roster.managers)
    powers: dict[str, int] = {}
    if agent.role in ("worker", "leader"):
        others = managers | _people(roster)
    if agent.role == "leader":
        parent = f"{prefix}space-{agent.team}"
        powers = {agent.user: LEADER_POWER}
    if agent.role == "member":
        leader = roster.agents[roster.teams[agent.team].leader]
        admins, parent = roster.admins(agent.team), f"{prefix}space-{agent.team}"
        others = _people(roster, agent.team) | {leader.user}
        powers = {leader.user: LEADER_POWER}
    if agent.role in ("worker", "member"):
        others |= {human.user for human in roster.humans.values() if agent.name in human.workers}
    topic = f"Ask {agent.name} by mentioning @{agent.name}. The answer comes in a thread; react with 🛑 to stop it."
    if agent.role == "manager":
        topic = f"Alone with {agent.name}: no mention is needed. React with 🛑 to stop an answer."
    return DesiredRoom(
        alias=own_room(agent, prefix=prefix),
        name=agent.name,
        topic=topic,
        purpose="manager" if agent.role == "manager" else "worker",
        owner=agent.name,
        members=admins | others | {agent.user},
        guests=_guests(roster, agent),
        powers=powers | dict.fromkeys(admins, OPERATOR_POWER),
        parent=parent,
        open_to=parent if agent.role == "member" else "",
        portrait=agent.user,
    )


def _people(roster: Roster, team: str = "") -> frozenset[str]:
    """Level 1, and level 2 of a team."""
    return frozenset(human.user for human in roster.humans.values() if _sees(human, team))


def _sees(human: Human, team: str) -> bool:
    return human.level == 1 or (human.level == 2 and team in human.teams)


def _guests(roster: Roster, *agents: Agent) -> frozenset[str]:
    """Those whom the policies allow by name, but for agents of ours: these go where they belong."""
    policies = [rules.policy for agent in agents for rules in agent.rules]
    allowed = {name for policy in policies for name in (*policy.group_allow_extra, *policy.dm_allow_extra)}
    denied = {name for policy in policies for name in policy.group_deny_extra}
    found = _users(roster, allowed) - _users(roster, denied)
    return frozenset(user for user in found if not roster.names.is_ours(user))


def _users(roster: Roster, names: set[str]) -> frozenset[str]:
    return frozenset(user for name in names for user in named(roster, name))


def power_levels(room: DesiredRoom) -> dict[str, Any]:
    """Content of `m.room.power_levels`: a leader may redact, agents change no state."""
    return {
        "users": dict(room.powers),
        "users_default": 0,
        "events_default": LEADER_POWER if room.purpose in SPACES else 0,
        "state_default": OPERATOR_POWER,
        "ban": OPERATOR_POWER,
        "kick": OPERATOR_POWER,
        "invite": OPERATOR_POWER,
        "redact": LEADER_POWER,
        "events": {
            "m.room.tombstone": _NOBODY,
            "m.room.encryption": _NOBODY,
            **dict.fromkeys(_OPERATORS_ONLY, OPERATOR_POWER),
        },
    }


_OPERATORS_ONLY = (
    "m.room.power_levels",
    "m.room.server_acl",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
    "m.room.canonical_alias",
    "m.room.pinned_events",
    "m.space.child",
    "m.space.parent",
)


def join_rules(open_to: str) -> dict[str, Any]:
    """Content of `m.room.join_rules`. `open_to`: room id of the space whose members may join, '' for nobody."""
    if not open_to:
        return {"join_rule": "invite"}
    return {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": open_to}]}


HISTORY = {"history_visibility": "shared"}
GUESTS = {"guest_access": "forbidden"}


def creation(room: DesiredRoom, *, server_name: str, parent: str, open_to: str, avatar: str) -> dict[str, Any]:
    """Body of `createRoom`, without the members. `parent` and `open_to` are room ids, `avatar` an mxc:// address."""
    body: dict[str, Any] = {
        "room_alias_name": room.alias,
        "preset": "private_chat",
        "visibility": "private",
        "room_version": ROOM_VERSION,
        "name": room.name,
        "topic": room.topic,
        "creation_content": {"m.federate": False} | ({"type": "m.space"} if room.purpose in SPACES else {}),
        "power_level_content_override": power_levels(room),
        "initial_state": [
            {"type": "m.room.history_visibility", "state_key": "", "content": HISTORY},
            {"type": "m.room.guest_access", "state_key": "", "content": GUESTS},
            {"type": "m.room.join_rules", "state_key": "", "content": join_rules(open_to)},
        ],
    }
    if avatar:
        body["initial_state"].append({"type": "m.room.avatar", "state_key": "", "content": {"url": avatar}})
    if parent:
        link = space_link(server_name) | {"canonical": True}
        body["initial_state"].append({"type": "m.space.parent", "state_key": parent, "content": link})
    return body


def space_link(server_name: str) -> dict[str, Any]:
    return {"via": [server_name]}
