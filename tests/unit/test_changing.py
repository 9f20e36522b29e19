"""Commands that change what is declared, on a real store. Objects are paused: nobody makes them so here."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from appservice.errors import Conflict, Invalid, NotFound, OpsroomError
from appservice.ops.hands import checked
from appservice.store import audit, journal, objects, status
from appservice.store.changes import Key
from appservice.store.declaring import Author
from appservice.store.objects import Declared
from appservice.store.status import Status
from tests.support.ops import Ops
from tests.support.stack import document, worker_yaml

ADA = Key("Worker", "ada")


async def test_fields_that_are_set_through_other_doors_at_the_same_time_are_all_kept(ops: Ops) -> None:
    await ops.apply(worker_yaml("ada"))
    wanted = {"model": "other", "soul": "brief", "identity": "somebody", "agents": "none"}
    told = await asyncio.gather(*(ops.say(f"!set ada {field}={value}") for field, value in wanted.items()))
    assert all("changed" in text for text in told)
    assert wanted.items() <= (await ops.spec(ADA)).items()


async def test_the_audit_has_what_was_changed_by_whom_and_nothing_that_was_refused(ops: Ops) -> None:
    await ops.apply(worker_yaml("ada"))
    for text in ("!set ada model=other", "!set ada modle=x", "!set ada model=other", "!resume nobody"):
        with suppress(OpsroomError):
            await ops.say(text)
    team = "{apiVersion: hiclaw.io/v1beta1, kind: Team, metadata: {name: dev}, spec: {leader: {name: lena, model: m}}}"
    await ops.apply(team)
    await ops.apply(team.replace("lena", "lea"))
    found = [(one.actor, one.action, one.target, one.verdict, one.cause) for one in await audit.newest(ops.store)]
    assert found[::-1] == [
        ("@op:hs", "apply", "worker/ada", "allow", "$"),
        ("@op:hs", "pause", "worker/ada", "allow", "$"),
        ("@op:hs", "apply", "worker/ada", "allow", "$!set ada model=other"),
        ("@op:hs", "apply", "team/dev", "allow", "$"),
        ("@op:hs", "pause", "team/dev", "allow", "$"),
        ("@op:hs", "apply", "team/dev", "allow", "$"),
        ("@op:hs", "delete", "worker/lena", "allow", "$"),
    ]


async def test_the_label_of_a_set_can_be_set(ops: Ops) -> None:
    await ops.apply(worker_yaml("ada"))
    assert "changed" in await ops.say("!set worker ada metadata.labels.opsroom.io/set=shop")
    stored = await ops.stored(ADA)
    assert stored.document["metadata"]["labels"] == {"opsroom.io/set": "shop"}


@pytest.mark.parametrize("typed", ["!set {} soul=new", "!sleep {}", "!wake {}"])
async def test_a_changed_field_takes_no_deletion_back(ops: Ops, typed: str) -> None:
    await ops.apply(worker_yaml("ada"))
    await ops.apply(team("dev"))
    author = Author(user="@op:hs", cause="$gone", now=1.0)
    for key in (ADA, Key("Team", "dev")):
        stored = await objects.get(ops.store, key)
        assert stored is not None
        await ops.desk.delete(stored, author, keep_files=True)
    for name in ("ada", "dev" if "set" in typed else "dev-lead"):
        with pytest.raises(Conflict, match="is being deleted"):
            await ops.say(typed.format(name))
    assert all(stored.deleting for stored in await objects.every(ops.store))


async def test_what_begins_to_destroy_something_between_plan_and_write_is_asked_about(
    ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ops.apply(of_agents("alice"))
    ops.meanwhile(monkeypatch, of_agents("alice", "carol"))
    assert "changed `team/dev`" in await ops.say("!apply", of_agents("alice", "bob"))
    [question] = ops.asked
    assert "**delete** `worker/carol`" in question
    assert await names(ops, "Worker") == ["alice", "bob", "carol", "dev-lead"]
    assert (await ops.stored(Key("Worker", "carol"))).deleting


async def test_nobody_is_asked_when_what_moves_meanwhile_destroys_nothing(
    ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ops.apply(worker_yaml("ada"))
    ops.meanwhile(monkeypatch, worker_yaml("ada", soul="one"), worker_yaml("ada", soul="two"))
    assert "changed `worker/ada`" in await ops.say("!apply", worker_yaml("ada", soul="three"))
    assert ((await ops.spec(ADA))["soul"], ops.asked) == ("three", [])


async def test_what_moves_all_the_time_is_given_up(ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    await ops.apply(worker_yaml("ada"))
    ops.meanwhile(monkeypatch, *(worker_yaml("ada", soul=f"word{number}") for number in range(50)))
    assert "Others change the same all the time" in await ops.say("!apply", worker_yaml("ada", soul="mine"))
    assert "word" in (await ops.spec(ADA))["soul"]


async def test_a_plan_that_was_agreed_to_and_moved_is_not_carried_out(
    ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ops.apply(of_agents("alice", "bob"))
    ops.meanwhile(monkeypatch, of_agents("alice", "bob", "carol"))
    told = await ops.say("!apply", of_agents("alice"))
    assert "What was agreed to is not what would happen now" in told
    assert len(ops.asked) == 1
    assert not any(stored.deleting for stored in await objects.every(ops.store))


async def test_of_many_objects_it_is_told_how_many_are_ready_and_which_are_not(ops: Ops) -> None:
    file = "---\n".join(worker_yaml(f"w{number}") for number in range(30))
    await ops.apply(file)
    done = Status(phase="Running", observed_generation=2)
    await ops.store.write(lambda db: status.put(db, Key("Worker", "w0"), done))

    await ops.say("!apply", file.replace("gpt-test", "other"))

    told = "\n".join(f"- `worker/w{number}` — working" for number in range(1, 21))
    assert ops.progress[-1] == f"1 of 30 are ready.\n{told}"


async def test_of_some_objects_each_is_told(ops: Ops) -> None:
    file = "---\n".join(worker_yaml(f"w{number}") for number in range(20))
    await ops.apply(file)
    await ops.say("!apply", file.replace("gpt-test", "other"))
    assert ops.progress[-1].splitlines() == [f"- `worker/w{number}` — working" for number in range(20)]


REMARKED = f"# about ada\n{worker_yaml('ada', soul='first')}# the end\n"


async def test_an_edited_file_is_not_applied_over_what_somebody_changed_since(ops: Ops) -> None:
    await ops.apply(REMARKED)
    await ops.apply(worker_yaml("bob"))
    file = await ops.file("!edit ada")
    await ops.say("!set ada model=newer")
    assert "`worker/ada` has changed since you read it" in await ops.say("!plan", file)
    told = await ops.say("!apply", file.replace("soul: first", "soul: mine"))
    assert "`worker/ada` has changed since you read it" in told
    assert ((await ops.spec(ADA))["model"], (await ops.spec(ADA))["soul"]) == ("newer", "first")

    file = (await ops.file("!edit ada")).replace("soul: first", "soul: mine")
    told = await ops.say("!apply ", f"{file.replace('soul', 'sole')}---\n{worker_yaml('bob')}")
    assert f"line {file[: file.index('soul')].count(chr(10)) + 1}, `spec.sole`" in told
    assert "changed `worker/ada`" in await ops.say("!apply  ", f"{worker_yaml('bob')}---\n{file}".replace("\n", "\r\n"))
    assert ((await ops.spec(ADA))["model"], (await ops.spec(ADA))["soul"]) == ("newer", "mine")


async def test_an_edited_file_is_refused_also_when_the_change_comes_after_its_plan(
    ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ops.apply(REMARKED)
    file = await ops.file("!edit ada")
    ops.meanwhile(monkeypatch, worker_yaml("ada", soul="newer"))
    assert "has changed since you read it" in await ops.say("!apply", file.replace("first", "mine"))
    assert (await ops.spec(ADA))["soul"] == "newer"


async def test_what_an_edited_file_says_of_its_revision_is_not_kept(ops: Ops) -> None:
    await ops.apply(REMARKED)
    file = await ops.file("!edit ada")
    assert file.endswith(f"\n{REMARKED}")
    assert "No changes" in await ops.say("!plan", file)
    assert "No changes" in await ops.say("!apply", file)
    assert "changed `worker/ada`" in await ops.say("!apply ", file.replace("first", "second"))
    stored = await ops.stored(ADA)
    assert stored.text == REMARKED.replace("first", "second")

    await ops.apply(file)  # by a door that takes the line for a remark
    assert await ops.file("!export") == await ops.file("!edit ada", room="") == REMARKED
    assert (await ops.file("!edit ada")).count("revision") == 1


async def test_an_edited_file_is_a_pattern_for_another_object(ops: Ops) -> None:
    await ops.apply(worker_yaml("ada"))
    await ops.apply(worker_yaml("bob"))
    file = (await ops.file("!edit ada")).replace("name: ada", "name: bob").replace("model: gpt-test", "model: other")
    await ops.say("!set ada soul=newer")
    assert "changed `worker/bob`" in await ops.say("!apply", file)


async def test_a_rollback_reaches_every_revision_there_is(ops: Ops) -> None:
    for number in range(1, 91):
        await ops.apply(worker_yaml("ada", soul=f"word{number}"))
    assert "changed" in await ops.say("!rollback ada 1")
    assert (await ops.spec(ADA))["soul"] == "word1"
    assert "changed" in await ops.say("!rollback 17")
    assert (await ops.spec(ADA))["soul"] == "word17"


async def test_a_bare_rollback_takes_back_the_newest_change_whole(ops: Ops) -> None:
    bob = Key("Worker", "bob")
    await ops.apply("---\n".join(worker_yaml(name, soul="first") for name in ("ada", "bob")))
    with pytest.raises(Invalid, match="nothing was there before"):
        await ops.say("!rollback")
    author = Author(user="@other:hs", cause="$both", now=1.0)
    both = "---\n".join(worker_yaml(name, soul="second") for name in ("ada", "bob")).encode()
    await ops.desk.declare(checked(both, "test"), author)

    assert "changed" in await ops.say("!rollback ")
    assert [(await ops.spec(key))["soul"] for key in (ADA, bob)] == ["first", "first"]
    assert "changed" in await ops.say("!rollback  ")
    assert [(await ops.spec(key))["soul"] for key in (ADA, bob)] == ["second", "second"]

    await ops.apply(worker_yaml("ada", soul="third"))
    stored = await ops.stored(ADA)
    await ops.desk.delete(stored, replace(author, cause="$gone"), keep_files=True)
    assert "changed `worker/ada`" in await ops.say("!rollback   ")
    assert (await ops.spec(ADA))["soul"] == "third"


async def moved_out(ops: Ops) -> None:
    """Alice is part of a team, and then declared by herself in the same file."""
    await ops.apply(of_agents("alice"))
    text = f"{of_agents()}---\n{worker_yaml('alice', soul='free')}"
    author = Author(user="@other:hs", cause="$out", now=1.0)
    await ops.desk.declare(checked(text.encode(), "test"), author)
    await ops.desk.set_paused(await ops.stored(ALICE), author, paused=True)


ALICE, DEV = Key("Worker", "alice"), Key("Team", "dev")


@pytest.mark.parametrize("typed", ["!rollback", "!rollback team/dev"])
async def test_a_rollback_takes_an_agent_back_into_its_team(ops: Ops, typed: str) -> None:
    await moved_out(ops)
    assert "changed `team/dev`" in await ops.say(typed)
    stored = await ops.stored(ALICE)
    assert (stored.owner, stored.deleting, "soul" in stored.document["spec"]) == ("team/dev", False, False)
    now = {change.key: change.text for change in await journal.latest(ops.store)}
    assert ("alice" in now[DEV], now[ALICE]) == (True, "")  # which is what a restore declares

    assert "`worker/alice`" in await ops.say("!rollback ")  # and that is taken back, too
    stored = await ops.stored(ALICE)
    assert (stored.owner, stored.document["spec"]["soul"]) == ("", "free")


async def test_a_rollback_of_a_team_does_not_take_back_what_its_agent_became_since(ops: Ops) -> None:
    await moved_out(ops)
    await ops.apply(worker_yaml("alice", soul="other"))
    with pytest.raises(Conflict, match="is declared by itself since") as caught:
        await ops.say("!rollback team/dev")
    assert "delete" not in str(caught.value)
    assert (await ops.spec(ALICE))["soul"] == "other"

    await ops.say(caught.value.problems[0].fix.partition("`")[2].rstrip("`"))
    assert (await ops.spec(ALICE))["soul"] == "free"
    assert "changed `team/dev`" in await ops.say("!rollback team/dev ")


async def test_a_worker_of_that_name_that_never_was_in_the_team_stays_by_itself(ops: Ops) -> None:
    await ops.apply(of_agents("alice"))
    await ops.apply(of_agents())
    await ops.store.write(lambda db: objects.forget(db, ALICE))
    await ops.apply(worker_yaml("alice"))
    with pytest.raises(Conflict, match="is taken by `worker/alice`"):
        await ops.say("!rollback team/dev")


async def test_a_rollback_takes_back_nothing_that_comes_while_it_is_planned(
    ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    for soul in ("one", "two"):
        await ops.apply(worker_yaml("ada", soul=soul))
    look = ops.store.look
    comes = [worker_yaml("ada", soul="three")]

    async def looked(unit: Any) -> Any:
        found = await look(unit)
        if comes:
            await ops.apply(comes.pop())
        return found

    monkeypatch.setattr(ops.store, "look", looked)
    with pytest.raises(Conflict, match="was changed by somebody just now"):
        await ops.say("!rollback ada")
    assert (await ops.spec(ADA))["soul"] == "three"


async def test_a_team_is_named_in_every_way_an_agent_is(ops: Ops) -> None:
    dev = Key("Team", "dev")
    await ops.apply(team("dev", description="first"))
    await ops.apply(team("dev", description="second"))
    for number, words in enumerate(("dev", "team dev", "team/dev")):
        assert "changed" in await ops.say(f"!rollback {words}")
        assert (await ops.spec(dev))["description"] == ("second" if number % 2 else "first")
        assert "**team/dev**" in await ops.say(f"!history {words}")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("!rollback 999", "no revision 999"),
        (f"!rollback {10**30}", "no revision"),
        (f"!rollback ada {10**30}", "`worker/ada` has no revision"),
        ("!rollback bob 1", "`worker/bob` has no revision 1"),
        ("!rollback worker", "no object called `worker`"),
        ("!rollback never-there", "no object called `never-there`"),
    ],
)
async def test_a_revision_that_is_not_there_is_named(ops: Ops, typed: str, words: str) -> None:
    await ops.apply(worker_yaml("ada"))
    await ops.apply(worker_yaml("bob"))
    with pytest.raises(NotFound, match=words):
        await ops.say(typed)


async def test_agents_are_shown_as_paused_with_their_team(ops: Ops) -> None:
    await ops.apply(team("dev"))
    await ops.apply(worker_yaml("ada"))
    [row] = [line for line in (await ops.say("!get workers")).splitlines() if "dev-lead" in line]
    assert "| Paused |" in row
    assert "State: Paused" in await ops.say("!describe dev-lead")
    stored = await objects.get(ops.store, Key("Team", "dev"))
    assert stored
    await ops.desk.set_paused(stored, Author(user="@op:hs", cause="$", now=0.0), paused=False)
    rows = [line.split(" | ") for line in (await ops.say("!get workers")).splitlines()]
    assert {row[0]: row[1] for row in rows[2:]} == {"| ada": "Paused", "| dev-lead": "Updating"}


async def test_what_was_paused_before_it_became_an_agent_of_a_team_goes_on_with_the_team(ops: Ops) -> None:
    await ops.apply(worker_yaml("ada"))
    author = Author(user="@op:hs", cause="$", now=0.0)
    await ops.desk.declare(checked(team("dev").encode(), "test"), author)
    part = Declared(kind="Worker", name="ada", api_version="v", document={"spec": {}}, text="", owner="team/dev")
    await ops.store.write(partial(objects.declare, wanted=part, author="@op:hs", cause="$2", now=1.0))

    async def held_by() -> list[str]:
        found = [await objects.get(ops.store, key) for key in (ADA, Key("Team", "dev"))]
        return [stored.held_by for stored in found if stored]

    assert await held_by() == ["team/dev", ""]
    dev = await objects.get(ops.store, Key("Team", "dev"))
    assert dev
    for paused, held in ((False, ["", ""]), (True, ["team/dev", "team/dev"]), (False, ["", ""])):
        done = await ops.desk.set_paused(dev, author, paused=paused)
        assert done.documents == ((dev.key, "paused" if paused else "resumed"),)
        assert await held_by() == held


async def test_what_a_prune_has_deleted_is_named(ops: Ops) -> None:
    label = "metadata:\n  labels: {opsroom.io/set: shop}"
    ada, bob = (worker_yaml(name).replace("metadata:", label) for name in ("ada", "bob"))
    await ops.apply(f"{ada}---\n{bob}")

    stored = await objects.get(ops.store, Key("Worker", "bob"))
    assert stored
    await ops.desk.set_paused(stored, Author(user="@op:hs", cause="$", now=0.0), paused=False)

    async def end() -> None:
        """As the reconciler does it."""
        assert await ops.store.write(partial(objects.forget, key=stored.key))
        ops.changes.publish(stored.key)

    ending: list[asyncio.Task[None]] = []
    ops.changes.hook(lambda key: None if ending or key != stored.key else ending.append(asyncio.create_task(end())))
    told = await ops.say("!apply --prune --yes", ada)
    assert told.splitlines()[:2] == [
        "- unchanged `worker/ada` — paused; `!resume worker/ada` goes on.",
        "- deleted `worker/bob`.",
    ]


async def test_what_is_changed_of_a_paused_object_is_done_and_waits_for_nothing(ops: Ops) -> None:
    await ops.apply(worker_yaml("ada"))
    answer = await ops.answer("!set ada model=other")
    assert answer.ok
    assert answer.text == "changed `worker/ada` — paused; `!resume worker/ada` goes on."


def team(name: str, **spec: str) -> str:
    return document("Team", name, leader=f"{{name: {name}-lead, model: m}}", **spec)


def of_agents(*agents: str) -> str:
    """A team dev of these and its leader."""
    return team("dev", workers=f"[{', '.join(f'{{name: {agent}, model: m}}' for agent in agents)}]")


async def names(ops: Ops, kind: str) -> list[str]:
    return [stored.name for stored in await objects.every(ops.store, kind)]
