"""What follows from an accepted file, on the real store: which agents live."""

from collections.abc import AsyncIterator, Sequence
from itertools import permutations
from pathlib import Path

import pytest

from appservice.errors import Invalid
from appservice.reconcile import plan as planning
from appservice.resources import registry
from appservice.store import declaring, objects
from appservice.store.changes import Key
from appservice.store.database import Database
from appservice.store.declaring import Author
from tests.support.rosters import NAMES, team, worker

AUTHOR = Author(user="@op:hs", cause="$e", now=1.0)
ALICE = Key("Worker", "alice")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "opsroom.db")
    yield database
    await database.close()


async def apply(store: Database, *texts: str) -> dict[Key, str]:
    """What a plan had said of each object; it never says two things of one."""
    documents = registry.parse("".join(texts).encode(), source="all.yaml")
    known = {stored.key: stored for stored in await objects.every(store)}
    steps = planning.plan(documents, known)
    await store.write(lambda db: declaring.declare(db, documents, AUTHOR, is_ours=NAMES.is_ours))
    told = {step.key: step.action for step in steps}
    assert len(told) == len(steps)
    return told


async def living(store: Database) -> dict[str, str]:
    """Agents by name, with what each is part of."""
    return {one.name: one.owner for one in await objects.every(store, "Worker") if not one.deleting}


@pytest.mark.parametrize("order", [*permutations((team("dev", "lena"), worker("alice"), worker("zoe")))])
async def test_a_member_that_becomes_a_worker_of_its_own_lives_in_any_order(
    store: Database, order: Sequence[str]
) -> None:
    await apply(store, team("dev", "lena", "alice"))
    told = await apply(store, *order)
    assert told.get(ALICE) != "delete"
    assert await living(store) == {"lena": "team/dev", "alice": "", "zoe": ""}


@pytest.mark.parametrize("order", [*permutations((team("dev", "lena"), team("qa", "quentin", "alice")))])
async def test_a_member_that_moves_to_another_team_lives_in_any_order(store: Database, order: Sequence[str]) -> None:
    await apply(store, team("dev", "lena", "alice"), team("qa", "quentin"))
    told = await apply(store, *order)
    assert told.get(ALICE) != "delete"
    assert await living(store) == {"lena": "team/dev", "quentin": "team/qa", "alice": "team/qa"}


@pytest.mark.parametrize("order", [*permutations((team("dev", "alice", "lena"), worker("zoe")))])
async def test_a_leader_and_a_member_that_change_places_live(store: Database, order: Sequence[str]) -> None:
    await apply(store, team("dev", "lena", "alice"))
    told = await apply(store, *order)
    assert "delete" not in told.values()
    assert await living(store) == {"lena": "team/dev", "alice": "team/dev", "zoe": ""}


async def test_a_worker_of_its_own_is_taken_into_a_team_only_once_it_is_deleted(store: Database) -> None:
    await apply(store, worker("alice"))
    with pytest.raises(Invalid, match="taken by `worker/alice`"):
        await apply(store, team("dev", "lena", "alice"))
    assert await living(store) == {"alice": ""}
