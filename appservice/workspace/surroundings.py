"""What an agent is told of those around it: its team, whom it may call, where common files are. Pure."""

from collections.abc import Iterable

from appservice.policy.roster import Agent, Roster
from appservice.policy.triggers import may_trigger
from appservice.workspace.names import team_prefix

_LEADING = """\
Split what you are asked for, give each part to one member by a mention that says all they need, check what comes \
back, and report the result where you were asked. Do no part of it yourself that a member can do."""


def surroundings(roster: Roster, agent: Agent) -> str:
    """Markdown for AGENTS.md; '' for an agent that has nobody around it."""
    match agent.role:
        case "leader":
            parts = _leader(roster, agent)
        case "member":
            parts = _member(roster, agent)
        case "manager":
            parts = _manager(roster, agent)
        case _:
            parts = _worker(roster, agent)
    return "\n\n".join(part for part in parts if part)


def _leader(roster: Roster, agent: Agent) -> list[str]:
    team = roster.teams[agent.team]
    members = _callable(roster, agent, team.members)
    return [
        f"# Your team\n\nYou lead the team **{team.name}**. {team.description}".rstrip(),
        _people("Team admin", roster.admins(team.name)),
        _agents("You give work to", roster, members),
        _agents("Above the team, in your own room", roster, _callable(roster, agent, _managers(roster))),
        _LEADING if members else "",
        _files(team.name),
    ]


def _member(roster: Roster, agent: Agent) -> list[str]:
    team = roster.teams[agent.team]
    peers = _callable(roster, agent, team.members)
    alone = len(team.members) > 1 and not peers
    return [
        f"# Your team\n\nYou work in the team **{team.name}**. {team.description}".rstrip(),
        _people("Team admin", roster.admins(team.name)),
        _agents(
            "Your leader, from whom you get work and to whom you report",
            roster,
            _callable(roster, agent, [team.leader]),
        ),
        _agents("Others of the team, whom you may call", roster, peers),
        "You may not call others of the team; ask your leader." if alone else "",
        "Do not mention the Manager: what concerns it goes to your leader." if roster.managers else "",
        _files(team.name),
    ]


def _manager(roster: Roster, agent: Agent) -> list[str]:
    leaders = _callable(roster, agent, [team.leader for team in roster.teams.values()])
    workers = _callable(roster, agent, [other.name for other in roster.agents.values() if other.role == "worker"])
    return [
        "# Who works for you",
        _people("You answer to", roster.operators),
        _agents("Leaders, each in its own room", roster, leaders),
        _agents("Workers, each in its own room", roster, workers),
        "Do not contact members of a team: what concerns them goes to their leader." if leaders else "",
    ]


def _worker(roster: Roster, agent: Agent) -> list[str]:
    managers = _callable(roster, agent, _managers(roster))
    return ["# Who is around you", _agents("The Manager, in your own room", roster, managers)] if managers else []


def _managers(roster: Roster) -> list[str]:
    return [manager.name for manager in roster.managers]


def _callable(roster: Roster, agent: Agent, names: Iterable[str]) -> list[str]:
    """Those of them whom the agent may call."""
    return [name for name in names if may_trigger(roster, agent.user, name, "group").allowed]


def _agents(head: str, roster: Roster, names: Iterable[str]) -> str:
    lines = [f"- {name}: {roster.agents[name].user}" for name in names]
    return "\n".join([f"{head}:", "", *lines]) if lines else ""


def _people(head: str, users: Iterable[str]) -> str:
    found = ", ".join(f"`{user}`" for user in sorted(users))
    return f"{head}: {found}." if found else ""


def _files(team: str) -> str:
    return f"Files of the team are in the bucket below `{team_prefix(team)}shared/`."
