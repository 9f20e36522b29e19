"""Who may wake an agent. Pure: facts in, a decision out; the gates call this and have no rule of their own.

    from \\ to   manager    leader           member                worker
    manager     no         yes              no                    yes
    leader      yes        no               of its own team       no
    member      no         its own          peers, if allowed     no
    worker      yes        no               no                    no
    operator    yes        yes              yes                   yes
    level 1     yes        yes              yes                   yes
    level 2     no         of named teams   of named teams        if named       (members if named, too)
    level 3     no         no               if named              if named
    team admin  no         its own          its own, in groups    no

A channelPolicy adds to it and takes from it; what it denies is denied to everybody.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from appservice.policy.roster import Agent, Human, Roster, Rules, account
from appservice.resources.source import FieldPath
from appservice.resources.worker import ChannelPolicy

Place = Literal["group", "direct"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What every gate returns. `rule` names the rule that decided; `document` (`team/dev`) and `field` where it is
    declared ('' and () for a rule of Opsroom's own); `reason` is a sentence for the room."""

    verdict: Literal["allow", "deny", "ask"]
    rule: str
    document: str = ""
    field: FieldPath = ()
    reason: str = ""

    @property
    def allowed(self) -> bool:
        return self.verdict == "allow"


def may_trigger(roster: Roster, user: str, agent: str, place: Place) -> Decision:
    """May this user (a person's or an agent's Matrix id) wake this agent, in a group or alone with it?"""
    target = roster.agents.get(agent)
    if target is None:
        return Decision(verdict="deny", rule="unknown agent", reason=f"There is no agent called {agent}.")
    if user == target.user:
        return Decision(verdict="deny", rule="itself", reason=f"{agent} does not call itself.")
    for found in _listed(roster, user, target, place, "deny"):
        reason = f"You may not ask {agent} here: its channelPolicy denies it to you."
        return Decision(verdict="deny", rule="channelPolicy", document=found[0], field=found[1], reason=reason)
    for rule in _by_role(roster, user, target, place):
        return rule
    for found in _listed(roster, user, target, place, "allow"):
        return Decision(verdict="allow", rule="channelPolicy", document=found[0], field=found[1])
    return _refusal(roster, user, target)


def _by_role(roster: Roster, user: str, target: Agent, place: Place) -> Iterator[Decision]:
    if user in roster.operators:
        yield Decision(verdict="allow", rule="operator")
    speaker = roster.agent_of(user)
    if speaker is not None:
        yield from _between_agents(roster, speaker, target, place)
        return
    team = roster.teams.get(target.team)
    if team is not None and team.admin == user and (target.role == "leader" or place == "group"):
        yield Decision(verdict="allow", rule="team admin", document=f"team/{team.name}", field=("spec", "admin"))
    human = roster.humans.get(user)
    if human is None:
        return
    document = f"human/{human.name}"
    if human.level == 1:
        yield Decision(verdict="allow", rule="level 1", document=document, field=("spec", "permissionLevel"))
    if human.level == 2 and target.team in human.teams:
        at: FieldPath = ("spec", "accessibleTeams", human.teams.index(target.team))
        yield Decision(verdict="allow", rule="level 2, team", document=document, field=at)
    if target.name in human.workers and target.role in ("member", "worker"):
        at = ("spec", "accessibleWorkers", human.workers.index(target.name))
        yield Decision(verdict="allow", rule=f"level {human.level}, worker", document=document, field=at)


def _between_agents(roster: Roster, speaker: Agent, target: Agent, place: Place) -> Iterator[Decision]:
    if place != "group":
        return
    same = bool(speaker.team) and speaker.team == target.team
    match speaker.role, target.role:
        case ("manager", "leader" | "worker") | ("leader" | "worker", "manager"):
            yield Decision(verdict="allow", rule=f"{speaker.role} to {target.role}")
        case ("leader", "member") | ("member", "leader") if same:
            document = f"team/{target.team}"
            yield Decision(verdict="allow", rule="leader and team", document=document, field=("spec", "leader", "name"))
        case ("member", "member") if same and roster.teams[target.team].peers:
            document = f"team/{target.team}"
            yield Decision(verdict="allow", rule="peers", document=document, field=("spec", "peerMentions"))


def _refusal(roster: Roster, user: str, target: Agent) -> Decision:
    speaker = roster.agent_of(user)
    if speaker is None:
        rule = "manager-access" if target.role == "manager" else "worker-access"
        how = "permissionLevel: 1" if target.role == "manager" else f"accessibleWorkers: [{target.name}]"
        if target.role == "leader":
            how = f"permissionLevel: 2 and accessibleTeams: [{target.team}]"
        reason = (
            f"You may not ask {target.name} here: only operators and people whose Human allows it may."
            f" Ask an operator for a Human with `{how}`."
        )
        human = roster.humans.get(user)
        document, at = (f"human/{human.name}", _short_of(human, target)) if human else ("", ())
        return Decision(verdict="deny", rule=rule, document=document, field=at, reason=reason)
    reason = f"{speaker.name} ({speaker.role}) may not call {target.name} ({target.role})."
    team = roster.teams.get(target.team)
    if team and not team.peers and speaker.team == team.name and speaker.role == target.role == "member":
        at = ("spec", "peerMentions")
        return Decision(verdict="deny", rule="peers", document=f"team/{target.team}", field=at, reason=reason)
    return Decision(verdict="deny", rule=f"{speaker.role} to {target.role}", reason=reason)


def _short_of(human: Human, target: Agent) -> FieldPath:
    """What of a Human does not reach an agent."""
    if target.role == "leader" and human.level == 2 and human.teams:
        return ("spec", "accessibleTeams")
    if target.role in ("member", "worker") and human.workers:
        return ("spec", "accessibleWorkers")
    return ("spec", "permissionLevel")


def _listed(
    roster: Roster, user: str, target: Agent, place: Place, side: Literal["allow", "deny"]
) -> Iterator[tuple[str, FieldPath]]:
    """Where a policy names who asks."""
    for rules in target.rules:
        if (at := _named(roster, user, rules, place, side)) is not None:
            yield rules.document, at


def _named(roster: Roster, user: str, rules: Rules, place: Place, side: Literal["allow", "deny"]) -> FieldPath | None:
    """Where the list that counts in this place names a user."""
    field = f"{'group' if place == 'group' else 'dm'}_{side}_extra"
    names: tuple[str, ...] = getattr(rules.policy, field)
    for index, name in enumerate(names):
        if user in named(roster, name):
            alias = ChannelPolicy.model_fields[field].alias or field
            return (*rules.path, alias, index)
    return None


def named(roster: Roster, name: str) -> frozenset[str]:
    """Whom a name in a channelPolicy may mean, as Matrix ids: a full one itself, another one an agent called so, and
    the Human called so, or else the user of our homeserver."""
    if name.startswith("@"):
        return frozenset({name})
    return frozenset({roster.names.user(name), account(name, roster.humans, roster.names)})
