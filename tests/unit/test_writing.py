"""What writers of the REST API may do to the state that is there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appservice.resources.printing import to_yaml
from tests.support.api import Answered, Api
from tests.support.rest import Ours, opened, served


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Ours]:
    async with opened(tmp_path) as found:
        yield found


@pytest.fixture
async def rest(world: Ours) -> AsyncIterator[Api]:
    async with served(world) as found:
        yield found


async def test_what_is_being_deleted_comes_back_only_when_it_is_declared_as_a_whole(world: Ours, rest: Api) -> None:
    await world.declare("a")
    whole = (await rest.ask("GET", "workers/a")).body
    assert (await rest.ask("DELETE", "workers/a")).status == 202
    for method, path, body in (
        ("PATCH", "workers/a", {"spec": {"model": "other"}}),
        ("POST", "workers/a/wake", None),
        ("POST", "workers/a/sleep", None),
    ):
        told = await rest.ask(method, path, body)
        assert (told.status, "is being deleted" in told.body["detail"]) == (409, True)
    back = await rest.ask("PUT", "workers/a", {"spec": whole["spec"]})
    assert (back.status, "deletionTimestamp" in back.body["metadata"]) == (200, False)


async def test_a_name_that_somebody_else_has_is_a_conflict(world: Ours, rest: Api) -> None:
    """The document is right; it is the state that is in its way."""
    await world.declare("a")
    human = {"metadata": {"name": "a"}, "spec": {"displayName": "A", "permissionLevel": 1}}
    told = await rest.ask("POST", "humans", human)
    assert (told.status, told.body["problems"][0]["where"]) == (409, "the body, line 4, metadata.name"), told
    assert "is taken by `worker/a`" in told.body["detail"]
    ours = await rest.ask("POST", "humans", human | {"metadata": {"name": "agent-a"}})
    assert (ours.status, "Opsroom's own" in ours.body["detail"]) == (422, True)


async def test_clients_of_hiclaw_find_what_they_know(world: Ours, rest: Api) -> None:
    await world.declare("a", state="Sleeping")
    async with rest.http.get(f"{rest.url}/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"alive": True})
    woken = await rest.ask("POST", "workers/a/ensure-ready")
    assert (woken.status, woken.body["spec"].get("state", "Running")) == (200, "Running")


@pytest.mark.parametrize("form", ["json", "yaml"])
async def test_an_apply_overwrites_nothing_that_its_author_has_not_seen(world: Ours, rest: Api, form: str) -> None:
    """All of it or none: one document that is behind keeps the others back, too."""
    await world.declare("a", "b")
    read = (await rest.ask("GET", "workers")).body["items"]

    async def apply() -> Answered:
        for item in read:
            item["spec"]["model"] = "mine"
        if form == "json":
            return await rest.ask("POST", "apply", {"kind": "WorkerList", "items": read})
        text = "---\n".join(to_yaml(item) for item in read).encode()
        return await rest.ask("POST", "apply", text, headers={"Content-Type": "application/yaml"})

    await world.become("b", "Running")
    late = await apply()
    assert (late.status, "`worker/b` has changed since you read it" in late.body["detail"]) == (409, True)
    assert (await rest.ask("GET", "workers/a")).body["spec"]["model"] == "gpt-test"
    read = (await rest.ask("GET", "workers")).body["items"]
    done = await apply()
    assert [one["action"] for one in done.body["results"]] == ["changed", "changed"]
    del read[0]["metadata"]["resourceVersion"], read[1]
    assert (await apply()).status == 200


async def test_a_deletion_that_is_only_planned_says_what_goes(world: Ours, rest: Api) -> None:
    await world.declare("a")
    team = {"metadata": {"name": "dev"}, "spec": {"leader": {"name": "lena", "model": "m"}}}
    assert (await rest.ask("POST", "teams", team)).status == 201
    for path, files, said in (
        ("workers/a", "keep", {"a": "its sandbox, token, storage user and room go; its files stay"}),
        (
            "teams/dev",
            "delete",
            {
                "dev": "its rooms go, and its agents; the team's common files stay",
                "lena": "its sandbox, token, storage user and room go; its files go, too",
            },
        ),
    ):
        plan = (await rest.ask("DELETE", path, dryRun="All", files=files)).body["plan"]
        assert {one["name"]: one["note"] for one in plan} == said
        assert {one["action"] for one in plan} == {"delete"}
        assert (await rest.ask("GET", path)).status == 200


async def test_agents_are_paused_with_their_team(world: Ours, rest: Api) -> None:
    """And have another version then: who watches one, or writes what they have read, is told."""
    team = {"metadata": {"name": "dev"}, "spec": {"leader": {"name": "lena", "model": "m"}}}
    assert (await rest.ask("POST", "teams", team)).status == 201
    await world.become("lena", "Running")
    start = (await rest.ask("GET", "workers/lena")).version
    async with rest.follow("workers", watch="true", resourceVersion=start) as news:
        for paused, reason in ((True, "Paused"), (False, "Updating")):
            await world.pause("Team", "dev", paused=paused)
            [*_, now] = await news.until(lambda: news.of("MODIFIED", "lena"), "the change of the agent")
            news.events.clear()
            assert now == (await rest.ask("GET", "workers/lena")).body
            assert [now] == (await rest.ask("GET", "workers")).body["items"]
            ready = next(one for one in now["status"]["conditions"] if one["type"] == "Ready")
            assert (now["status"]["paused"], ready["status"], ready["reason"]) == (paused, "False", reason)
    await world.pause("Team", "dev")
    await rest.ask("DELETE", "teams/dev")
    gone = (await rest.ask("GET", "workers/lena")).body
    assert ("deletionTimestamp" in gone["metadata"], gone["status"]["paused"]) == (True, False)
