"""Whom an agent's answer calls: people and agents in the room whom it mentions, as far as it may."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time

from appservice.homeserver import events
from appservice.homeserver.members import Members
from appservice.policy.roster import Roster
from appservice.policy.triggers import may_trigger
from appservice.store.audit import Entry
from appservice.store.turns import Turn

_CODE = re.compile(r"(```|~~~).*?(?:\1|\Z)|`[^`\n]*`", re.DOTALL)


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
        """What is code or quoted calls nobody."""
        if "@" not in text:
            return Calls()
        roster = await self._roster()
        me = roster.names.user(turn.agent)
        members = await self._members.of(turn.room_id, user=me)
        users, denied = [], []
        for user in sorted(events.mentions({"body": _CODE.sub("", text)}, members) - {me, roster.names.bot}):
            name = roster.names.agent(user)
            decision = may_trigger(roster, me, name, "group") if name else None
            if decision is None or decision.allowed:
                users.append(user)
                continue
            denied.append(
                Entry(
                    at=time(),
                    actor=me,
                    action="mention",
                    target=name,
                    room_id=turn.room_id,
                    verdict="deny",
                    rule=decision.rule,
                    cause=turn.event_id,
                )
            )
        return Calls(tuple(users), tuple(denied))
