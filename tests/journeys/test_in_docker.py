"""The main job with containers: made, asked, killed, put to sleep, thrown away, and what one finds inside."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from appservice import config
from tests.support import faults
from tests.support.inside import Insider, containers, gateway_alone_answers, own_token_is_the_only_secret
from tests.support.provider import Say, ToolCall
from tests.support.stack import Stack, worker_yaml

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


def container(stack: Stack, name: str) -> Any:
    [found] = containers(stack.installation, name)
    return found


async def when(condition: Callable[[], Any], what: str) -> Any:
    return await faults.until(lambda: condition(), what, 60)


async def test_an_uploaded_worker_comes_up_as_a_container_and_answers(docker_stack: Stack) -> None:
    room = await docker_stack.worker("boxed", soul="You live in a box.")

    answer = await docker_stack.op.answer_to(await docker_stack.ask(room, "boxed", "where are you?"), "are you?")

    assert answer.text == "You said: agent-boxed where are you?"
    assert answer.sender == docker_stack.agent("boxed")
    assert container(docker_stack, "boxed").status == "running"


async def test_its_container_is_locked_down_and_limited_as_declared(docker_stack: Stack) -> None:
    await docker_stack.worker("limited")
    settings = config.load(docker_stack.data_dir)

    facts = container(docker_stack, "limited").attrs
    host = facts["HostConfig"]

    assert facts["Config"]["Labels"]["org.opsroom.agent"] == "limited"
    assert facts["Config"]["Labels"]["org.opsroom.installation"] == docker_stack.installation
    assert facts["Config"]["Labels"]["org.opsroom.spec-hash"]
    assert host["Memory"] == settings.agents.memory_mb * 2**20
    assert host["NanoCpus"] == int(settings.agents.cpus * 1e9)
    assert host["PidsLimit"] == settings.agents.pids
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["Privileged"]) == ("none", True, False)
    assert host["CapDrop"] == ["ALL"]
    assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
    assert facts["Config"]["User"].split(":")[0] not in ("", "0", "root")
    assert not any("docker.sock" in mount["Source"] for mount in facts["Mounts"])


async def test_a_killed_container_comes_back_by_itself_and_its_turn_is_delivered_once_more(
    docker_stack: Stack,
) -> None:
    room = await docker_stack.worker("phoenix")
    docker_stack.provider.when("burn", Say(words=60, delay=0.1, hold_after=20), Say("risen"))
    question = await docker_stack.ask(room, "phoenix", "burn")
    await docker_stack.op.answer_to(question, "word2")

    container(docker_stack, "phoenix").kill()

    await docker_stack.op.answer_to(question, "risen", 60)
    await faults.all_done(docker_stack)
    await docker_stack.command("!version")
    assert [message.text for message in docker_stack.op.answers(question)] == ["risen"]
    assert container(docker_stack, "phoenix").status == "running"
    prompts = [call for call in docker_stack.provider.calls if "burn" in call.prompt]
    assert len(prompts) == 2


async def test_an_idle_container_that_is_killed_comes_back_without_being_asked(docker_stack: Stack) -> None:
    await docker_stack.worker("idle")
    before = container(docker_stack, "idle").attrs["State"]["StartedAt"]

    container(docker_stack, "idle").kill()

    await when(
        lambda: any(
            one.status == "running" and one.attrs["State"]["StartedAt"] != before
            for one in containers(docker_stack.installation, "idle")
        ),
        "the container again",
    )


async def test_sleeping_stops_the_container_a_mention_wakes_it_and_stopped_removes_it(docker_stack: Stack) -> None:
    room = await docker_stack.worker("dozing")
    answer = await docker_stack.apply(worker_yaml("dozing", state="Sleeping"))
    assert "asleep" in answer.text
    await when(lambda: container(docker_stack, "dozing").status == "exited", "the end of the container")

    await docker_stack.op.answer_to(await docker_stack.ask(room, "dozing", "wake up"), "wake up")
    assert container(docker_stack, "dozing").status == "running"

    assert "stopped" in (await docker_stack.apply(worker_yaml("dozing", state="Stopped"))).text
    assert containers(docker_stack.installation, "dozing") == []


async def test_what_an_agent_wrote_survives_a_container_that_is_thrown_away(docker_stack: Stack) -> None:
    room = await docker_stack.worker("keeper")
    docker_stack.provider.when(
        "note it", ToolCall("write_file", {"path": "notes/today.md", "content": "the milk is out"}), Say("noted")
    )
    await docker_stack.op.answer_to(await docker_stack.ask(room, "keeper", "note it"), "noted")
    old = container(docker_stack, "keeper")

    old.remove(force=True)
    await when(
        lambda: [one for one in containers(docker_stack.installation, "keeper") if one.id != old.id], "a new container"
    )

    insider = Insider(stack=docker_stack, name="keeper", room=room)
    assert "the milk is out" in await insider.run("cat notes/today.md")


async def test_a_deleted_worker_leaves_no_container(docker_stack: Stack) -> None:
    await docker_stack.worker("gone")
    assert containers(docker_stack.installation, "gone")

    assert "Deleted" in (await docker_stack.command("!delete worker/gone --files delete --yes")).text

    assert containers(docker_stack.installation, "gone") == []


async def test_from_inside_a_container_only_the_gateway_answers(docker_stack: Stack) -> None:
    await gateway_alone_answers(await Insider.made(docker_stack, "scout"))


async def test_inside_a_container_there_is_no_secret_but_its_own_token(docker_stack: Stack) -> None:
    insider, _ = await asyncio.gather(Insider.made(docker_stack, "spy"), docker_stack.worker("target"))
    await own_token_is_the_only_secret(insider, "target")
