"""The verb that goes on in a room which somebody else made."""

import argparse

from appservice.errors import NotFound
from appservice.homeserver.events import Event
from appservice.homeserver.members import short
from appservice.ops.answer import Answer
from appservice.ops.hands import Hands, Progress
from appservice.store.objects import Stored


class Adopting:
    def __init__(self, hands: Hands) -> None:
        self._h = hands

    async def adopt(self, event: Event, given: argparse.Namespace, _progress: Progress) -> Answer:
        """Each step of it can be repeated: so after a crash it is done again, and says the same."""
        await self._h.order.turn(event.id)  # what is to be declared before is so then
        stored = await self._find(given.object)
        self._h.order.leave(event.id)
        done = await self._h.adoption.adopt(stored, given.alias, leader_dm=given.leader_dm)
        parts = [f"`{stored.key}` goes on in {done.alias}, with all that was said there."]
        if done.out:
            parts.append(f"Taken out, as nothing declared gives them a place: {', '.join(map(short, done.out))}.")
        if done.equals:
            parts.append(done.equals)
        return Answer(text="\n\n".join(parts))

    async def _find(self, text: str) -> Stored:
        try:
            return await self._h.find(text)
        except NotFound as error:
            [problem] = error.problems
            raise NotFound(
                f"{problem.what}, and a room is adopted for what is declared.",
                fix=f"Apply it first, then say this again. {problem.fix}",
            ) from error
