"""Where something is said, alone with an agent or in a group, and whether it is heard there. Pure."""

from collections.abc import Iterable

from appservice.homeserver.members import short
from appservice.policy.roster import Names
from appservice.policy.triggers import Decision, Place
from appservice.store.rooms import Room

NOT_A_MEMBER = "not a member"  # the rule
FOR_ONE_AGENT = ("leader-dm", "manager")  # rooms of ours in which no mention is needed


def place_of(
    names: Names, user: str, room: Room | None, members: Iterable[str], declared: frozenset[str] = frozenset()
) -> Place:
    """Direct: somebody alone with an agent, in a room that is meant for that. In one of ours all whom it is `declared`
    for are alone with its agent: it may have several operators."""
    agents = {member for member in members if names.agent(member)}
    others = set(members) - agents - {names.bot, user}
    if room is None or len(agents) != 1:
        return "group"
    if room.purpose in FOR_ONE_AGENT:
        others -= declared
    return "direct" if room.purpose in ("direct", *FOR_ONE_AGENT) and not others else "group"


def unheard(names: Names, user: str, agent: str, members: Iterable[str]) -> Decision | None:
    """Why nothing that a user says in a room with these members reaches an agent; None when it does."""
    here = set(members)
    if names.user(agent) not in here:
        reason = f"{agent} is not in that room: nothing said there reaches it."
    elif user not in here:
        reason = f"{short(user)} is not in that room, and can say nothing there."
    else:
        return None
    return Decision(verdict="deny", rule=NOT_A_MEMBER, reason=reason)
