"""With a part away all else goes on: what waits says for whom it waits, and goes on by itself when that is back."""

import os
import signal
from collections.abc import AsyncIterator

import pytest

from appservice import config
from appservice.storage.connect import connect
from tests.support import faults
from tests.support.away import away
from tests.support.stack import Stack, document, opened, worker_yaml

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
async def limping() -> AsyncIterator[Stack]:
    """A stack of our own, because its parts go away."""
    async with opened(OPSROOM_AGENTS__SILENT_S="20") as stack:
        yield stack


async def conditions(stack: Stack, name: str) -> dict[str, str]:
    """Each condition of a worker: `ok`, or what is said of it."""
    text = await described(stack, name)
    lines = [line.removeprefix("- **") for line in text.splitlines() if line.startswith(("- **ok** ", "- **NO** "))]
    found = (line.partition("** ") for line in lines)
    pairs = ((how, *rest.partition(":")[::2]) for how, _, rest in found)
    return {type_: how if how == "ok" else said.strip() for how, type_, said in pairs}


async def waiting(stack: Stack, name: str, *types: str) -> dict[str, str]:
    """What is said of the conditions of a new worker that are not so, once these are among them."""
    event = await stack.op.upload(stack.ops_room, f"{name}.yaml", worker_yaml(name).encode())
    word = types[0].lower()
    await stack.op.until(
        lambda: any(word in message.text.lower() for message in stack.op.answers(event)), f"a word on {word}", 150
    )
    found = await conditions(stack, name)
    assert set(types) <= found.keys()
    return {type_: said for type_, said in found.items() if said != "ok"}


async def others_go_on(stack: Stack, room: str, worker: str, human: str) -> None:
    """A change of a room is undone, and a Human gets its account and its place."""
    assert await stack.op.undone(room, "m.room.name", {"name": "mine"}) == {"name": worker}
    text = document("Human", human, displayName=human, permissionLevel=3, accessibleWorkers=f"[{worker}]")
    assert "ready" in (await stack.apply(text, timeout_s=60)).text
    user = f"@{human}:{stack.info['server_name']}"
    await stack.op.until(
        lambda: stack.op.seen(room, "m.room.member", user).get("membership") in ("invite", "join"), human
    )


async def becomes_ready(stack: Stack, name: str) -> None:
    """By itself: nobody says anything again."""
    await stack.op.until(
        lambda: any(f"`worker/{name}` — ready" in message.text for message in stack.op.messages.values()), name, 150
    )
    assert set((await conditions(stack, name)).values()) == {"ok"}
    room = await stack.room(name)
    await stack.op.answer_to(await stack.ask(room, name, "there?"), "You said", faults.PATIENCE_S)


async def test_without_storage_a_new_worker_waits_for_it_and_all_else_goes_on(limping: Stack) -> None:
    room = await limping.worker("early-one")
    async with away(limping, "storage"):
        asked = await limping.ask(room, "early-one", "do you need your files?")
        await limping.op.answer_to(asked, "You said", faults.PATIENCE_S)
        await others_go_on(limping, room, "early-one", "visitor-one")
        no = await waiting(limping, "late-one", "Storage", "MatrixUser", "Room", "Consumer")
        assert no.keys() == {"Storage", "Workspace", "Sandbox"}  # a workspace is files in storage
        assert "Storage does not answer" in no["Storage"]
        assert "Waits for storage and workspace" in no["Sandbox"]
    await becomes_ready(limping, "late-one")


