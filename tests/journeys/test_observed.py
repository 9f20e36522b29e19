"""What a monitoring system and an on-call engineer see from outside."""

import json

import aiohttp

from appservice import config
from tests.support import faults
from tests.support.stack import KEY, Stack


def port(stack: Stack) -> str:
    listen = config.load(stack.data_dir).homeserver
    return f"http://{listen.listen_host}:{listen.listen_port}"


async def test_health_and_readiness_mean_what_they_say(stack: Stack) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{port(stack)}/healthz") as answer:
            assert (answer.status, await answer.json()) == (200, {"alive": True})
        async with http.get(f"{port(stack)}/readyz") as answer:
            assert (answer.status, await answer.json()) == (200, {"ready": True, "reason": ""})


async def test_metrics_count_turns_and_tokens(stack: Stack) -> None:
    async def numbers() -> dict[str, float]:
        async with aiohttp.ClientSession() as http, http.get(f"{port(stack)}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            lines = [line for line in (await answer.text()).splitlines() if not line.startswith("#")]
        return {line.split()[0]: float(line.split()[1]) for line in lines}

    room = await stack.worker("measured")
    before = await numbers()
    await stack.op.answer_to(await stack.ask(room, "measured", "count this"), "You said")
    await faults.all_done(stack)
    after = await numbers()

    assert after["opsroom_turns_done"] == before["opsroom_turns_done"] + 1
    assert after["opsroom_objects"] >= 1
    assert after["opsroom_inbox_open"] == 0


async def test_one_search_for_an_event_shows_all_it_led_to(stack: Stack) -> None:
    room = await stack.worker("traced")
    question = await stack.ask(room, "traced", "follow me")
    answer = await stack.op.answer_to(question, "You said")
    await faults.until(
        lambda: any(question in line and "turn ended" in line for line in stack.log().splitlines()), "the turn's end"
    )

    lines = [json.loads(line) for line in stack.log().splitlines() if question in line]

    assert {"event received", "turn ended"} <= {line["event"] for line in lines}
    assert all({"level", "timestamp"} <= line.keys() for line in lines)
    assert answer.raw["org.opsroom.cause"]["root"] == question


async def test_no_secret_reaches_a_log_or_the_settings(stack: Stack) -> None:
    await stack.worker("discreet")
    secrets = [KEY, (stack.data_dir / "secrets" / "operator-password").read_text().strip()]
    secrets += [path.read_text().strip() for path in stack.data_dir.glob("agents/*/secrets/token")]
    written = [*stack.data_dir.glob("logs/*"), stack.data_dir / "opsroom.yaml", *stack.data_dir.glob("gateway/xds/*")]

    found = [(path.name) for path in written for secret in secrets if secret in path.read_text(errors="replace")]

    assert len(secrets) >= 3
    assert found == []
