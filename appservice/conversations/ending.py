"""End a turn: its last text, whole, in the same unit as its state."""

from collections.abc import Sequence
from functools import partial
from time import time

from appservice.conversations import answer
from appservice.conversations.calling import Calls
from appservice.conversations.running import Outcome
from appservice.homeserver import content
from appservice.homeserver.client import Homeserver
from appservice.homeserver.patience import outlast
from appservice.homeserver.sender import Sender
from appservice.store import audit, turns
from appservice.store.database import Connection, Database
from appservice.store.outbox import Outgoing
from appservice.store.turns import Turn

NOBODY = Calls()


class Ending:
    def __init__(self, store: Database, homeserver: Homeserver, sender: Sender) -> None:
        self._store = store
        self._homeserver = homeserver
        self._sender = sender

    async def say(
        self, turn: Turn, user: str, outcome: Outcome, *, event_id: str, sent: bool, calls: Calls = NOBODY
    ) -> None:
        """Send the last state of the answer. `sent`: a first message may be in the room though we lost its id."""
        if not outcome.text:
            await self.close(turn, outcome)
            return
        parts = answer.shape(outcome.text)
        first = answer.compose(turn, parts.first, calls=calls.users)
        if sent and not event_id:  # as while it grew: only its last state, the edit, calls somebody
            begun = answer.compose(turn, parts.first)
            event_id = await self._sender.send(answer.outgoing(turn, user, "0", begun))
        items = [
            answer.outgoing(turn, user, f"{turn.attempt}final", content.edit(first, event_id))
            if event_id
            else answer.outgoing(turn, user, "0", first)
        ]
        items += [answer.outgoing(turn, user, f"p{n}", answer.compose(turn, text)) for n, text in enumerate(parts.rest)]
        if parts.file:
            items.append(await self._attach(turn, user, parts.file))
        if event_id and event_id != turn.answer_event:
            await self.note(turn, event_id)
        await self.close(turn, outcome, items, calls, whole=outcome.text if parts.cut and calls.users else "")

    async def _attach(self, turn: Turn, user: str, data: bytes) -> Outgoing:
        name = f"answer-{turn.agent}.md"
        address = await outlast(
            lambda: self._homeserver.upload(data, name=name, mimetype="text/markdown", user=user), "store an answer"
        )
        body = content.attachment(name, address, len(data), mimetype="text/markdown", thread=turn.thread)
        return answer.outgoing(turn, user, "file", body)

    async def close(
        self, turn: Turn, outcome: Outcome, items: Sequence[Outgoing] = (), calls: Calls = NOBODY, *, whole: str = ""
    ) -> None:
        """`whole`: the answer, for those whom it calls, when its first message has not all of it."""

        closed = False

        async def unit(db: Connection) -> bool:
            nonlocal closed  # a unit may be on disk though the disk said no, and is done once more then
            closed = (
                await turns.end(db, turn.id, outcome.state, error=outcome.error, answer=whole, now=time()) or closed
            )
            for item in items if closed else ():
                await self._sender.keep(db, item)
            for entry in calls.denied if closed else ():
                await audit.record(db, entry)
            return closed

        if await outlast(partial(self._store.write, unit), "end a turn"):
            for item in items:
                self._sender.soon(item)

    async def note(self, turn: Turn, event_id: str) -> None:
        """So that a reaction on the answer finds its turn."""
        noted = partial(self._store.write, lambda db: turns.set_answer(db, turn.id, event_id))
        await outlast(noted, "note an answer")
