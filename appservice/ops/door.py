"""Commands that come in by another door than the ops room: the same verbs for the same people, with the same words.

What an ops room is to a command (a thread to ask back in, an upload to reply to) is not there: what destroys something
needs `--yes`, and the YAML comes with the command.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from time import time

from appservice.errors import OpsroomError
from appservice.homeserver.client import ERRORS, readable
from appservice.homeserver.events import Event
from appservice.ops import grammar, render
from appservice.ops.answer import Answer
from appservice.ops.changing import Changing
from appservice.ops.grammar import Asks, Request
from appservice.ops.hands import Hands, checked, reference
from appservice.ops.looking import Looking
from appservice.ops.uploads import Uploads
from appservice.ops.verbs import Verbs
from appservice.policy.triggers import Decision
from appservice.store import audit
from appservice.store.audit import Entry
from appservice.store.changes import Key
from appservice.store.database import Connection
from appservice.store.objects import Stored


class Given(Uploads):
    """What came with the command."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source

    async def find(self, event: Event) -> tuple[bytes, str]:
        if not self._text:
            return await super().find(event)  # which says that there is nothing
        return self._text.encode("utf-8", "surrogatepass"), self._source


class Door:
    def __init__(self, hands: Hands) -> None:
        self._h = hands

    async def obey(
        self, words: Sequence[str], *, user: str, cause: str, given: str, source: str, progress: Callable[[str], None]
    ) -> Answer:
        """Run one command. `cause` names it in histories and in the audit; `given`: the YAML it is about."""
        event = Event(id=cause, room_id="", type="m.room.message", sender=user, content={}, ts=int(time() * 1000))
        try:
            request = grammar.request(words)
            if request.changes:
                await self._record(request, event, given, source)
            return await Verbs(self._h, Given(given, source)).obey(request, event, progress)
        except OpsroomError as error:
            return Answer(text=render.problems(error), ok=False)
        except ERRORS as error:
            return Answer(text=render.problems(readable(error, "do this")), ok=False)

    async def explain(self, user: str, agent: str, room: str) -> tuple[str, str, Decision]:
        """Who is meant, which agent, and may they ask it. Raises OpsroomError."""
        asked, stored, decision = await self._looking().decide(Asks(user=user, agent=agent, room=room))
        return asked.user, stored.name, decision

    async def own_files(self, stored: Stored) -> tuple[int, int]:
        """How many files its agents made, and how large they are together."""
        found = await self._changing().own_files(stored)
        return len(found), sum(item.size for item in found)

    async def _record(self, request: Request, event: Event, given: str, source: str) -> None:
        """That it was allowed, before it is done; what it did is in the history of each object."""
        entries = [
            Entry(
                at=time(),
                actor=event.sender,
                action=request.command.name,
                target=target,
                room_id="",
                verdict="allow",
                rule="operator",
                cause=event.id,
            )
            for target in _targets(request, given, source)
        ]

        async def unit(db: Connection) -> None:
            for entry in entries:
                await audit.record(db, entry)

        await self._h.store.write(unit)

    def _looking(self) -> Looking:
        return Looking(self._h, Given("", ""))

    def _changing(self) -> Changing:
        return Changing(self._h, Given("", ""))


def _targets(request: Request, given: str, source: str) -> list[str]:
    """What a command is about to change; nothing where its input is wrong, which the command itself says."""
    arguments = request.arguments
    if "object" not in arguments:
        with suppress(OpsroomError):
            return [str(Key(document.kind, document.name)) for document in checked(given.encode(), source)]
        return []
    kind, name = reference(arguments.object, getattr(arguments, "name", ""))
    return [str(Key(kind or "Worker", name))]
