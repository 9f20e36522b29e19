"""The ops room: which events are commands, who may give them, and each command from 👀 to ✅ or ❌.

A command is a row before it is run, and its effect is stored together with its outcome. So after a crash it is run
again: what had been done is only waited for and reported.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import time
from typing import Any

import structlog

from appservice.errors import OpsroomError
from appservice.homeserver import content, events
from appservice.homeserver.client import ERRORS, Homeserver, readable
from appservice.homeserver.dispatch import Effect
from appservice.homeserver.events import Event
from appservice.homeserver.live import Pace
from appservice.homeserver.members import Members, Operators
from appservice.homeserver.patience import outlast
from appservice.homeserver.sender import Sender
from appservice.ops import grammar
from appservice.ops.agreements import Agreements
from appservice.ops.answer import FAILED, OK, Answer, Thread, failed
from appservice.ops.order import Order
from appservice.ops.verbs import Verbs, line
from appservice.store import audit, commands, rooms
from appservice.store.commands import Mark
from appservice.store.database import Connection, Database
from appservice.store.outbox import Outgoing
from appservice.store.rooms import Room

YAML_NAMES = (".yaml", ".yml")
POLITE_EVERY_S = 3600.0
REFUSAL = "Only operators may use commands: people with power level 100 in the ops room."

log = structlog.get_logger()


class OpsRoom:
    """Owns one task a running command."""

    def __init__(
        self,
        *,
        store: Database,
        homeserver: Homeserver,
        members: Members,
        operators: Operators,
        sender: Sender,
        pace: Pace,
        verbs: Verbs,
        order: Order,
        is_ours: Callable[[str], bool],
        operators_changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._homeserver = homeserver
        self._members = members
        self._operators = operators
        self._sender = sender
        self._pace = pace
        self._verbs = verbs
        self._order = order
        self._is_ours = is_ours
        self._operators_changed = operators_changed
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._agreements = Agreements(store)
        self._told: dict[str, float] = {}

    async def handle(self, event: Event, room: Room | None) -> Effect | None:
        """An event of the ops room, of a room with the bot alone, or a mention of the bot anywhere."""
        if event.type == "m.room.member" and event.state_key == self._homeserver.bot and event.membership == "invite":
            return await self._invited(event)
        if event.type in ("m.room.member", "m.room.power_levels") and event.room_id == self._operators.ops_room:
            return Effect(after=self._operators_changed)
        if event.type == "m.reaction" and not self._is_ours(event.sender):
            return await self._marked(event)
        if event.type != "m.room.message" or event.replaces or self._is_ours(event.sender):
            return None
        if event.msgtype not in ("m.text", "m.file") or not await self.addressed(event, room):
            return None
        request = {"event": _raw(event)}
        return Effect(
            write=lambda db: commands.accept(db, event.id, event.room_id, event.sender, request, time()),
            after=partial(self._start, event, repeated=False),
        )

    async def addressed(self, event: Event, room: Room | None) -> bool:
        """Whether a message is a command for the bot."""
        bot = self._homeserver.bot
        if event.room_id == self._operators.ops_room:
            return grammar.is_command(event.body) or _is_yaml(event) or self._mentioned(event)
        if room is not None and room.purpose == "direct" and room.owner == bot:
            return not await self._for_agent(event)
        return self._mentioned(event)

    async def _for_agent(self, event: Event) -> bool:
        """Agents can be asked into a room with the bot, and are mentioned there."""
        if grammar.is_command(event.body):
            return False
        mentioned = events.mentions(event.content, await self._members.of(event.room_id))
        return any(self._is_ours(user) for user in mentioned - {self._homeserver.bot})

    def may_wait_for(self, event: Event) -> bool:
        """Whether a reaction, in whichever room, can be the answer to a question of a command that runs."""
        return bool(self._tasks) and event.reaction[1] in (OK, FAILED)

    async def confirm(self, event: Event, question: str) -> None:
        """Have an operator agree to what a command is about to do. Raises Invalid unless one does so in time."""
        self._order.leave(event.id)
        await self._agreements.reach(event, question)

    async def resume(self) -> int:
        """Run again what an earlier run left; how many commands."""
        left = await commands.unfinished(self._store)
        for command in left:
            event = events.parse(command.request["event"])
            if event is not None:
                self._start(event, repeated=True)
        return len(left)

    async def close(self) -> None:
        """Let go; commands are taken up at the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- one command --------------------------------------------------------------------------------------------

    def _start(self, event: Event, *, repeated: bool) -> None:
        if event.id in self._tasks:  # it came again while `resume` looked for what is left
            return
        if self._changes(event):
            self._order.take(event.id)
        task = asyncio.create_task(self._run(event, repeated=repeated), name=f"command {event.id}")
        self._tasks[event.id] = task
        task.add_done_callback(lambda _: self._ended(event))

    def _ended(self, event: Event) -> None:
        self._order.leave(event.id)
        self._tasks.pop(event.id)

    def _changes(self, event: Event) -> bool:
        """Whether a command is to have its effect in its turn. To stop an agent is never too early."""
        try:
            request = grammar.parse(self._text(event))
        except OpsroomError:
            return False
        return request.changes and request.command.name != "stop"

    async def _run(self, event: Event, *, repeated: bool) -> None:
        with structlog.contextvars.bound_contextvars(event_id=event.id, sender=event.sender):
            try:
                if event.sender not in await outlast(self._operators.now, "read who operates"):
                    self._order.leave(event.id)
                    await self._refuse(event)
                    return
                await self._obey(event, repeated=repeated)
            except Exception:
                log.exception("command broke")

    async def _obey(self, event: Event, *, repeated: bool) -> None:
        begun = time()
        thread = Thread(
            store=self._store,
            homeserver=self._homeserver,
            sender=self._sender,
            pace=self._pace,
            bot=self._homeserver.bot,
            command=event,
            repeated=repeated,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(thread.seen())
            async with thread.live:
                with self._agreements.of(event, thread):
                    answer = await self._answer(event, thread)
        await thread.finish(answer)
        log.info("command ended", ok=answer.ok, took_ms=round((time() - begun) * 1000))

    async def _answer(self, event: Event, thread: Thread) -> Answer:
        try:
            return await self._verbs.run(self._text(event), event, thread.progress)
        except OpsroomError as error:
            return failed(error)
        except ERRORS as error:
            return failed(readable(error, "do this"))
        except Exception:
            reference = event.id[1:9]
            log.exception("command broke", reference=reference)
            text = f"Something broke on Opsroom's side. Its log has the details under reference `{reference}`."
            return Answer(text=text, ok=False)

    def _text(self, event: Event) -> str:
        """The command as typed, without the bot's name before it; an upload without a word is an apply."""
        if event.is_file and not grammar.is_command(event.body):
            return "apply"
        text = event.body.strip()
        name = self._homeserver.bot[1:].split(":")[0]
        for start in (self._homeserver.bot, f"@{name}", name, "Opsroom"):
            if text.lower().startswith(start.lower()) and text[len(start) : len(start) + 1] in ("", " ", ":", ","):
                return text[len(start) :].lstrip(" :,") or "help"
        return text or "help"

    async def _marked(self, event: Event) -> Effect | None:
        """A mark counts when it is an operator's."""
        target, key = event.reaction
        if key not in (OK, FAILED) or event.sender not in await self._operators.now():
            return None
        at = min(event.ts / 1000, time())  # a homeserver whose clock is ahead makes no mark late
        return self._agreements.marked(target, Mark(agreed=key == OK, by=event.sender, at=at))

    async def _refuse(self, event: Event) -> None:
        """One polite line a person and hour."""
        if time() - self._told.get(event.sender, 0.0) > POLITE_EVERY_S:
            self._told[event.sender] = time()
            body = content.message(REFUSAL, thread=event.thread or event.id, reply_to=event.id)
            await self._sender.send(
                Outgoing(
                    txn_id=f"command.{event.id}.0",
                    room_id=event.room_id,
                    sender=self._homeserver.bot,
                    type="m.room.message",
                    content=body,
                    cause=event.id,
                )
            )

        request = None
        with suppress(OpsroomError):  # people talk, too
            request = grammar.parse(self._text(event))

        async def unit(db: Connection) -> None:
            await commands.done(db, event.id)
            if request is not None and request.changes:
                await audit.record(db, line(request, event, "deny", audit.NO_OPERATOR))

        await self._store.write(unit)
        log.info("command refused")

    async def _invited(self, event: Event) -> Effect | None:
        """An operator may talk to the bot in a room of their own. Into another room it is asked to adopt it."""
        bot = self._homeserver.bot
        if event.content.get("is_direct") is not True:
            return None
        if event.sender not in await self._operators.now():
            await self._homeserver.leave(event.room_id, user=bot)
            return None
        await self._homeserver.join(event.room_id, user=bot)
        self._members.changed(event.room_id)
        room = Room(room_id=event.room_id, purpose="direct", owner=bot, seen=event.id)
        return Effect(write=lambda db: rooms.put(db, room))

    def _mentioned(self, event: Event) -> bool:
        bot = self._homeserver.bot
        return bot in events.mentions(event.content, {bot: "Opsroom"})


def _is_yaml(event: Event) -> bool:
    return event.is_file and event.filename.lower().endswith(YAML_NAMES)


def _raw(event: Event) -> dict[str, Any]:
    return {
        "event_id": event.id,
        "room_id": event.room_id,
        "type": event.type,
        "sender": event.sender,
        "content": dict(event.content),
        "origin_server_ts": event.ts,
    }
