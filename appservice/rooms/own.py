"""A room of somebody's own, into which agents, or the bot, were asked: one of them reads it for Opsroom. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from appservice.policy.roster import Roster


def heir(roster: Roster, state: Sequence[Mapping[str, Any]], gone: str) -> str:
    """The agent that reads a room from now on when the one that did has left it; '' when none is there. `state`: the
    room's, as the one who is gone may read it."""
    return min((user for user in _joined(state) if user != gone and roster.agent_of(user)), default="")


def _joined(state: Sequence[Mapping[str, Any]]) -> list[str]:
    found = (event for event in state if event["type"] == "m.room.member")
    return [event["state_key"] for event in found if event["content"].get("membership") == "join"]
