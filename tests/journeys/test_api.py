"""REST with real components: the same objects, people, rights and audit as in the ops room."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.support.api import WORKER, Api, declared, problem
from tests.support.provider import Say, ToolCall
from tests.support.stack import Stack, worker_yaml

YAML = {"Content-Type": "application/yaml"}


def team(name: str, *workers: str) -> dict[str, Any]:
    made = [{"name": worker, **WORKER} for worker in workers]
    return declared(name, "Team", leader={"name": f"{name}-lead", **WORKER}, workers=made)


async def ready(rest: Api, path: str, fits: Callable[[Any], bool]) -> Any:
    """Wait until an object is as it should be; it."""
    kind, name = path.split("/")
    async with rest.follow(kind, watch="true", fieldSelector=f"metadata.name={name}") as seen:

        def found() -> Any:
            objects = [data["object"] for event, data in seen.events if event in ("ADDED", "MODIFIED")]
            return objects[-1] if objects and fits(objects[-1]) else None

        return await seen.until(found, f"{path} as it should be")


def settled(item: dict[str, Any]) -> bool:
    return bool(
        item["status"]["observedGeneration"] == item["metadata"]["generation"]
        and item["status"]["phase"] in ("Stopped", "Running", "Active")
    )


async def gone(rest: Api, path: str) -> None:
    kind, name = path.split("/")
    start = (await rest.ask("GET", kind)).version
    if (await rest.ask("GET", path)).status == 404:
        return
    async with rest.follow(kind, watch="true", resourceVersion=start) as seen:
        await seen.until(lambda: seen.of("DELETED", name), f"the end of {path}")


async def test_a_worker_from_creation_to_deletion(stack: Stack, rest: Api) -> None:
    made = await rest.ask("POST", "workers", declared("rest-a"))
    assert made.status == 201, made.body
    assert made.body["spec"] == WORKER
    assert made.body["metadata"]["generation"] == 1
    assert made.headers["ETag"] == f'"{made.version}"'
    problem(await rest.ask("POST", "workers", declared("rest-a")), 409, "exists already")

    found = await ready(rest, "workers/rest-a", settled)
    assert found["status"]["matrixUserID"] == stack.agent("rest-a")
    assert {one["type"] for one in found["status"]["conditions"]} >= {"MatrixUser", "Room", "Ready"}
    assert (await rest.ask("GET", "workers/rest-a/status")).body == found["status"]
    assert [one["reason"] for one in (await rest.ask("GET", "workers/rest-a/events")).body["items"]]

    put = await rest.ask("PUT", "workers/rest-a", {"spec": {**WORKER, "soul": "Be brief."}})
    assert (put.status, put.body["metadata"]["generation"]) == (200, 2)
    assert "labels" not in put.body["metadata"]
    patched = await rest.ask("PATCH", "workers/rest-a", {"spec": {"soul": None, "model": "other"}})
    assert patched.body["spec"] == {**WORKER, "model": "other"}
    same = await rest.ask("PATCH", "workers/rest-a", {"spec": {"model": "other"}})
    assert same.body["metadata"]["generation"] == patched.body["metadata"]["generation"]

    history = (await stack.command("!history worker/rest-a")).text
    assert history.count("by @op") == 3
    assert "`spec.model`" in history
    text = (await stack.command("!audit rest-a")).text
    assert "@op → worker/rest-a (apply, rule: operator)" in text

    deleted = await rest.ask("DELETE", "workers/rest-a")
    assert deleted.status == 202, deleted.body
    assert "deletionTimestamp" in deleted.body["metadata"]
    await gone(rest, "workers/rest-a")
    problem(await rest.ask("GET", "workers/rest-a"), 404, "There is no `worker/rest-a`")


async def test_yaml_is_read_as_in_the_room_and_put_makes_what_is_not_there(rest: Api) -> None:
    text = worker_yaml("rest-yaml", state="Stopped") + "# a remark\n"
    made = await rest.ask("PUT", "workers/rest-yaml", text.encode(), headers=YAML)
    assert made.status == 201, made.body

    wrong = await rest.ask("PUT", "workers/rest-yaml", text.replace("model", "modle").encode(), headers=YAML)
    found = problem(wrong, 422, "Did you mean `model`?")
    assert found["problems"][0]["where"] == "the body, line 6, spec.modle"
    assert "^^^^^" in found["problems"][0]["excerpt"]
    assert (await rest.ask("GET", "workers/rest-yaml")).body["metadata"]["generation"] == 1

    problem(await rest.ask("PUT", "workers/other", text.encode(), headers=YAML), 422, "renamed")
    problem(await rest.ask("PUT", "teams/rest-yaml", text.encode(), headers=YAML), 422, "declares a Worker")


async def test_a_dry_run_says_what_would_be_and_changes_nothing(rest: Api) -> None:
    made = await rest.ask("POST", "workers", declared("rest-dry"), dryRun="All")
    assert made.status == 201
    assert made.body["plan"][0]["action"] == "create"
    problem(await rest.ask("GET", "workers/rest-dry"), 404, "rest-dry")

    await rest.ask("POST", "workers", declared("rest-dry"))
    before = await ready(rest, "workers/rest-dry", settled)
    patched = await rest.ask("PATCH", "workers/rest-dry", {"spec": {"model": "dearer"}}, dryRun="All")
    assert patched.body["spec"]["model"] == "dearer"
    assert patched.body["metadata"]["generation"] == 2
    [change] = patched.body["plan"][0]["changes"]
    assert change == {"field": "spec.model", "effect": "from its next turn on", "before": "gpt-test", "after": "dearer"}
    for method, path in (("DELETE", ""), ("POST", "/wake"), ("POST", "/restart")):
        answer = await rest.ask(method, f"workers/rest-dry{path}", dryRun="All")
        assert answer.status in (200, 202), answer.body
        assert answer.body["plan"]
    apply = await rest.ask("POST", "apply", [declared("rest-dry", model="new"), declared("rest-dry-2")], dryRun="All")
    assert [one["action"] for one in apply.body["results"]] == ["changed", "created"]

    assert (await rest.ask("GET", "workers/rest-dry")).body == before
    problem(await rest.ask("GET", "workers/rest-dry-2"), 404, "rest-dry-2")


async def test_an_apply_of_a_dry_run_does_what_that_said_or_nothing(rest: Api) -> None:
    sent = [declared("rest-agreed")]
    digest = (await rest.ask("POST", "apply", sent, dryRun="All")).body["planDigest"]
    made = await rest.ask("POST", "workers", declared("rest-agreed", **WORKER, soul="first"))
    assert made.status == 201
    problem(await rest.ask("POST", "apply", sent, planDigest=digest), 409, "something has changed meanwhile")
    assert (await rest.ask("GET", "workers/rest-agreed")).body["spec"]["soul"] == "first"

    digest = (await rest.ask("POST", "apply", sent, dryRun="All")).body["planDigest"]
    done = await rest.ask("POST", "apply", sent, planDigest=digest)
    assert [one["action"] for one in done.body["results"]] == ["changed"]


async def test_who_writes_on_what_is_no_more_is_told_so(rest: Api) -> None:
    await rest.ask("POST", "workers", declared("rest-stale"))
    read = await ready(rest, "workers/rest-stale", settled)
    version = read["metadata"]["resourceVersion"]
    assert (await rest.ask("PATCH", "workers/rest-stale", {"spec": {"soul": "a"}})).status == 200

    body = declared("rest-stale") | {"metadata": {"name": "rest-stale", "resourceVersion": version}}
    problem(await rest.ask("PUT", "workers/rest-stale", body), 409, "has changed since you read it")
    for method, path, sent in (
        ("PUT", "workers/rest-stale", declared("rest-stale")),
        ("PATCH", "workers/rest-stale", {"spec": {"soul": "b"}}),
        ("DELETE", "workers/rest-stale", None),
        ("POST", "workers/rest-stale/sleep", None),
    ):
        answer = await rest.ask(method, path, sent, headers={"If-Match": f'"{version}"'})
        problem(answer, 409, "has changed since you read it")

    now = (await ready(rest, "workers/rest-stale", settled))["metadata"]["resourceVersion"]
    body["metadata"]["resourceVersion"] = now
    assert (await rest.ask("PUT", "workers/rest-stale", body)).status == 200


async def test_lists_are_paged_and_selected(rest: Api) -> None:
    for name in ("page-a", "page-b", "page-c"):
        await rest.ask("POST", "workers", declared(name) | {"metadata": {"name": name, "labels": {"set": "pages"}}})
    await rest.ask("PATCH", "workers/page-c", {"metadata": {"labels": {"odd": "yes"}}})

    names, more = [], ""
    while True:
        page = (await rest.ask("GET", f"workers?continue={more}", labelSelector="set=pages", limit="2")).body
        names.append([item["metadata"]["name"] for item in page["items"]])
        more = page["metadata"].get("continue", "")
        if not more:
            break
        assert page["metadata"]["remainingItemCount"] == 1
    assert names == [["page-a", "page-b"], ["page-c"]]

    async def selected(labelSelector: str = "", fieldSelector: str = "") -> list[str]:  # noqa: N803
        answer = await rest.ask("GET", "workers", labelSelector=labelSelector, fieldSelector=fieldSelector)
        found = answer.body["items"]
        return [item["metadata"]["name"] for item in found if item["metadata"]["name"].startswith("page-")]

    assert await selected(labelSelector="set=pages,odd!=yes") == ["page-a", "page-b"]
    assert await selected(labelSelector="odd") == ["page-c"]
    await ready(rest, "workers/page-a", settled)
    assert "page-a" in await selected(fieldSelector="status.phase=Stopped")
    assert await selected(fieldSelector="status.phase=Running") == []
    problem(await rest.ask("GET", "workers", fieldSelector="spec.model=x"), 400, "status.phase")
    problem(await rest.ask("GET", "workers", limit="0"), 400, "1 to 500")
    problem(await rest.ask("GET", "workers", labelSelecter="x"), 400, "Did you mean")


async def test_a_watch_sees_what_comes_changes_and_goes(rest: Api) -> None:
    start = (await rest.ask("GET", "workers")).version
    async with (
        rest.follow("watch", kind="workers", resourceVersion=start) as every,
        rest.follow("workers", watch="true", labelSelector="mood=good") as good,
    ):
        await rest.ask("POST", "workers", declared("seen") | {"metadata": {"name": "seen", "labels": {"mood": "good"}}})
        await every.until(lambda: every.of("ADDED", "seen"), "ADDED")
        await good.until(lambda: good.of("ADDED", "seen"), "ADDED")
        await every.until(lambda: any(map(settled, every.of("MODIFIED", "seen"))), "its status")
        await rest.ask("PATCH", "workers/seen", {"metadata": {"labels": {"mood": "bad"}}})
        await good.until(lambda: good.of("DELETED", "seen"), "that it is none of those any more")
        assert not every.of("DELETED", "seen")
        await rest.ask("DELETE", "workers/seen")
        await every.until(lambda: every.of("DELETED", "seen"), "DELETED")

    versions = [int(data["object"]["metadata"]["resourceVersion"]) for _, data in every.events]
    assert versions == sorted(versions)
    async with rest.follow("watch", kind="workers", resourceVersion=start) as again:
        await rest.ask("POST", "workers", declared("seen-later"))
        await again.until(lambda: again.of("ADDED", "seen-later"), "what came later")
        assert not again.of("ADDED", "seen")  # it came and went in between
    problem(await rest.ask("GET", "watch", resourceVersion="99999999"), 410, "List again")


async def test_a_team_and_its_parts(rest: Api) -> None:
    made = await rest.ask("POST", "teams", team("rest-team", "rest-ben"))
    assert made.status == 201, made.body
    await ready(rest, "teams/rest-team", lambda item: item["metadata"]["generation"] == 1)
    part = await ready(rest, "workers/rest-ben", settled)
    owner = part["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Team", "rest-team", made.body["metadata"]["uid"])
    listed = (await rest.ask("GET", "workers", team="rest-team")).body["items"]
    assert [item["metadata"]["name"] for item in listed] == ["rest-ben", "rest-team-lead"]

    for method, sent in (("PUT", declared("rest-ben")), ("PATCH", {"spec": {"soul": "x"}}), ("DELETE", None)):
        answer = await rest.ask(method, "workers/rest-ben", sent)
        problem(answer, 409, "`worker/rest-ben` is part of `team/rest-team`")

    slept = await rest.ask("POST", "workers/rest-ben/sleep")
    assert (slept.status, slept.body["kind"], slept.body["spec"]["state"]) == (200, "Worker", "Sleeping")
    declaration = (await rest.ask("GET", "teams/rest-team")).body["spec"]
    assert (declaration["workers"][0]["state"], declaration["leader"]["state"]) == ("Sleeping", "Stopped")
    lead = await rest.ask("POST", "workers/rest-team-lead/wake", dryRun="All")
    assert ("state" in lead.body["spec"], lead.body["plan"][0]["name"]) == (False, "rest-team")

    plan = await rest.ask("PUT", "teams/rest-team", team("rest-team", "rest-carla"), dryRun="All")
    assert {(step["name"], step["action"]) for step in plan.body["plan"]} == {
        ("rest-team", "change"),
        ("rest-carla", "create"),
        ("rest-ben", "delete"),
    }
    patched = await rest.ask("PATCH", "teams/rest-team", {"spec": {"description": "tested"}})
    assert patched.body["spec"]["description"] == "tested"
    assert (await rest.ask("DELETE", "teams/rest-team")).status == 202
    await gone(rest, "workers/rest-ben")


async def test_agents_are_woken_put_to_sleep_and_made_anew(stack: Stack, rest: Api) -> None:
    await rest.ask("POST", "workers", declared("rest-states"))
    await ready(rest, "workers/rest-states", settled)
    woken = await rest.ask("POST", "workers/rest-states/wake")
    assert "state" not in woken.body["spec"]
    running = await ready(
        rest, "workers/rest-states", lambda item: settled(item) and item["status"]["phase"] == "Running"
    )

    assert (await rest.ask("POST", "workers/rest-states/restart")).status == 202
    container = running["status"]["container"]
    await ready(
        rest,
        "workers/rest-states",
        lambda item: settled(item) and item["status"]["container"] not in ("", container),
    )
    log = await rest.ask("GET", "workers/rest-states/logs", lines="5")
    assert log.headers["Content-Type"] == "text/plain; charset=utf-8"
    with (stack.data_dir / "sandboxes" / "rest-states" / "log").open("a") as written:  # its process's stdout
        written.write("before\n")
        written.flush()
        async with rest.follow("workers/rest-states/logs", follow="true") as seen:
            await seen.until(lambda: ("line", {"line": "before"}) in seen.events, "the log as it is")
            written.write("after\nafter\n")
            written.flush()
            await seen.until(lambda: seen.events.count(("line", {"line": "after"})) == 2, "what is written then")
    assert (await rest.ask("GET", "workers/rest-states/logs", lines="2")).body == "after\nafter\n"

    await rest.ask("POST", "workers/rest-states/sleep")
    await ready(rest, "workers/rest-states", lambda item: item["status"]["phase"] == "Sleeping")
    assert (await rest.ask("DELETE", "workers/rest-states", files="delete")).status == 202


async def test_files_are_somebodys_work(stack: Stack, rest: Api) -> None:
    room = await stack.worker("rest-files")
    stack.provider.when("keep this", ToolCall("write_file", {"path": "notes.md", "content": "milk"}), Say("kept"))
    await stack.op.answer_to(await stack.ask(room, "rest-files", "keep this"), "kept")

    found = problem(await rest.ask("DELETE", "workers/rest-files"), 409, "1 file")
    assert "files=keep" in found["problems"][0]["fix"]
    assert "deletionTimestamp" not in (await rest.ask("GET", "workers/rest-files")).body["metadata"]
    assert (await rest.ask("DELETE", "workers/rest-files", files="delete")).status == 202
    await gone(rest, "workers/rest-files")


async def test_several_documents_are_applied_together_or_not_at_all(rest: Api) -> None:
    both = worker_yaml("rest-many-a", state="Stopped") + "---\n" + worker_yaml("rest-many-b", state="Stopped")
    done = await rest.ask("POST", "apply", both.encode(), headers=YAML)
    assert [(one["name"], one["action"]) for one in done.body["results"]] == [
        ("rest-many-a", "created"),
        ("rest-many-b", "created"),
    ]
    again = await rest.ask("POST", "apply", both.encode(), headers=YAML)
    assert {one["action"] for one in again.body["results"]} == {"unchanged"}

    in_set = [declared(name) | {"metadata": {"name": name, "labels": {"opsroom.io/set": "rest-many"}}} for name in "xy"]
    await rest.ask("POST", "apply", in_set)
    pruned = await rest.ask("POST", "apply", in_set[:1], prune="true", dryRun="All")
    assert [(one["name"], one["action"]) for one in pruned.body["results"]] == [("x", "unchanged"), ("y", "deleted")]
    assert [(one["name"], one["action"]) for one in pruned.body["plan"]] == [("x", "none"), ("y", "delete")]
    problem(await rest.ask("POST", "apply", [declared("rest-many-a")], prune="true"), 422, "not of one set")

    bad = both.replace("rest-many-a", "rest-many-c") + "---\n" + worker_yaml("rest-many-d", model='""')
    assert (await rest.ask("POST", "apply", bad.encode(), headers=YAML)).status == 422
    problem(await rest.ask("GET", "workers/rest-many-c"), 404, "rest-many-c")


async def test_a_command_runs_as_in_the_room(stack: Stack, rest: Api) -> None:
    await rest.ask("POST", "workers", declared("rest-told"))
    answer = (await rest.ask("POST", "command", {"words": ["get", "worker/rest-told", "-o", "yaml"]})).body
    assert answer["ok"]
    assert answer["text"] == (await stack.command("!get worker/rest-told -o yaml")).text
    wrong = (await rest.ask("POST", "command", {"words": ["gte"]})).body
    assert not wrong["ok"]
    assert "`!get`" in wrong["text"]
    text = worker_yaml("rest-told", state="Stopped", soul="told")
    done = (await rest.ask("POST", "command", {"words": ["apply"], "input": text, "source": "told.yaml"})).body
    assert done["ok"], done
    assert "changed `worker/rest-told`" in done["text"]
    assert "worker/rest-told (set" not in (await stack.command("!audit")).text


async def test_a_follower_goes_on_where_it_was_after_a_kill(stack: Stack, rest: Api) -> None:
    async with rest.follow("watch") as seen:
        await rest.ask("POST", "workers", declared("rest-killed"))
        await seen.until(lambda: any(map(settled, seen.of("MODIFIED", "rest-killed"))), "an object that is ready")
        await asyncio.gather(stack.kill_control_plane(), seen.until(lambda: seen.ended, "the end of the stream"))

    await rest.back()
    last = seen.events[-1][1]["object"]["metadata"]["resourceVersion"]
    async with rest.follow("watch", resourceVersion=last) as again:
        await rest.ask("PATCH", "workers/rest-killed", {"spec": {"soul": "after"}})
        await again.until(lambda: again.of("MODIFIED", "rest-killed"), "what came after")
        assert not again.of("ADDED", "rest-killed")
