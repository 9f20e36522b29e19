"""A program at the REST API: asks, and follows what is pushed. Nothing sleeps."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import aiohttp
import pytest

from tests.support.stack import Stack

WAIT_S = 60.0
WORKER = {"model": "gpt-test", "state": "Stopped"}


@dataclass(slots=True, kw_only=True)
class Answered:
    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def version(self) -> str:
        return str(self.body["metadata"]["resourceVersion"])


@dataclass(slots=True, kw_only=True)
class Api:
    url: str
    token: str
    http: aiohttp.ClientSession

    async def ask(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, **query: str
    ) -> Answered:
        """A JSON body, or bytes with their type among the headers."""
        more = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode()) if body is not None else None
        if data is not None:
            more["Content-Type"] = "application/json"
        async with self.http.request(
            method, f"{self.url}/api/v1/{path}", data=data, params=query, headers=more | (headers or {})
        ) as answer:
            text = await answer.text()
            read = json.loads(text) if "json" in answer.content_type else text
            return Answered(status=answer.status, headers=answer.headers, body=read)

    async def back(self) -> None:
        """Wait until it answers after a restart; a client can only try."""
        async with asyncio.timeout(WAIT_S):
            while True:
                with suppress(aiohttp.ClientError):
                    if (await self.ask("GET", "version")).status == 200:
                        return
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def follow(self, path: str, **query: str) -> AsyncIterator["Followed"]:
        """Server-sent events for as long as the context lasts."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.get(f"{self.url}/api/v1/{path}", params=query, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            followed = Followed()
            task = asyncio.create_task(followed.read(answer))
            try:
                yield followed
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@dataclass(slots=True)
class Followed:
    events: list[tuple[str, Any]] = field(default_factory=list)
    ended: bool = False
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def read(self, answer: aiohttp.ClientResponse) -> None:
        event = ""
        with suppress(aiohttp.ClientError):
            async for raw in answer.content:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                if line.startswith("data: "):
                    async with self.news:
                        self.events.append((event, json.loads(line.removeprefix("data: "))))
                        self.news.notify_all()
        async with self.news:
            self.ended = True
            self.news.notify_all()

    def of(self, type_: str, name: str) -> list[Any]:
        """Objects of that name in events of that type."""
        found = [data["object"] for event, data in self.events if event == type_ and "object" in data]
        return [item for item in found if item["metadata"].get("name") == name]

    async def until(self, condition: Any, what: str) -> Any:
        try:
            async with asyncio.timeout(WAIT_S), self.news:
                while not (found := condition()):
                    await self.news.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"waited for {what}; last events: {str(self.events[-3:])[-2000:]}") from None


@asynccontextmanager
async def api(url: str, token: str) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http:
        yield Api(url=url, token=token, http=http)


@pytest.fixture
async def rest(stack: Stack) -> AsyncIterator[Api]:
    """The operator."""
    async with api(stack.info["api"], stack.op.token) as found:
        yield found


def declared(name: str, kind: str = "Worker", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"test": "api", "name": name}}
    return {"apiVersion": "hiclaw.io/v1beta1", "kind": kind, "metadata": metadata, "spec": spec or WORKER}


def problem(answer: Answered, status: int, words: str) -> dict[str, Any]:
    """That an answer is a problem document that says these words."""
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    found: dict[str, Any] = answer.body
    assert found.keys() == {"type", "title", "status", "detail", "instance", "problems"}
    assert found["status"] == status
    assert found["instance"].endswith(answer.headers["X-Request-Id"])
    assert all({"what"} <= one.keys() <= {"what", "where", "fix", "excerpt"} for one in found["problems"])
    assert words in found["detail"], found
    return found
