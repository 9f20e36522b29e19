"""Who may wake an agent. Pure: facts in, a decision out; the gates call this and have no rule of their own."""

from dataclasses import dataclass
from typing import Literal

from appservice.resources.worker import ChannelPolicy

Place = Literal["group", "direct"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What every gate returns. `rule` names the rule that decided, `field` where the agent's document says so ('' for
    a rule of Opsroom's own), `reason` is a sentence for the room."""

    verdict: Literal["allow", "deny", "ask"]
    rule: str
    field: tuple[str | int, ...] = ()
    reason: str = ""

    @property
    def allowed(self) -> bool:
        return self.verdict == "allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who speaks: `user` is a Matrix id, `localpart` its name if it is a user of our homeserver, else ''.
    `is_operator` has power 100 in the ops room, `in_agents_room` is joined in the agent's own room."""

    user: str
    localpart: str = ""
    is_agent: bool = False
    is_operator: bool = False
    in_agents_room: bool = False


def may_trigger(asker: Asker, agent: str, place: Place, policy: ChannelPolicy) -> Decision:
    """Whoever is denied by name may not. Operators may, the people in the agent's own room, and whoever is allowed by
    name. Agents may not."""
    if asker.is_agent:
        return Decision(verdict="deny", rule="agents", reason="What an agent says is never taken as a question.")
    if (at := _listed(asker, policy, place, "deny")) is not None:
        reason = f"You may not ask {agent} here: its channelPolicy denies it to you."
        return Decision(verdict="deny", rule="channelPolicy", field=at, reason=reason)
    if asker.is_operator:
        return Decision(verdict="allow", rule="operator")
    if asker.in_agents_room:
        return Decision(verdict="allow", rule="member of the agent's room")
    if (at := _listed(asker, policy, place, "allow")) is not None:
        return Decision(verdict="allow", rule="channelPolicy", field=at)
    return Decision(
        verdict="deny",
        rule="worker-access",
        reason=f"You may not ask {agent} here: only operators and people in {agent}'s own room may."
        " Ask an operator to invite you there.",
    )


def _listed(
    asker: Asker, policy: ChannelPolicy, place: Place, side: Literal["allow", "deny"]
) -> tuple[str | int, ...] | None:
    """Where the policy names who asks. A name without a server means a user of our homeserver."""
    field = f"{'group' if place == 'group' else 'dm'}_{side}_extra"
    names: tuple[str, ...] = getattr(policy, field)
    for index, name in enumerate(names):
        if name == asker.user or (asker.localpart and name == asker.localpart):
            alias = ChannelPolicy.model_fields[field].alias or field
            return ("spec", "channelPolicy", alias, index)
    return None
