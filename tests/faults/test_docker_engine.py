"""A Docker Engine of our own that is killed: what agents' events and turns make of it."""

from secrets import token_hex

import pytest

from appservice.backends.choose import default_image
from appservice.backends.docker import DockerBackend
from appservice.backends.image import build_worker_image, is_current
from appservice.config import Settings
from tests.support import faults
from tests.support.backends import Events
from tests.support.engine import Engine
from tests.support.inside import containers
from tests.support.provider import Say
from tests.support.stack import opened

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


async def test_events_go_on_after_the_engine_was_killed_and_the_gap_is_told(engine: Engine) -> None:
    await engine.start()
    backend = DockerBackend(installation=f"t{token_hex(4)}", docker_host=engine.host)
    events = Events(backend)
    try:
        await events.until(("", "resync"))
        await engine.kill()
        away = await backend.healthy()
        assert (away.level, away.detail) == ("fail", "Docker Engine does not answer.")
        assert away.fix
        await engine.start()
        await events.until(("", "resync"), ("", "gap"), ("", "resync"))
        assert (await backend.healthy()).level == "ok"
    finally:
        await events.close()
        await backend.close()


async def running(installation: str, agent: str, engine: Engine) -> None:
    """Until an agent has one container, and that runs: one that the engine took away twice rests before it does."""

    def runs() -> bool:
        return [one.status for one in containers(installation, agent, host=engine.host)] == ["running"]

    await faults.until(runs, f"the container of {agent}")


async def test_a_control_plane_that_starts_while_the_engine_is_away_leaves_agents_in_it(engine: Engine) -> None:
    if not await is_current():
        await build_worker_image(progress=print)
    installation = f"t{token_hex(4)}"
    await engine.start()
    await engine.load(default_image(Settings()))
    environment = {"OPSROOM_INSTALLATION": installation, "OPSROOM_AGENTS__DOCKER_HOST": engine.host}
    async with opened("--no-web", "--backend", "auto", **environment) as stack:
        room = await stack.worker("stays")
        await engine.kill()
        await stack.kill_control_plane()
        assert "Docker container" in (await stack.command("!status")).text
        assert "Docker Engine does not answer" in (await stack.command("!doctor")).text
        question = await stack.ask(room, "stays", "are you there?")

        await engine.start()
        await stack.op.answer_to(question, "You said", faults.PATIENCE_S)
        await running(installation, "stays", engine)
        await faults.delete_all(stack, ["stays"])


async def test_a_turn_that_a_killed_engine_takes_away_twice_is_answered_once_when_it_is_back(engine: Engine) -> None:
    if not await is_current():
        await build_worker_image(progress=print)
    installation = f"t{token_hex(4)}"
    await engine.start()
    await engine.load(default_image(Settings()))
    environment = {"OPSROOM_INSTALLATION": installation, "OPSROOM_AGENTS__DOCKER_HOST": engine.host}
    async with opened("--no-web", "--backend", "docker", **environment) as stack:

        def asked(prompt: str) -> int:
            return sum(prompt in call.prompt for call in stack.provider.calls)

        room = await stack.worker("shipped")
        long = Say(words=60, delay=0.1)
        stack.provider.when("at sea", long, long, Say("ashore"))
        question = await stack.ask(room, "shipped", "at sea")
        await stack.op.answer_to(question, "word2")

        await engine.kill()
        later = await stack.ask(room, "shipped", "while it is away")
        assert "Docker Engine does not answer" in (await stack.command("!doctor")).text
        await engine.start()
        await stack.provider.until(lambda: asked("at sea") == 2, timeout=faults.PATIENCE_S)
        await engine.kill()
        await engine.start()

        for event in (question, later):
            await stack.op.answer_to(event, timeout_s=faults.PATIENCE_S)
        await faults.all_done(stack)
        await stack.command("!version")
        assert [message.text.split()[-1] for message in stack.op.answers(question)] in (["ashore"], ["word60"])
        assert [message.text for message in stack.op.answers(later)] == ["You said: agent-shipped while it is away"]
        await running(installation, "shipped", engine)
        await faults.delete_all(stack, ["shipped"])
        assert containers(installation, host=engine.host) == []
