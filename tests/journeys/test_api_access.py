"""Who may use REST, and what is refused at its door."""

import asyncio
from urllib.parse import quote

import aiohttp

from tests.support.api import Api, api, declared, problem
from tests.support.stack import Stack


async def test_only_operators_may_and_who_may_not_is_written_down(stack: Stack, rest: Api) -> None:
    somebody = await stack.human("rest-guest", level=3, accessibleWorkers="[rest-there]")
    await rest.ask("POST", "workers", declared("rest-there"))
    async with api(stack.info["api"], somebody.token) as guest:
        problem(await guest.ask("POST", "workers", declared("rest-theirs")), 403, "Only operators")
        problem(await guest.ask("DELETE", "workers/rest-there"), 403, "Only operators")
        problem(await guest.ask("GET", "workers"), 403, "Only operators")
        assert "version" in (await guest.ask("GET", "version")).body
        asked = await guest.ask("GET", "explain", agent="rest-there")
        assert (asked.body["allowed"], asked.body["rule"]) == (True, "level 3, worker")
        problem(await guest.ask("GET", "explain", agent="rest-there", user=stack.op.user), 403, "about others")

    denied = [one for one in (await rest.ask("GET", "audit", limit="50")).body["items"] if one["verdict"] == "deny"]
    lines = [(one["actor"], one["action"], one["target"], one["rule"]) for one in denied]
    assert (somebody.user, "createWorker", "workers", "not an operator") in lines
    assert (somebody.user, "deleteWorker", "worker/rest-there", "not an operator") in lines

    # The right is read at that moment: with the power gone, it is gone.
    assert (await rest.ask("GET", "explain", user=somebody.user, agent="rest-there")).body["field"].startswith("spec.")
    room = quote(stack.ops_room)
    levels = await stack.op.call("GET", f"rooms/{room}/state/m.room.power_levels")
    await stack.op.call("POST", f"rooms/{room}/invite", {"user_id": somebody.user})
    await somebody.call("POST", f"join/{room}", {})
    more = levels | {"users": levels["users"] | {somebody.user: 100}}
    await stack.op.call("PUT", f"rooms/{room}/state/m.room.power_levels", more)
    async with api(stack.info["api"], somebody.token) as guest:
        async with asyncio.timeout(60):  # the homeserver tells Opsroom in its own time that they came in
            while (await guest.ask("GET", "workers")).status != 200:
                await asyncio.sleep(0.1)
        async with guest.follow("watch") as watching:
            await watching.until(lambda: watching.events, "what there is")
            await somebody.call("PUT", f"rooms/{room}/state/m.room.power_levels", levels)
            problem(await guest.ask("GET", "workers"), 403, "Only operators")
            await watching.until(lambda: watching.events[-1][0] == "error", "that they may not watch any more")
        assert watching.events[-1][1]["status"] == 403


async def test_nobody_gets_in_without_a_token_that_is_good(stack: Stack) -> None:
    async with api(stack.info["api"], "") as nobody:
        answer = await nobody.ask("GET", "workers")
        problem(answer, 401, "no access token")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await nobody.ask("GET", "healthz")).body == {"alive": True}
        async with nobody.http.get(f"{stack.info['api']}/openapi.json") as answer_:
            assert (await answer_.json())["openapi"] == "3.1.0"
    async with api(stack.info["api"], "syt_of_nobody_at_all") as stranger:
        problem(await stranger.ask("GET", "version"), 401, "does not know this access token")
    assert "syt_of_nobody_at_all" not in stack.log()
    assert stack.op.token not in stack.log()


async def test_what_cannot_be_read_is_refused_in_words(rest: Api) -> None:
    problem(await rest.ask("GET", "nothing-here"), 404, "nothing at this address")
    answer = await rest.ask("DELETE", "workers")
    problem(answer, 405, "DELETE is not done here")
    assert "POST" in answer.headers["Allow"]
    problem(await rest.ask("POST", "workers", b"{", headers={}), 400, "not JSON")
    problem(await rest.ask("POST", "workers", b"[]", headers={}), 400, "no object")
    problem(await rest.ask("POST", "workers"), 400, "no body")
    problem(await rest.ask("POST", "workers", b"x", headers={"Content-Type": "text/html"}), 415, "application/yaml")
    large = b'{"spec": {"soul": "' + b"x" * 2**20 + b'"}}'
    problem(await rest.ask("POST", "workers", large), 413, "1 MiB")
    problem(await rest.ask("POST", "workers", declared("No-Name")), 422, "lower-case")
    problem(await rest.ask("POST", "workers", declared("manager")), 422, "reserved")
    problem(await rest.ask("GET", "workers/..%2fx"), 404, "")
    problem(await rest.ask("POST", "command", {"words": "get"}), 400, "`words`")
    problem(await rest.ask("GET", "workers", watch="maybe"), 400, "true or false")


async def test_the_operators_socket_needs_no_token(stack: Stack) -> None:
    from appservice import config

    socket = config.load(stack.data_dir).run_dir / "operator.sock"
    assert socket.stat().st_mode & 0o777 == 0o600
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket))) as http:
        async with http.get("http://local/api/v1/status") as answer:
            told = await answer.json()
        async with http.get("http://local/api/v1/explain", params={"agent": "nobody-of-this-name"}) as answer:
            assert answer.status == 404
    assert told["ready"] is True
    assert told["backend"] == stack.info["backend"]
