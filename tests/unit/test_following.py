"""What readers of the REST API see of changes."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from structlog.testing import capture_logs

from appservice.api import streaming
from appservice.store import versions
from appservice.store.changes import Key
from tests.support.api import Api
from tests.support.rest import Ours, opened, served


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Ours]:
    async with opened(tmp_path) as found:
        yield found


@pytest.fixture
async def rest(world: Ours) -> AsyncIterator[Api]:
    async with served(world) as found:
        yield found


def seen(events: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(event, data["object"]["metadata"].get("name", "")) for event, data in events]


async def test_who_watches_one_object_hears_of_no_other(world: Ours, rest: Api) -> None:
    await world.declare("a", "b")
    start = (await rest.ask("GET", "workers")).version
    async with rest.follow("workers", watch="true", fieldSelector="metadata.name=a", resourceVersion=start) as news:
        await world.become("b", "Running")
        await world.forget("b")
        await world.become("a", "Running")
        await news.until(lambda: news.of("MODIFIED", "a"), "a's change")
        assert seen(news.events) == [("MODIFIED", "a")]


async def test_what_never_fitted_a_selector_is_not_deleted_for_who_watches_by_it(world: Ours, rest: Api) -> None:
    await world.declare("a", "b")
    await world.become("a", "Running")
    async with rest.follow("workers", watch="true", fieldSelector="status.phase=Running") as news:
        await news.until(lambda: news.events[-1:] and news.events[-1][0] == "BOOKMARK", "the end of the list")
        await world.become("b", "Failed")
        await world.declare("c")
        await world.become("c", "Failed")
        await world.become("a", "Sleeping")
        await news.until(lambda: news.of("DELETED", "a"), "a's leaving")
        await world.become("a", "Running")
        await news.until(lambda: len(news.of("ADDED", "a")) == 2, "a's return")
        assert seen(news.events) == [("ADDED", "a"), ("BOOKMARK", ""), ("DELETED", "a"), ("ADDED", "a")]


async def test_who_goes_on_by_labels_hears_of_what_they_may_have_and_of_nothing_else(world: Ours, rest: Api) -> None:
    for name, label in (("a", "web"), ("b", "api"), ("c", "web")):
        await world.declare(name, labels=f"{{app: {label}}}")
    start = (await rest.ask("GET", "workers", labelSelector="app=web")).version
    await world.become("b", "Running")
    await world.forget("b")
    await world.become("a", "Running")
    await world.forget("a")
    await world.declare("c", labels="{app: api}")
    await world.become("c", "Running")
    async with rest.follow("workers", watch="true", labelSelector="app=web", resourceVersion=start) as news:
        await news.until(lambda: news.of("DELETED", "c"), "c's leaving")
    assert seen(news.events) == [("DELETED", "a"), ("DELETED", "c")]
    [a] = news.of("DELETED", "a")
    assert (a["metadata"]["labels"], a["spec"]["model"], a["status"]["phase"]) == (
        {"app": "web"},
        "gpt-test",
        "Running",
    )


async def test_who_hears_of_no_change_gets_a_bookmark_all_the_same(
    world: Ours, rest: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much else changes: a reader without a sign of life takes the connection for dead."""
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.3)
    await world.declare("a", "b")
    start = (await rest.ask("GET", "workers")).version
    async with rest.follow("workers", watch="true", fieldSelector="metadata.name=a", resourceVersion=start) as news:

        async def bustle() -> None:
            await world.become("b", "Running")
            while True:
                world.changes.publish(Key("Worker", "b"))
                await asyncio.sleep(0)

        bustling = asyncio.create_task(bustle())
        await news.until(lambda: len(news.events) >= 2, "two bookmarks")
        bustling.cancel()
        newest = str(await versions.newest(world.store))
    assert [event for event, _ in news.events[:2]] == ["BOOKMARK", "BOOKMARK"]
    assert news.events[1][1]["object"]["metadata"]["resourceVersion"] == newest


async def test_nobody_can_resume_from_within_the_first_list(world: Ours, rest: Api) -> None:
    """Objects come by name: from the version of one, an older one that comes later would be lost."""
    await world.declare("b", "a")
    newest = await versions.newest(world.store)
    async with ClientSession() as http, http.get(f"{rest.url}/api/v1/watch") as answer:
        heads: list[list[str]] = []
        while len(heads) < 3:
            block = (await answer.content.readuntil(b"\n\n")).decode()
            heads.append([line for line in block.splitlines() if line.startswith(("event: ", "id: "))])
    assert heads == [["event: ADDED"], ["event: ADDED"], ["event: BOOKMARK", f"id: {newest}"]]


