"""Commands in a shell at the REST API of this process: how objects are named, what is sent, what is shown."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from appservice.cli.main import main
from appservice.ops.answer import Answer
from appservice.resources import registry
from appservice.store import status
from appservice.store.changes import Key
from appservice.store.declaring import Author
from appservice.store.status import Status
from tests.support.rest import Ours, opened, served
from tests.support.stack import document, worker_yaml

Run = Callable[..., Coroutine[Any, Any, "Ended"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def obeyed() -> list[tuple[str, ...]]:
    """What the room was told to do."""
    return []


@pytest.fixture
async def world(tmp_path: Path, obeyed: list[tuple[str, ...]]) -> AsyncIterator[Ours]:
    async def obey(words: Sequence[str], **_more: Any) -> Answer:
        obeyed.append(tuple(words))
        return Answer(text="what it would do")

    async with opened(tmp_path) as found:
        yield replace(found, obey=obey)


@pytest.fixture
async def opsroom(world: Ours, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Run]:
    """`opsroom ...` at that server."""
    token = tmp_path / "token"
    token.write_text("t")
    async with served(world) as rest:

        async def run(*words: object) -> Ended:
            typed = [*map(str, words), "--server", rest.url, "--token-file", str(token)]
            capsys.readouterr()
            with capture_logs():
                code = await asyncio.to_thread(main, typed)
            said = capsys.readouterr()
            return Ended(code=code, out=said.out, err=said.err)

        yield run


async def declare(world: Ours, *texts: str) -> None:
    documents = registry.parse("---\n".join(texts).encode(), source="test")
    await world.desk.declare(documents, Author(user="@op:hs", cause="$1", now=0.0))


async def become(world: Ours, kind: str, name: str, phase: str, **facts: str) -> None:
    found = Status(phase=phase, observed_generation=1, facts=facts)
    await world.store.write(lambda db: status.put(db, Key(kind, name), found))


BOB = document("Human", "bob", displayName="Bob B.", permissionLevel="3")
TEAM = document("Team", "dev", leader="{name: lena, model: m}", workers="[{name: max, model: m}]")


async def test_a_dry_run_shows_the_plan_and_does_nothing_whether_it_would_wait_or_not(
    world: Ours, opsroom: Run, obeyed: list[tuple[str, ...]], tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(worker_yaml("a"))
    for more in ((), ("--no-wait",)):
        done = await opsroom("apply", "-f", tmp_path / "a.yaml", "--dry-run", *more)
        assert (done.code, done.out) == (0, "what it would do\n")
        assert obeyed.pop() == ("apply", "--dry-run")
    assert "There is nothing" in (await opsroom("get", "workers")).err
    done = await opsroom("apply", "-f", tmp_path / "a.yaml", "--no-wait")
    assert (done.code, done.out, obeyed) == (0, "created worker/a\n", [])


@pytest.mark.parametrize("kinds", ["workers", "all"])
async def test_a_list_in_json_can_be_applied(world: Ours, opsroom: Run, tmp_path: Path, kinds: str) -> None:
    await declare(world, worker_yaml("a", soul='"first: second"'), worker_yaml("b"), BOB)
    (tmp_path / "all.json").write_text((await opsroom("get", kinds, "-o", "json")).out)
    done = await opsroom("apply", "-f", tmp_path / "all.json", "--no-wait")
    names = ["worker/a", "worker/b", *(["human/bob"] if kinds == "all" else [])]
    assert (done.code, done.out.splitlines()) == (0, [f"unchanged {name}" for name in names])
    (tmp_path / "one.json").write_text((await opsroom("get", "worker/a", "-o", "json")).out)
    assert (await opsroom("apply", "-f", tmp_path / "one.json", "--no-wait")).out == "unchanged worker/a\n"
    for wrong in ("[1]", "{", '{"kind": "List", "items": [' + "[" * 5_000):
        (tmp_path / "wrong.json").write_text(wrong)
        told = await opsroom("apply", "-f", tmp_path / "wrong.json", "--no-wait")
        assert (told.code, told.out, "the body" in told.err) == (2, "", True), told


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("alice", "worker/alice"),
        ("worker/alice", "worker/alice"),
        ("wk/alice", "worker/alice"),
        ("dev", "team/dev"),
        ("lena", "worker/lena"),
        ("bob", "human/bob"),
        ("@bob", "human/bob"),
        ("@agent-alice:hs", "worker/alice"),
        ("@robert:hs", "human/bob"),
        ("@bob:hs", "human/bob"),
    ],
)
async def test_an_object_is_named_as_it_is_in_the_room(world: Ours, opsroom: Run, word: str, meant: str) -> None:
    await declare(world, worker_yaml("alice"), TEAM, BOB)
    await become(world, "Worker", "alice", "Running", matrixUserID="@agent-alice:hs")
    await become(world, "Human", "bob", "Active", matrixUserID="@robert:hs")
    assert (await opsroom("get", word, "-o", "name")).out == f"{meant}\n"
    events = await opsroom("events", word)
    assert (events.code, events.out) == (0, "AGE  WHAT  TIMES  MESSAGE\n")
    late = await opsroom("wait", word, "--for", "phase=Gone", "--timeout", "0")
    assert (late.code, "is not Gone after 0" in late.err) == (1, True)


async def test_an_agent_may_be_called_like_a_kind(world: Ours, opsroom: Run, tmp_path: Path) -> None:
    await declare(world, document("Manager", "default", model="m"), worker_yaml("alice"))
    await become(world, "Worker", "manager", "Running")
    (tmp_path / "manager").write_text("what it wrote\n")
    assert (await opsroom("logs", "manager")).out == "what it wrote\n"
    assert (await opsroom("events", "manager")).code == 0
    ready = await opsroom("wait", "manager", "--timeout", "30")
    assert (ready.code, ready.out) == (0, "manager: condition=Ready\n")
    listed = (await opsroom("get", "manager", "-o", "name")).out
    assert (listed, (await opsroom("get", "all", "-o", "name")).out.split()) == (
        "manager/default\n",
        ["worker/alice", "worker/manager", "manager/default"],
    )


async def test_several_objects_are_waited_for_in_the_words_people_use(world: Ours, opsroom: Run) -> None:
    await declare(world, worker_yaml("alice"), TEAM, BOB)
    for kind, name in (("Worker", "alice"), ("Team", "dev"), ("Human", "bob")):
        await become(world, kind, name, "Active")
    done = await opsroom("wait", "worker", "alice", "team", "dev", "bob", "--for", "phase=Active")
    assert done.out.splitlines() == [f"{name}: phase=Active" for name in ("worker/alice", "team/dev", "bob")]


async def test_what_is_not_there_is_said_by_name(world: Ours, opsroom: Run) -> None:
    await declare(world, worker_yaml("alice"))
    for words in (("get", "nobody"), ("events", "team"), ("logs", "nobody"), ("wait", "@nobody:hs")):
        told = await opsroom(*words)
        name = words[1].removeprefix("@").removesuffix(":hs")
        assert (told.code, f"there is no object called {name}. `opsroom get all`" in told.err) == (1, True), told
    assert (await opsroom("wait", "nobody", "--for", "delete")).code == 0
    assert "There is no `human/alice`" in (await opsroom("get", "human/alice")).err


async def test_lists_have_the_columns_of_the_room(world: Ours, opsroom: Run) -> None:
    await declare(world, worker_yaml("alice"), worker_yaml("claw", runtime="openclaw"), BOB)
    await become(world, "Human", "bob", "Active", matrixUserID="@bob:hs")
    head, *rows = (await opsroom("get", "workers")).out.splitlines()
    assert head.split() == ["NAME", "STATE", "MODEL", "RUNTIME", "AGE"]
    assert [row.split()[3] for row in rows] == ["native", "openclaw"]
    head, row = (await opsroom("get", "humans")).out.splitlines()
    columns = {"NAME": "bob", "STATE": "Active", "DISPLAY NAME": "Bob B.", "LEVEL": "3", "MATRIX USER": "@bob:hs"}
    assert {column: row[head.index(column) :].split("  ")[0] for column in columns} == columns


async def test_no_time_to_wait_is_a_look(world: Ours, opsroom: Run) -> None:
    await declare(world, worker_yaml("alice"))
    late = await opsroom("wait", "alice", "--timeout", "0")
    assert (late.code, late.err.startswith("opsroom: alice is not Ready after 0.")) == (1, True), late
    await become(world, "Worker", "alice", "Running")
    assert (await opsroom("wait", "alice", "--timeout", "0")).code == 0


async def test_what_is_paused_with_its_team_says_so_and_is_not_waited_for(world: Ours, opsroom: Run) -> None:
    await declare(world, TEAM, worker_yaml("alice"))
    for name in ("lena", "max"):
        await become(world, "Worker", name, "Running")
    await world.pause("Team", "dev")
    await world.pause("Worker", "alice")
    await declare(world, TEAM.replace("model: m", "model: other"))
    rows = [row.split() for row in (await opsroom("get", "all")).out.splitlines()]
    assert {row[0]: row[1] for row in rows if len(row) > 2 and row[0] != "NAME"} == dict.fromkeys(
        ("alice", "lena", "max", "dev"), "Paused"
    )
    for word, whole in (("lena", "team/dev"), ("team/dev", "team/dev"), ("alice", "worker/alice")):
        told = await opsroom("wait", word)
        assert (told.code, f"is paused. `opsroom resume {whole}` goes on." in told.err) == (1, True), told

    await world.pause("Team", "dev", paused=False)
    assert (await opsroom("get", "lena")).out.splitlines()[1].split()[1] == "Updating"


async def test_a_pause_ends_a_waiting_that_runs(world: Ours, opsroom: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    watches, until = asyncio.Event(), world.streams.until

    async def seen(news: asyncio.Event, timeout_s: float) -> bool:
        watches.set()
        return await until(news, timeout_s)

    monkeypatch.setattr(world.streams, "until", seen)
    await declare(world, TEAM)
    waiting = asyncio.create_task(opsroom("wait", "lena", "--timeout", "60"))
    await watches.wait()
    await world.pause("Team", "dev")
    told = await waiting
    assert (told.code, "worker/lena is paused" in told.err) == (1, True)
