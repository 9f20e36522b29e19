"""The first thing an operator sees: the space, the ops room, a greeting with something to try that works now."""

import re
from collections.abc import Sequence
from typing import Any

from appservice.config import Settings
from appservice.errors import Denied
from appservice.health import Health
from appservice.homeserver import content
from appservice.homeserver.avatar import emblem
from appservice.homeserver.client import Homeserver
from appservice.homeserver.sender import Sender
from appservice.paths import shipped
from appservice.rooms import desired, live
from appservice.rooms.live import Around
from appservice.store import rooms
from appservice.store.database import Connection, Database
from appservice.store.outbox import Outgoing
from appservice.store.rooms import Room

NAME = "Opsroom"


async def ensure_bot(homeserver: Homeserver) -> None:
    """The bot's user with its name and picture."""
    bot = homeserver.bot
    await homeserver.ensure_user(bot)
    profile = await homeserver.profile(bot)
    if profile.get("displayname") != NAME:
        await homeserver.set_profile(bot, "displayname", NAME)
    if not profile.get("avatar_url"):
        address = await homeserver.upload(emblem(), name="opsroom.png", mimetype="image/png")
        await homeserver.set_profile(bot, "avatar_url", address)


async def ensure_rooms(store: Database, homeserver: Homeserver, settings: Settings) -> tuple[str, str]:
    """(space, ops room). Their members and levels are the operators' own business once they are made; `operator` of
    the settings says who is the first."""
    operators = frozenset({settings.operator_id})
    prefix = settings.alias_prefix
    picture = str((await homeserver.profile(homeserver.bot)).get("avatar_url") or "")
    root = desired.space(prefix=prefix, operators=operators, bot=homeserver.bot)
    ops = desired.ops_room(prefix=prefix, operators=operators, bot=homeserver.bot)
    space = await _ensure(homeserver, root, Around(avatar=picture))
    ops_room = await _ensure(homeserver, ops, Around(avatar=picture, parent=space))

    async def unit(db: Connection) -> None:
        await rooms.put(db, Room(room_id=space, purpose="space", alias=root.alias))
        await rooms.put(db, Room(room_id=ops_room, purpose="ops", alias=ops.alias))

    await store.write(unit)
    return space, ops_room


async def heal_ops_room(homeserver: Homeserver, settings: Settings, space: str, ops_room: str) -> None:
    """Its name, its topic and its place."""
    room = desired.ops_room(prefix=settings.alias_prefix, operators=frozenset(), bot=homeserver.bot)
    await live.heal_sign(homeserver, ops_room, room, Around(parent=space))


async def _ensure(homeserver: Homeserver, room: desired.DesiredRoom, around: Around) -> str:
    found = await homeserver.resolve(f"#{room.alias}:{homeserver.server_name}")
    if found is not None:
        state = await homeserver.state(found)
        if live.is_complete(room, state) or live.is_run(state, bot=homeserver.bot):
            return found

    async def known() -> Around:
        return around

    made = await live.ensure(homeserver, room, known)
    for user, reason in made.refused.items():
        fix = f"Set `operator` to somebody of {homeserver.server_name}."
        raise Denied(f"{user} cannot be asked into {room.name}: the homeserver says {reason}", fix=fix)
    return made.room_id


async def greet(homeserver: Homeserver, sender: Sender, ops_room: str, checks: Sequence[Health]) -> str:
    """Say hello once, and pin it; its event id."""
    said = content.message(greeting(checks), msgtype="m.text")
    sent = await sender.send(_outgoing(homeserver, ops_room, "0", said))
    if sent:
        await homeserver.put_state(ops_room, "m.room.pinned_events", {"pinned": [sent]})
    return sent


async def correct(homeserver: Homeserver, sender: Sender, ops_room: str, sent: str, checks: Sequence[Health]) -> None:
    """Let the greeting say what is so now."""
    said = content.edit(content.message(greeting(checks), msgtype="m.text"), sent)
    await sender.send(_outgoing(homeserver, ops_room, "1", said))


def _outgoing(homeserver: Homeserver, ops_room: str, part: str, said: dict[str, Any]) -> Outgoing:
    return Outgoing(
        txn_id=f"welcome.{ops_room}.{part}",
        room_id=ops_room,
        sender=homeserver.bot,
        type="m.room.message",
        content=said,
        cause=ops_room,
    )


def greeting(checks: Sequence[Health]) -> str:
    lines = shipped("examples", "alice.yaml").read_text().splitlines()
    example = "\n".join(line for line in map(_bare, lines) if line)
    return (
        "**This room runs your AI agents.** What you type or upload here becomes what runs.\n\n"
        "1. Type `!help` to see what can be typed.\n"
        "2. Reply `!apply` to this message, and this agent starts:\n\n"
        f"```yaml\n{example}\n```\n\n"
        "3. Open its room `alice` and write `@alice hello`. The answer comes in a thread; a 🛑 stops it.\n\n"
        f"{_checked(checks)}\n\n"
        "Only people with power level 100 in this room can change things."
    )


def _bare(line: str) -> str:
    """A line of the example without its remark, which makes it too wide for a phone."""
    return re.sub(r"(^|\s{2,})#.*", "", line).rstrip()


def _checked(checks: Sequence[Health]) -> str:
    """The greeting stays pinned, and at a first start parts are still on their way: those are no failure."""
    late = [check.part for check in checks if check.level == "fail"]
    warned = [
        f"**WARN** {check.part}: {check.detail} {check.fix}".rstrip() for check in checks if check.level == "warn"
    ]
    if not late and not warned:
        return f"Checked just now: {', '.join(check.part for check in checks)} are ok."
    coming = [f"Not there yet when this was written: {', '.join(late)}."] if late else []
    return "\n\n".join([*warned, " ".join([*coming, "See how all is now: `!doctor`"])])
