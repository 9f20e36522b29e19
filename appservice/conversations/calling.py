"""Whom an agent's answer calls: people and agents in the room whom it mentions, as far as it may."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import time

import structlog

from appservice.conversations.places import NOT_A_MEMBER
from appservice.homeserver import events
from appservice.homeserver.client import ERRORS, is_gone, localpart
from appservice.homeserver.members import Members
from appservice.homeserver.patience import outlast
from appservice.policy.roster import Roster
from appservice.policy.triggers import may_trigger
from appservice.store.audit import Entry
from appservice.store.turns import Turn

_CODE = re.compile(r"(```|~~~).*?(?:\1|\Z)|`[^`\n]*`", re.DOTALL)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Calls:
    """`users`: Matrix ids to mention; `denied`: for the audit, mentions that stay plain text."""

    users: tuple[str, ...] = ()
    denied: tuple[Entry, ...] = ()


class Calling:
    def __init__(self, members: Members, roster: Callable[[], Awaitable[Roster]]) -> None:
        self._members = members
        self._roster = roster

    async def calls(self, turn: Turn, text: str) -> Calls:
        """A homeserver that is away is waited for: the answer cannot be sent before it is back, either."""
        if "@" not in text:
            return Calls()
        roster = await outlast(self._roster, "read who operates")
        user = roster.names.user(turn.agent)
        try:
            members = await outlast(lambda: self._members.of(turn.room_id, user=user), "read whom an answer calls")
        except ERRORS as error:
            if not is_gone(error):
                raise
            log.warning("an answer calls nobody", agent=turn.agent, room_id=turn.room_id, error=str(error))
            return Calls()
        return called(roster, turn, text, members, now=time())


def called(roster: Roster, turn: Turn, text: str, members: Mapping[str, str], *, now: float) -> Calls:
    """Pure. What is code or quoted calls nobody; an agent that is not in the room cannot be called."""
    me = roster.names.user(turn.agent)
    said = {"body": _CODE.sub("", text)}
    users, denied = [], []
    for user in sorted(events.mentions(said, members) - {me, roster.names.bot}):
        name = roster.names.agent(user)
        decision = may_trigger(roster, me, name, "group") if name else None
        if decision is None or decision.allowed:
            users.append(user)
        else:
            denied.append((name, decision.rule))
    meant = {
        name for user in users for name in (localpart(user), members[user])
    }  # a person may be called like an agent
    away = {agent.user: agent.name for agent in roster.agents.values() if agent.user not in members}
    for user in sorted(events.mentions(said, away) - {me}):
        decision = may_trigger(roster, me, away[user], "group")
        if away[user] not in meant:
            denied.append((away[user], NOT_A_MEMBER if decision.allowed else decision.rule))
    return Calls(tuple(users), tuple(_entry(turn, me, name, rule, now) for name, rule in denied))


def _entry(turn: Turn, me: str, name: str, rule: str, now: float) -> Entry:
    return Entry(
        at=now,
        actor=me,
        action="mention",
        target=name,
        room_id=turn.room_id,
        verdict="deny",
        rule=rule,
        cause=turn.event_id,
    )