async def test_without_storage_agents_run_on_and_are_stopped_and_what_waits_says_so(limping: Stack) -> None:
    room = await limping.worker("early-four")
    await limping.worker("early-five")
    await limping.worker("early-six")
    async with away(limping, "storage"):
        stopped = await limping.command("!set worker/early-five state=Stopped", faults.PATIENCE_S)
        assert "`worker/early-five` — stopped, but " in stopped.text
        assert "Storage does not answer" in stopped.text
        assert not faults.agent_pids(limping, "early-five")

        await limping.command("!pause early-four")
        await limping.command("!resume early-four")
        told = await says(limping, "early-four", "**NO** Storage: ")
        assert "State: Running" in told
        assert "Room: [early-four]" in told
        assert "`worker/early-four`" in (await limping.command("!status")).text

        os.kill(faults.agent_pids(limping, "early-four")[0], signal.SIGKILL)
        told = await says(limping, "early-four", "**NO** Sandbox: Waits for storage")
        assert "Its sandbox died: killed" in told
        asked = await limping.ask(room, "early-four", "are you back?")

        going = await limping.op.say(limping.ops_room, "!delete worker/early-six --files delete --yes")
        told = await says(limping, "early-six", "**NO** Deleted: ")
        assert "State: Deleting" in told
        assert "does not answer" in told.partition("**NO** Deleted: ")[2].splitlines()[0]
    assert "Deleted" in (await limping.op.ended(going, faults.PATIENCE_S)).text
    await limping.op.answer_to(asked, "You said", faults.PATIENCE_S)


async def says(stack: Stack, name: str, what: str) -> str:
    """The description of a worker once it says that."""
    while what not in (text := await described(stack, name)):
        pass
    return text


async def described(stack: Stack, name: str) -> str:
    return (await stack.command(f"!describe worker/{name}", faults.PATIENCE_S)).text


async def test_a_storage_that_takes_calls_and_says_nothing_holds_up_only_what_calls_it(limping: Stack) -> None:
    room = await limping.worker("early-two")
    pid = faults.pid_of(limping, "storage")
    os.kill(pid, signal.SIGSTOP)
    try:
        event = await limping.op.upload(limping.ops_room, "silence.yaml", worker_yaml("late-two").encode())
        await others_go_on(limping, room, "early-two", "visitor-two")
        assert not [message for message in limping.op.answers(event) if "ready" in message.text]
        unsure = await limping.op.say(limping.ops_room, "!delete worker/early-two --yes")
        behind = await limping.op.say(limping.ops_room, "!set early-two soul=new")
        assert "Storage did not say" in (await limping.op.ended(unsure)).text
        await limping.op.answer_to(behind, "working")  # declared: it had its turn
    finally:
        os.kill(pid, signal.SIGCONT)
    await becomes_ready(limping, "late-two")


async def test_a_deletion_that_is_taken_back_under_way_keeps_the_files(limping: Stack) -> None:
    await limping.worker("late-seven")
    stored, users = connect(config.load(limping.data_dir, installation=limping.installation))
    await stored.put("agents/late-seven/mine.txt", b"work", content_type="text/plain")
    pid = faults.pid_of(limping, "storage")
    os.kill(pid, signal.SIGSTOP)
    try:
        await limping.op.say(limping.ops_room, "!delete worker/late-seven --files delete --yes")
        gone = limping.data_dir / "sandboxes" / "late-seven"
        await faults.until(lambda: not gone.exists(), "the end of the sandbox")
        event = await limping.op.upload(limping.ops_room, "again.yaml", worker_yaml("late-seven").encode())
        await faults.until(lambda: not faults.is_deleting(limping, "late-seven"), "the deletion taken back")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "ready" in (await limping.op.ended(event, faults.PATIENCE_S)).text
    assert await stored.get("agents/late-seven/mine.txt") == b"work"
    await users.close()
    await stored.close()


async def test_without_the_gateway_a_new_worker_waits_for_its_consumer_and_all_else_goes_on(limping: Stack) -> None:
    room = await limping.worker("early-three")
    async with away(limping, "gateway"):
        await others_go_on(limping, room, "early-three", "visitor-three")
        no = await waiting(limping, "late-three", "Consumer", "MatrixUser", "Room", "Storage", "Workspace")
        assert no.keys() == {"Consumer", "Sandbox"}
        assert "Waits for consumer" in no["Sandbox"]
    await becomes_ready(limping, "late-three")