async def test_an_id_stands_for_all_that_was_told_before(world: Ours, rest: Api) -> None:
    """The header that a browser sends when it comes back counts more than the address it began with."""
    await world.declare("a", "b")
    start = str(await versions.newest(world.store))
    await world.become("a", "Running")
    await world.become("b", "Running")
    query = {"resourceVersion": start}
    async with ClientSession() as http:
        async with http.get(f"{rest.url}/api/v1/watch", params=query) as answer:
            first = (await answer.content.readuntil(b"\n\n")).decode()
        id_ = first.splitlines()[1].removeprefix("id: ")
        assert ('"name": "a"' in first, f'"resourceVersion": "{id_}"' in first) == (True, True)
        await world.become("a", "Sleeping")
        async with http.get(f"{rest.url}/api/v1/watch", params=query, headers={"Last-Event-ID": id_}) as answer:
            then = [(await answer.content.readuntil(b"\n\n")).decode() for _ in range(2)]
    assert ['"name": "b"' in then[0], '"name": "a"' in then[1]] == [True, True]


async def test_content_is_never_older_than_its_version(world: Ours, rest: Api) -> None:
    """Whoever writes with the version they have read overwrites nothing that they have not seen."""
    await world.declare("a", soul="text 0")

    async def write() -> None:
        for number in range(1, 60):
            await world.declare("a", soul=f"text {number}")

    writing, found = asyncio.create_task(write()), dict[str, set[str]]()
    while not writing.done():
        answers = await asyncio.gather(*(rest.ask("GET", "workers/a") for _ in range(4)))
        for one in answers:
            found.setdefault(one.version, set()).add(one.body["spec"]["soul"])
    await writing
    assert len(found) > 1
    assert all(len(souls) == 1 for souls in found.values()), found


async def test_all_pages_of_a_list_have_the_version_of_the_first(world: Ours, rest: Api) -> None:
    await world.declare("a", "b", "c")
    first = await rest.ask("GET", "workers?limit=2")
    await world.declare("a", model="other")
    more = first.body["metadata"]["continue"]
    rest_of_it = await rest.ask("GET", f"workers?limit=2&continue={more}")
    assert [item["metadata"]["name"] for item in rest_of_it.body["items"]] == ["c"]
    assert rest_of_it.version == first.version
    async with rest.follow("workers", watch="true", resourceVersion=first.version) as news:
        await news.until(lambda: news.of("MODIFIED", "a"), "what changed between the pages")
    for wrong in ("", "Yg", "LTUvYg", "eC9i", "!"):
        told = await rest.ask("GET", f"workers?limit=2&continue={wrong}")
        assert told.status == (400 if wrong else 200)


async def test_a_long_log_is_followed_from_its_last_lines_on(world: Ours, rest: Api, tmp_path: Path) -> None:
    await world.declare("a")
    log = tmp_path / "a"
    log.write_text("".join(f"line {number}\n" for number in range(300)))
    async with rest.follow("workers/a/logs", follow="true", lines="2") as news:
        await news.until(lambda: len(news.events) == 2, "the last lines")
        with log.open("a") as written:
            written.write("the next\n")
        await news.until(lambda: any(data.get("line") == "the next" for _, data in news.events), "the next line")
    assert [data["line"] for _, data in news.events] == ["line 298", "line 299", "the next"]


async def test_an_error_that_ends_a_stream_names_the_request(world: Ours, rest: Api, tmp_path: Path) -> None:
    """As the header does, and the log, where its details are: a path would be that of every request like it."""
    await world.declare("a")
    (tmp_path / "a").write_text("first\n")
    with capture_logs() as logged:
        async with rest.http.get(f"{rest.url}/api/v1/workers/a/logs", params={"follow": "true"}) as answer:
            reference = answer.headers["X-Request-Id"]
            (tmp_path / "a").unlink()
            *_, last = (await answer.text()).strip().split("\n\n")
    event, data = last.splitlines()
    told = json.loads(data.removeprefix("data: "))
    assert (event, told["instance"]) == ("event: error", f"urn:opsroom:request:{reference}")
    assert f"reference {reference}" in told["problems"][0]["fix"]
    assert [one["reference"] for one in logged if one["event"] == "request broke"] == [reference]


async def test_commands_and_readers_are_counted_apart(world: Ours, rest: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "MOST_READERS", 1)
    async with ClientSession(headers={"Accept": "text/event-stream"}) as http, rest.follow("watch"):
        async with http.get(f"{rest.url}/api/v1/watch") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
        async with http.post(f"{rest.url}/api/v1/command", json={"words": ["status"]}) as answer:
            assert (answer.status, len(answer.headers["X-Request-Id"])) == (200, 16)
