"""What follows from an accepted file, on the real store: which agents live, and what becomes of their files."""

from collections.abc import Sequence
from itertools import permutations

import pytest

from appservice.errors import Conflict, Invalid, OpsroomError
from appservice.reconcile import plan as planning
from appservice.reconcile.desk import Desk
from appservice.resources import registry
from appservice.resources.printing import to_yaml
from appservice.store import declaring, journal, meta, objects
from appservice.store.changes import Changes, Key
from appservice.store.database import Database
from appservice.store.declaring import Author
from tests.support.rosters import NAMES, human, team, worker

AUTHOR = Author(user="@op:hs", cause="$e", now=1.0)
ALICE = Key("Worker", "alice")


def is_ours(word: str) -> bool:
    return NAMES.is_ours(NAMES.person(word))


async def apply(store: Database, *texts: str) -> dict[Key, str]:
    """What a plan had said of each object; it never says two things of one."""
    documents = registry.parse("".join(texts).encode(), source="all.yaml")
    known = {stored.key: stored for stored in await objects.every(store)}
    steps = planning.plan(documents, known)
    await store.write(lambda db: declaring.declare(db, documents, AUTHOR, is_ours=is_ours))
    told = {step.key: step.action for step in steps}
    assert len(told) == len(steps)
    return told


def refused(error: pytest.ExceptionInfo[OpsroomError]) -> list[str]:
    return [str(problem) for problem in error.value.problems]


async def living(store: Database) -> dict[str, str]:
    """Agents by name, with what each is part of."""
    return {one.name: one.owner for one in await objects.every(store, "Worker") if not one.deleting}


async def delete(store: Database, key: Key, *, keep_files: bool) -> None:
    stored = await objects.get(store, key)
    assert stored is not None
    await store.write(lambda db: declaring.delete(db, stored, AUTHOR, keep_files=keep_files))


async def test_two_humans_are_never_the_same_user(store: Database) -> None:
    await apply(store, human("bob", 1, "username: telegram_1"))

    with pytest.raises(Conflict) as taken:
        await apply(store, human("rob", 1, "username: telegram_1"))
    assert "line 5, spec.username: The name telegram_1 is taken by `human/bob`." in refused(taken)[0]
    with pytest.raises(Invalid, match="same name in Matrix"):
        await apply(store, human("rob", 1, "username: jim"), human("jim", 1))
    with pytest.raises(Invalid) as ours:
        await apply(store, human("rob", 1, "username: agent-rob"))
    assert "The user @agent-rob is Opsroom's own." in refused(ours)[0]
    await apply(store, human("bob", 1), human("rob", 1, "username: telegram_1"))


@pytest.mark.parametrize("order", [*permutations((team("dev", "lena"), worker("alice"), worker("zoe")))])
async def test_a_member_that_becomes_a_worker_of_its_own_lives_in_any_order(
    store: Database, order: Sequence[str]
) -> None:
    await apply(store, team("dev", "lena", "alice"))
    told = await apply(store, *order)
    assert told[ALICE] == "change"
    assert await living(store) == {"lena": "team/dev", "alice": "", "zoe": ""}


@pytest.mark.parametrize("order", [*permutations((team("dev", "lena"), team("qa", "quentin", "alice")))])
async def test_a_member_that_moves_to_another_team_lives_in_any_order(store: Database, order: Sequence[str]) -> None:
    await apply(store, team("dev", "lena", "alice"), team("qa", "quentin"))
    told = await apply(store, *order)
    assert told[ALICE] == "change"
    assert await living(store) == {"lena": "team/dev", "quentin": "team/qa", "alice": "team/qa"}


@pytest.mark.parametrize("order", [*permutations((team("dev", "alice", "lena"), worker("zoe")))])
async def test_a_leader_and_a_member_that_change_places_live(store: Database, order: Sequence[str]) -> None:
    await apply(store, team("dev", "lena", "alice"))
    told = await apply(store, *order)
    assert told[ALICE] == told[Key("Worker", "lena")] == "change"
    assert await living(store) == {"lena": "team/dev", "alice": "team/dev", "zoe": ""}


async def test_a_worker_of_its_own_is_taken_into_a_team_only_once_it_is_deleted(store: Database) -> None:
    await apply(store, worker("alice"))
    with pytest.raises(Conflict, match="taken by `worker/alice`"):
        await apply(store, team("dev", "lena", "alice"))
    assert await living(store) == {"alice": ""}


