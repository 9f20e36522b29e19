"""What an operator writes into the journal is done once, whatever happens to the room afterwards."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from appservice.errors import Unavailable
from appservice.homeserver import patience
from appservice.homeserver.client import Homeserver
from appservice.homeserver.dispatch import Dispatcher
from appservice.homeserver.events import JOURNAL
from appservice.homeserver.members import Operators
from appservice.homeserver.sender import Sender
from appservice.ops.hands import checked
from appservice.ops.journal import JournalDoor
from appservice.reconcile.desk import Desk
from appservice.reconcile.journal import Journal
from appservice.store import objects
from appservice.store.changes import Changes, Key
from appservice.store.database import Connection, Database
from appservice.store.declaring import Author
from appservice.store.outbox import Outgoing
from tests.support.rosters import NAMES
from tests.support.stack import worker_yaml

ADA = Key("Worker", "ada")


class Around:
    """What the door needs of Opsroom, with a homeserver that is away once, when the room is put right. Meanwhile
    somebody declares `newer` through another door."""

    bot = "@bot:hs"
    ops_room = "!ops"

    def __init__(self, store: Database, newer: str) -> None:
        self.desk = Desk(store, Changes(), lambda _: None, NAMES)
        self.mended = 0
        self.told: list[str] = []
        self._newer = newer

    async def now(self) -> frozenset[str]:
        return frozenset({"@op:hs"})

    async def declare(self, text: str, cause: str) -> None:
        await self.desk.declare(checked(text.encode(), "test"), Author(user="@op:hs", cause=cause, now=0.0))

    async def mend(self, _room_id: str, _state_key: str, _said: Mapping[str, Any]) -> None:
        self.mended += 1
        if self.mended == 1:
            await self.declare(self._newer, "$newer")
            raise Unavailable("away")

    async def keep(self, _db: Connection, notice: Outgoing) -> None:
        self.told.append(notice.content["body"])

    def soon(self, _notice: Outgoing) -> None: ...


async def written(store: Database, around: Around, said: dict[str, Any]) -> None:
    """An event under ada's key, from its receipt to its end."""
    door = JournalDoor(
        store=store,
        homeserver=cast("Homeserver", around),
        operators=cast("Operators", around),
        sender=cast("Sender", around),
        desk=around.desk,
        writer=cast("Journal", around),
    )
    raw = {"event_id": "$1", "room_id": "!j", "type": JOURNAL, "sender": "@op:hs", "state_key": str(ADA)}
    dispatcher = Dispatcher(store, door.handle, is_ours=lambda user: user == around.bot)
    await dispatcher.resume()
    await dispatcher.receive([raw | {"content": said}])
    await dispatcher.idle()
    assert around.mended == 2


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_S", 0.001)


async def test_a_document_is_not_declared_again_over_what_is_newer(store: Database) -> None:
    around = Around(store, worker_yaml("ada", soul="newer"))
    await around.declare(worker_yaml("ada", soul="first"), "$first")
    await written(store, around, {"document": worker_yaml("ada", soul="journal")})

    found = [revision.text.partition("soul: ")[2].strip() for revision in await objects.history(store, ADA)]
    assert found == ["newer", "journal", "first"]


@pytest.mark.parametrize("was_there", [True, False])
async def test_what_is_declared_again_after_a_deletion_stays(store: Database, was_there: bool) -> None:
    around = Around(store, worker_yaml("ada", soul="newer"))
    if was_there:
        await around.declare(worker_yaml("ada"), "$first")
    await written(store, around, {})

    stored = await objects.get(store, ADA)
    assert stored is not None
    assert not stored.deleting


async def test_what_was_refused_is_not_taken_later(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    human = worker_yaml("ada").replace("kind: Worker", "kind: Human")
    around = Around(store, "")
    await around.declare(human.partition("spec:")[0] + "spec: {displayName: Ada, permissionLevel: 1}\n", "$human")

    async def mend(*_said: Any) -> None:
        around.mended += 1
        if around.mended == 1:
            await store.write(lambda db: db.execute("DELETE FROM resources"))
            raise Unavailable("away")

    monkeypatch.setattr(around, "mend", mend)
    await written(store, around, {"document": worker_yaml("ada")})
    assert await objects.get(store, ADA) is None
    [told] = around.told
    assert "taken by `human/ada`" in told
