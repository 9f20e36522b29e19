"""Commands of an operator on a real store. Objects are paused: nobody makes them so here."""

from dataclasses import fields
from typing import Any

import pytest

from appservice.homeserver.events import Event
from appservice.ops.answer import Answer
from appservice.ops.describe import Tries
from appservice.ops.door import Given
from appservice.ops.hands import Hands, checked
from appservice.ops.order import Order
from appservice.ops.verbs import Verbs
from appservice.reconcile.desk import Desk
from appservice.store import objects
from appservice.store.changes import Changes, Key
from appservice.store.database import Database
from appservice.store.declaring import Author
from appservice.store.objects import Stored
from tests.support.rosters import NAMES


class Ops:
    """What commands need of Opsroom to change something."""

    def __init__(self, store: Database) -> None:
        self.store = store
        changes = self.changes = Changes()
        self.desk = Desk(store, changes, lambda _key: None, NAMES)
        given: dict[str, Any] = dict.fromkeys(field.name for field in fields(Hands) if field.name != "confirm")
        given |= {"store": store, "changes": changes, "desk": self.desk, "order": Order(), "names": NAMES}
        given["tries"] = lambda _key: Tries(failed=0, next_s=None)
        given["stop_turn"] = lambda turn, _by: self.stopped.append(turn)
        self.hands = Hands(**given, confirm=self.confirm)
        self.asked: list[str] = []
        self.stopped: list[str] = []
        self.progress: list[str] = []  # what was said of how far a command is

    async def confirm(self, _event: Event, question: str) -> None:
        """Everything is agreed to."""
        self.asked.append(question)

    async def say(self, text: str, upload: str = "") -> str:
        return (await self.answer(text, upload)).text

    async def answer(self, text: str, upload: str = "", *, room: str = "") -> Answer:
        event = Event(id=f"${text}", room_id=room, type="m.room.message", sender="@op:hs", content={})
        return await Verbs(self.hands, Given(upload, "test")).run(text, event, self.progress.append)

    async def file(self, text: str, *, room: str = "!ops") -> str:
        """The file that a command answers with."""
        answer = await self.answer(text, room=room)
        assert answer.file is not None
        return answer.file[1]

    def meanwhile(self, monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
        """Have others declare these, one after each time that a command has planned what it does."""
        plan, left = self.desk.plan, list(texts)

        async def planned(*args: Any, **more: Any) -> Any:
            found = await plan(*args, **more)
            if left:
                await self.apply(left.pop(0))
            return found

        monkeypatch.setattr(self.desk, "plan", planned)

    async def apply(self, text: str, *, now: float = 0.0) -> None:
        author = Author(user="@op:hs", cause="$", now=now)
        done = await self.desk.declare(checked(text.encode(), "test"), author)
        for key, _ in done.documents:
            if (stored := await objects.get(self.store, key)) is not None:
                await self.desk.set_paused(stored, author, paused=True)

    async def stored(self, key: Key) -> Stored:
        stored = await objects.get(self.store, key)
        assert stored is not None
        return stored

    async def spec(self, key: Key) -> dict[str, Any]:
        return dict((await self.stored(key)).document["spec"])


@pytest.fixture
def ops(store: Database) -> Ops:
    return Ops(store)
