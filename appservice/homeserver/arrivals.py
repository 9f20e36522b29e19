"""What was said in a room before the bot came in was not said to us. A homeserver shows it all the same: the first
`/sync` after the bot joined brings the room's last messages, whoever they were meant for.
"""

from collections.abc import Sequence
from typing import Any

from appservice.homeserver import events


def since_arrival(batch: Sequence[dict[str, Any]], bot: str) -> list[dict[str, Any]]:
    """Of a room's events in their order: from the last one with which the bot came in."""
    came = [number for number, event in enumerate(batch) if _comes_in(event, bot)]
    return list(batch[came[-1] :]) if came else list(batch)


def _comes_in(event: dict[str, Any], bot: str) -> bool:
    """Joined; a member that changes its name or picture joins again from having joined."""
    if event["type"] != "m.room.member" or event.get("state_key") != bot:
        return False
    before = events.map_of(events.map_of(event.get("unsigned")).get("prev_content"))
    now = events.map_of(event.get("content"))
    return now.get("membership") == "join" and before.get("membership") != "join"