@pytest.mark.parametrize("keep", [True, False])
async def test_the_last_deletion_says_what_becomes_of_the_files(store: Database, keep: bool) -> None:
    await apply(store, worker("alice"))
    await delete(store, ALICE, keep_files=not keep)
    await apply(store, worker("alice"))
    assert await meta.find(store, meta.KEEP_FILES) == []
    await delete(store, ALICE, keep_files=keep)
    assert bool(await meta.get(store, meta.KEEP_FILES + "alice")) is keep


async def test_files_that_were_to_stay_go_with_a_second_deletion_that_says_so(store: Database) -> None:
    await apply(store, team("dev", "lena", "alice"))
    await delete(store, Key("Team", "dev"), keep_files=True)
    await delete(store, Key("Team", "dev"), keep_files=False)
    assert [await meta.get(store, meta.KEEP_FILES + name) for name in ("alice", "lena")] == ["", ""]


async def test_a_team_admin_of_another_server_is_refused_with_the_place_and_the_way_to_mend_it(store: Database) -> None:
    text = team("dev", "lena", fields='admin: {name: john, matrixUserId: "@john:other.org"}')
    documents = registry.parse(text.encode(), source="dev.yaml")

    with pytest.raises(Invalid) as caught:
        await store.write(
            lambda db: declaring.declare(db, documents, AUTHOR, is_ours=NAMES.is_ours, server_name=NAMES.server_name)
        )

    [problem] = caught.value.problems
    assert problem.where.startswith("dev.yaml, line ")
    assert problem.where.endswith("spec.admin.matrixUserId")
    assert problem.what.startswith("@john:other.org is of another server")
    assert problem.fix == 'Write "@john:hs", or leave the field out: the `name` is enough.'
    assert await objects.every(store) == []


@pytest.mark.parametrize(
    "text",
    [
        human("alice", 1),
        worker("lena"),
        team("qa", "alice"),
        human("agent-alice", 1),
        team("qa", "quentin", fields="admin: {name: opsroom}"),
        team("qa", "quentin", fields="admin: {name: john, matrixUserId: '@john:other.org'}"),
        team("dev", "zoe") + human("alice", 1),
    ],
)
async def test_a_plan_is_refused_where_its_apply_would_be_and_in_the_same_words(store: Database, text: str) -> None:
    await apply(store, team("dev", "lena"), worker("alice"))
    desk = Desk(store, Changes(), lambda _key: None, NAMES)
    documents = registry.parse(text.encode(), source="all.yaml")
    with pytest.raises((Conflict, Invalid)) as planned:
        await desk.plan(documents)
    with pytest.raises(planned.type) as applied:
        await desk.declare(documents, AUTHOR)
    assert refused(planned) == refused(applied) != []


async def test_a_plan_is_what_an_apply_agrees_to(store: Database) -> None:
    await apply(store, team("dev", "lena", "alice"))
    desk = Desk(store, Changes(), lambda _key: None, NAMES)
    documents = registry.parse(team("dev", "lena").encode(), source="all.yaml")
    steps, known = await desk.plan(documents)
    await desk.declare(documents, AUTHOR, expected=planning.digest(steps, known))
    assert await living(store) == {"lena": "team/dev"}


async def test_other_remarks_are_kept_and_nothing_restarts_for_them(store: Database) -> None:
    await apply(store, worker("alice"))
    remarked = worker("alice") + "# asked for by zoe\n"
    assert await apply(store, remarked) == {ALICE: "change"}
    assert await apply(store, remarked) == {ALICE: "none"}
    stored = await objects.get(store, ALICE)
    assert stored is not None
    assert ("# asked for by zoe" in stored.text, stored.generation) == (True, 1)
    published = await journal.waiting(store)
    assert [("# asked" in one.text, one.generation) for one in published] == [(False, 1), (True, 1)]

    assert await apply(store, worker("alice")) == {ALICE: "change"}  # taken out again
    assert await apply(store, worker("alice", "state: Running")) == {ALICE: "none"}


async def test_what_is_printed_from_data_leaves_remarks_that_are_there(store: Database) -> None:
    await apply(store, worker("alice", "soul: 'no # remark'") + "# asked for by zoe\n")
    stored = await objects.get(store, ALICE)
    assert stored is not None
    assert await apply(store, to_yaml(stored.document)) == {ALICE: "none"}
    assert await objects.get(store, ALICE) == stored
