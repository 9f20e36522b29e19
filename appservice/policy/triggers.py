"""Who may wake an agent. Pure: facts in, a decision out; the gates call this and have no rule of their own."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What every gate returns. `rule` names the rule that decided, `reason` is a sentence for the room."""

    verdict: Literal["allow", "deny", "ask"]
    rule: str
    reason: str = ""

    @property
    def allowed(self) -> bool:
        return self.verdict == "allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who speaks: `is_operator` has power 100 in the ops room, `in_agents_room` is joined in the agent's own room."""

    user: str
    is_operator: bool = False
    in_agents_room: bool = False


def may_trigger(asker: Asker, agent: str) -> Decision:
    """Operators may, and the people in the agent's own room."""
    if asker.is_operator:
        return Decision(verdict="allow", rule="operator")
    if asker.in_agents_room:
        return Decision(verdict="allow", rule="member of the agent's room")
    return Decision(
        verdict="deny",
        rule="worker-access",
        reason=f"You may not ask {agent} here: only operators and people in {agent}'s own room may."
        " Ask an operator to invite you there.",
    )
