"""How long an operator has to agree, and that a mark that was taken is not lost with the process."""

import asyncio
from dataclasses import dataclass
from typing import cast

import pytest

from appservice.errors import Invalid
from appservice.homeserver.events import Event
from appservice.ops import agreements
from appservice.ops.agreements import WITHIN_S, Agreements
from appservice.ops.answer import Thread
from appservice.store import commands
from appservice.store.commands import Mark
from appservice.store.database import Database

QUESTION = "$question"
COMMAND = Event(id="$1", room_id="!r", type="m.room.message", sender="@op:hs", content={}, ts=1_000)


@dataclass
class Operator:
    """Commands of one operator, who marks each question like this; `now`: what time it is, `put`: how often Opsroom has
    asked."""

    store: Database
    now: float = COMMAND.ts / 1000
    mark: Mark | None = None
    put: int = 0
    read_after_s: float = 0.0  # from the question to when Opsroom reads the mark

    async def reach(self) -> None:
        """Ask as a process does that was started just now. Raises Invalid without agreement."""
        found = Agreements(self.store)
        with found.of(COMMAND, cast("Thread", Asking(self, found))):
            await found.reach(COMMAND, "- **delete** `worker/x`")


class Asking:
    """A thread that puts each question at once."""

    def __init__(self, operator: Operator, found: Agreements) -> None:
        self._operator = operator
        self._found = found

    async def ask(self, _told: str, _question: str) -> str:
        self._operator.put += 1
        if self._operator.mark is not None:
            after = self._found.marked(QUESTION, self._operator.mark).after
            assert after is not None
            if self._operator.read_after_s:
                asyncio.get_running_loop().call_later(self._operator.read_after_s, after)
            else:
                after()
        return QUESTION


@pytest.fixture
async def operator(store: Database, monkeypatch: pytest.MonkeyPatch) -> Operator:
    found = Operator(store)
    monkeypatch.setattr(agreements, "time", lambda: found.now)
    monkeypatch.setattr(agreements, "LATE_S", 0.0)
    await store.write(lambda db: commands.accept(db, COMMAND.id, "!r", "@op:hs", {"event": {}}, found.now))
    return found


def mark(*, agreed: bool, at: float) -> Mark:
    return Mark(agreed=agreed, by="@op:hs", at=at)


async def test_the_time_to_agree_runs_from_the_question_however_late_it_comes(operator: Operator) -> None:
    operator.now += 10 * WITHIN_S
    operator.mark = mark(agreed=True, at=operator.now + WITHIN_S - 1)
    await operator.reach()

    operator.mark = mark(agreed=True, at=operator.now + WITHIN_S + 1)
    operator.now += WITHIN_S
    with pytest.raises(Invalid, match="nobody agreed within 10 minutes"):  # a restart gives no more of it
        await operator.reach()
    assert operator.put == 2


@pytest.mark.parametrize("agreed", [True, False])
async def test_a_mark_that_was_taken_outlives_the_process(operator: Operator, agreed: bool) -> None:
    await operator.store.write(lambda db: commands.put(db, COMMAND.id, QUESTION, operator.now))
    for said in (agreed, not agreed):
        killed = Agreements(operator.store).marked(QUESTION, mark(agreed=said, at=operator.now))
        assert killed.write is not None
        await operator.store.write(killed.write)

    if agreed:
        await operator.reach()
    else:
        with pytest.raises(Invalid, match="@op said no"):
            await operator.reach()


async def test_a_mark_on_another_message_is_kept_with_no_command(operator: Operator) -> None:
    await operator.store.write(lambda db: commands.put(db, COMMAND.id, QUESTION, operator.now))
    other = Agreements(operator.store).marked("$other", mark(agreed=True, at=operator.now))
    assert other.write is not None
    await operator.store.write(other.write)
    operator.now += WITHIN_S
    with pytest.raises(Invalid, match="nobody agreed"):
        await operator.reach()


async def test_a_mark_that_was_given_in_time_counts_though_it_is_read_late(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.mark = mark(agreed=False, at=operator.now)
    with pytest.raises(Invalid, match="said no"):  # so that the question was put
        await operator.reach()
    operator.mark = mark(agreed=True, at=operator.now + WITHIN_S - 1)
    operator.now += 2 * WITHIN_S
    operator.read_after_s = 0.05
    monkeypatch.setattr(agreements, "LATE_S", 30.0)
    await operator.reach()
