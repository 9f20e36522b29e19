"""From an event in an agent's room to a turn: who is asked, by whom, and what changes or ends a turn.

Each handler returns an Effect: the turn is stored in the same unit that takes the event out of the inbox.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from time import time

import structlog

from appservice.conversations.places import place_of, unheard
from appservice.conversations.runner import Runner
from appservice.homeserver import content, events
from appservice.homeserver.client import ERRORS, Homeserver, is_gone
from appservice.homeserver.dispatch import Effect
from appservice.homeserver.events import Event
from appservice.homeserver.members import Members, short
from appservice.homeserver.sender import Sender
from appservice.policy.roster import Names
from appservice.policy.triggers import Decision, Place, may_trigger
from appservice.rooms import own, standing
from appservice.rooms.declared import Declared
from appservice.store import audit, rooms, told, turns
from appservice.store.database import Connection, Database
from appservice.store.outbox import Outgoing
from appservice.store.rooms import Room
from appservice.store.turns import Turn

STOP_KEY = "🛑"
STOP_WORD = "!stop"
POLITE_EVERY_S = 3600.0
DIRECT = "dm"

log = structlog.get_logger()


class Router:
    def __init__(
        self,
        *,
        store: Database,
        homeserver: Homeserver,
        members: Members,
        sender: Sender,
        runner: Runner,
        names: Names,
        declared: Declared,
        hop_limit: int,
    ) -> None:
        self._store = store
        self._homeserver = homeserver
        self._members = members
        self._sender = sender
        self._runner = runner
        self._names = names
        self._declared = declared
        self._hop_limit = hop_limit

    async def handle(self, event: Event, room: Room | None) -> Effect | None:
        """An event of a room that is not the ops room. `room`: what we know of it."""
        match event.type:
            case "m.room.message" if event.replaces and not events.is_call(event.content):
                return await self._edited(event)
            case "m.room.message":
                return await self._message(event, room)
            case "m.reaction":
                return await self._reaction(event)
            case "m.room.redaction":
                return await self._redacted(event)
            case "m.room.member":
                return await self._membership(event, room)
            case "m.room.encryption" | "m.room.encrypted":
                return await self._encrypted(event, room)
        return None

    # -- questions ----------------------------------------------------------------------------------------------

    async def _message(self, event: Event, room: Room | None) -> Effect | None:
        if events.is_call(event.content):
            return await self._called(event, room)
        if event.msgtype not in ("m.text", "m.emote", "m.file", "m.image") or self._names.is_ours(event.sender):
            return None
        members = await self._members_in(event.room_id, room)
        if event.body.strip().lower() == STOP_WORD:
            return await self._stop_word(event, room)
        place = await self._place(event.sender, room, members)
        asked = sorted(self._asked(event, place, members) | await self._leaders(event, room, members))
        if event.thread or asked:
            going_on = await self._going_on(event, asked, members)
            asked = asked or going_on
        allowed = [agent for agent in asked if await self._may(event, agent, place)]
        if not allowed:
            return None
        return self._runner.accept([self._turn(event, agent) for agent in allowed])

    async def _called(self, event: Event, room: Room | None) -> Effect | None:
        """An agent's answer that mentions agents. Only what ours say whole, and by their own user, is a call."""
        caller, cause = self._names.agent(event.sender), events.map_of(event.content[content.CAUSE])
        answered = await turns.get(self._store, events.text_of(cause.get("turn")))
        if not caller or answered is None:
            return None
        members = await self._members_in(event.room_id, room)
        named = {self._names.agent(user) for user in events.mentions(event.content, members)}
        called = [agent for agent in sorted(named - {"", caller}) if await self._may(event, agent, "group")]
        if called and answered.hop >= self._hop_limit:
            await self._end_of_chain(event, answered, called, user=_reader(room))
            return None
        text = answered.answer or events.text_of(event.new_content.get("body")) or event.body
        return (
            self._runner.accept([self._turn_of(event, agent, answered, text) for agent in called]) if called else None
        )

    def _turn_of(self, event: Event, agent: str, answered: Turn, text: str) -> Turn:
        return replace(
            self._turn(event, agent),
            thread=answered.thread,
            question=text,
            root=answered.root,
            hop=answered.hop + 1,
        )

    async def _end_of_chain(self, event: Event, answered: Turn, called: Sequence[str], *, user: str) -> None:
        times = "once" if answered.hop == 1 else f"{answered.hop} times"
        text = (
            f"Agents have called each other {times} over one question, which is the limit."
            f" {' and '.join(called)} was not called. Mention it to go on."
        )
        decision = Decision(verdict="deny", rule="hop limit", reason=text)
        for agent in called:
            await self._audit(event, agent, decision)
        await self._say(event, text, user=user, thread=answered.thread)

    def _asked(self, event: Event, place: Place, members: Mapping[str, str]) -> set[str]:
        """Agents this message is for: those it mentions; in a direct room the one who is there."""
        agents = {user: agent for user in members if (agent := self._names.agent(user))}
        if place == "direct":
            return set(agents.values())
        return {agents[user] for user in events.mentions(event.content, members) if user in agents}

    async def _leaders(self, event: Event, room: Room | None, members: Mapping[str, str]) -> set[str]:
        """`@room` is for the leaders in a room, as far as its sender may notify the room and ask them."""
        if not events.is_for_all(event.content):
            return set()
        state = await self._homeserver.state(event.room_id, user=_reader(room))
        if not standing.read(state).may_notify(event.sender):
            return set()
        roster = await self._declared.roster()
        leaders = (agent.name for agent in roster.agents.values() if agent.role == "leader" and agent.user in members)
        return {name for name in leaders if may_trigger(roster, event.sender, name, "group").allowed}

    async def _place(self, user: str, room: Room | None, members: Mapping[str, str]) -> Place:
        wanted = (await self._declared.rooms()).get(room.alias) if room is not None and room.alias else None
        return place_of(self._names, user, room, members, wanted.members if wanted else frozenset())

    async def _going_on(self, event: Event, asked: Sequence[str], members: Mapping[str, str]) -> list[str]:
        """In a thread that one agent answers in, who began it goes on without a mention while it is there; a mention of
        somebody else, or a second person speaking, ends that, whether it asks the agent or not."""
        thread = event.thread or event.id
        before = await turns.in_thread(self._store, event.room_id, thread)
        agents = {turn.agent for turn in before} or set(asked)
        if len(agents) != 1 or await turns.is_shared(self._store, thread):
            return []
        [agent] = agents
        user = self._names.user(agent)
        others = events.mentions(event.content, members) - {user, event.sender}
        if others or events.is_for_all(event.content) or any(turn.sender != event.sender for turn in before):
            await self._store.write(lambda db: turns.share(db, thread), durable=False)
            return []
        return [agent] if user in members else []

    async def decide(self, user: str, agent: str, place: Place) -> Decision:
        """May this person, or this agent, ask that agent in such a room?"""
        return may_trigger(await self._declared.roster(), user, agent, place)

    async def explain(self, user: str, agent: str, room_id: str) -> Decision:
        """As `decide`, for a room that somebody names: its id, `dm`, or '' for any with others in it."""
        if room_id in ("", DIRECT):
            return await self.decide(user, agent, "direct" if room_id else "group")
        room = await rooms.get(self._store, room_id)
        members = await self._members_in(room_id, room)
        if (never := unheard(self._names, user, agent, members)) is not None:
            return never
        return await self.decide(user, agent, await self._place(user, room, members))

    async def _may(self, event: Event, agent: str, place: Place) -> bool:
        decision = await self.decide(event.sender, agent, place)
        if not decision.allowed:
            log.info("trigger denied", sender=event.sender, agent=agent, rule=decision.rule)
            await self._audit(event, agent, decision)
            await self._say_once(event, "denied", decision.reason, user=self._names.user(agent))
        return decision.allowed

    async def _audit(self, event: Event, agent: str, decision: Decision, action: str = "trigger") -> None:
        entry = audit.Entry(
            at=time(),
            actor=event.sender,
            action=action,
            target=agent,
            room_id=event.room_id,
            verdict=decision.verdict,
            rule=decision.rule,
            cause=event.id,
        )
        await self._store.write(lambda db: audit.record(db, entry), durable=False)

    def _turn(self, event: Event, agent: str) -> Turn:
        cause = events.map_of(event.content.get(content.CAUSE))
        return Turn(
            id=sha256(f"{event.id} {agent}".encode()).hexdigest()[:16],
            event_id=event.id,
            agent=agent,
            room_id=event.room_id,
            thread=event.thread or event.id,
            sender=event.sender,
            question=event.body,
            root=events.text_of(cause.get("root")) or event.id,
            asked_at=time(),
        )

    # -- what changes or ends a turn ----------------------------------------------------------------------------

    async def _edited(self, event: Event) -> Effect | None:
        """An edit by the asker changes a question that was not delivered yet; the homeserver lets others edit too."""
        body = events.text_of(event.new_content.get("body"))
        asked = [turn for turn in await turns.of_event(self._store, event.replaces) if turn.sender == event.sender]
        if not asked or not body:
            return None
        return Effect(write=lambda db: turns.edit(db, event.replaces, body))

    async def _reaction(self, event: Event) -> Effect | None:
        target, key = event.reaction
        if key != STOP_KEY or self._names.is_ours(event.sender):
            return None
        return self._stop(await turns.of_event(self._store, target), event.sender)

    async def _stop_word(self, event: Event, room: Room | None) -> Effect | None:
        """`!stop` in a thread ends what runs there, in a room all of it."""
        found = [
            turn
            for turn in await turns.open_turns(self._store)
            if turn.room_id == event.room_id and event.thread in ("", turn.thread)
        ]
        if not found:
            await self._say_once(event, "nothing runs", "Nothing is running here.", user=_reader(room))
        return self._stop(found, event.sender)

    async def _redacted(self, event: Event) -> Effect | None:
        asked = await turns.of_event(self._store, event.redacts)
        gone = [turn for turn in asked if turn.event_id == event.redacts]
        return self._stop(gone, event.sender, quiet=True)

    def _stop(self, found: list[Turn], by: str, *, quiet: bool = False) -> Effect | None:
        ids = [turn.id for turn in found if turn.state in turns.OPEN]

        def after() -> None:
            for turn_id in ids:
                self._runner.stop(turn_id, short(by), quiet=quiet)

        return Effect(after=after) if ids else None

    # -- rooms --------------------------------------------------------------------------------------------------

    async def _membership(self, event: Event, room: Room | None) -> Effect | None:
        """Agents are asked into rooms of people's own, and taken out of them; in our rooms that is undone elsewhere."""
        agent = self._names.agent(event.state_key or "")
        if not agent or (room is not None and room.purpose != "direct"):
            return None
        if event.membership == "invite" and not self._names.is_ours(event.sender):
            return await self._invited(event, agent, room)
        if event.membership in ("leave", "ban") and room is not None and room.owner == event.state_key:
            return await self._passed_on(room)
        return None

    async def _invited(self, event: Event, agent: str, room: Room | None) -> Effect | None:
        """A person asks an agent into a room of their own: those who may ask it get it, others a polite no."""
        user = self._names.user(agent)
        decision = await self.decide(event.sender, agent, "direct")
        if not decision.allowed:
            await self._audit(event, agent, decision, "invite")
            await self._homeserver.leave(event.room_id, user=user, reason=decision.reason)
            log.info("invitation declined", agent=agent, sender=event.sender)
            return None
        await self._homeserver.join(event.room_id, user=user)
        self._members.changed(event.room_id)
        if room is not None:  # the one that reads it is there already
            return None
        made = Room(room_id=event.room_id, purpose="direct", owner=user, seen=event.id)
        return Effect(write=lambda db: rooms.put(db, made))

    async def _passed_on(self, room: Room) -> Effect:
        """The agent that reads a room has left it: another one there does so from now on."""
        state = await self._homeserver.state(room.room_id, user=room.owner)
        if owner := own.reader(await self._declared.roster(), state, room.owner):
            return Effect(write=lambda db: rooms.put(db, replace(room, owner=owner)))
        return Effect(write=lambda db: rooms.remove(db, room.room_id))

    async def _encrypted(self, event: Event, room: Room | None) -> Effect | None:
        user = _reader(room)
        text = "This room is encrypted, and agents cannot read it. Make a new room without encryption and ask there."
        await self._say_once(event, "encrypted", text, user=user)
        return None

    # -- small --------------------------------------------------------------------------------------------------

    async def _members_in(self, room_id: str, room: Room | None) -> Mapping[str, str]:
        try:
            return await self._members.of(room_id, user=_reader(room))
        except ERRORS as error:
            if not is_gone(error):
                raise
            return {}  # a room that ours have left meanwhile

    async def _say_once(self, event: Event, kind: str, text: str, *, user: str) -> None:
        """One polite line of its kind a sender and room in an hour, over restarts too."""
        item = self._line(event, text, user=user, thread=event.thread or event.id)

        async def unit(db: Connection) -> bool:
            if not await told.again(db, kind, event.sender, event.room_id, now=time(), every_s=POLITE_EVERY_S):
                return False
            await self._sender.keep(db, item)
            return True

        if await self._store.write(unit):
            await self._sender.soon(item)

    async def _say(self, event: Event, text: str, *, user: str, thread: str) -> None:
        await self._sender.send(self._line(event, text, user=user, thread=thread))

    def _line(self, event: Event, text: str, *, user: str, thread: str) -> Outgoing:
        return Outgoing(
            txn_id=f"polite.{event.id}.0",
            room_id=event.room_id,
            sender=user or self._names.bot,
            type="m.room.message",
            content=content.message(text, thread=thread, reply_to=event.id),
            cause=event.id,
        )


def _reader(room: Room | None) -> str:
    """Who of ours reads and speaks in a room: '' for the bot, which is in all but people's own."""
    return room.owner if room is not None and room.purpose == "direct" else ""
