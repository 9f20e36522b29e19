"""A room of somebody's own, into which agents, or the bot, were asked: one of them reads it for Opsroom. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from appservice.policy.roster import Roster


def reader(roster: Roster, state: Sequence[Mapping[str, Any]], before: str) -> str:
    """The agent that reads a room which the one that did has left; '' when none is there. `state`: the room's, as the
    one who left may read it; it goes on if it has come back since."""
    here = _joined(state)
    return before if before in here else min((user for user in here if roster.agent_of(user)), default="")


def _joined(state: Sequence[Mapping[str, Any]]) -> list[str]:
    found = (event for event in state if event["type"] == "m.room.member")
    return [event["state_key"] for event in found if event["content"].get("membership") == "join"]
