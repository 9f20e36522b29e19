"""Commands that come in by another door than the ops room: the same verbs for the same people, with the same words.

What an ops room is to a command (a thread to ask back in, an upload to reply to) is not there: what destroys something
needs `--yes`, and the YAML comes with the command.
"""

from collections.abc import Callable, Sequence
from time import time

from appservice.errors import OpsroomError
from appservice.homeserver.client import ERRORS, readable
from appservice.homeserver.events import Event
from appservice.ops import grammar
from appservice.ops.answer import Answer, failed
from appservice.ops.changing import Changing
from appservice.ops.grammar import Asks
from appservice.ops.hands import Hands
from appservice.ops.looking import Looking
from appservice.ops.uploads import Uploads
from appservice.ops.verbs import Verbs
from appservice.policy.triggers import Decision
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
            return await Verbs(self._h, Given(given, source)).obey(request, event, progress)
        except OpsroomError as error:
            return failed(error)
        except ERRORS as error:
            return failed(readable(error, "do this"))

    async def explain(self, user: str, agent: str, room: str) -> tuple[str, str, Decision]:
        """Who is meant, which agent, and may they ask it. Raises OpsroomError."""
        asked, stored, decision = await self._looking().decide(Asks(user=user, agent=agent, room=room))
        return asked.user, stored.name, decision

    async def own_files(self, stored: Stored) -> tuple[int, int]:
        """How many files its agents made, and how large they are together."""
        found = await self._changing().own_files(stored)
        return len(found), sum(item.size for item in found)

    def _looking(self) -> Looking:
        return Looking(self._h, Given("", ""))

    def _changing(self) -> Changing:
        return Changing(self._h, Given("", ""))
