"""Files of an agent, signed by the agent, through the real gateway into a real SeaweedFS."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from appservice.storage.protocol import Access, AccessKey
from runtime.bucket import sign
from runtime.gateway import StorageKey
from tests.support.gateway import Answer, Bed, bed
from tests.support.storage import REGION, World

HOST = "127.0.0.1:8800"  # the forwarder in the sandbox
NAMES = ("plain.txt", "with space", "a+b", "50%", "percent%2Finside", "über/ß", "dots...txt", "~tilde'()*!", "a//b")


class Agent:
    """Signs as the native agent does."""

    def __init__(self, gateway: Bed, bucket: str, key: AccessKey) -> None:
        self._gateway = gateway
        self._bucket = bucket
        self._key = key

    async def ask(self, method: str, key: str | None, *, query: str = "", data: bytes = b"") -> Answer:
        target = f"/{self._bucket}" + ("" if key is None else f"/{quote(key, safe='/~')}")
        secret = StorageKey(
            access_key=self._key.key_id,
            secret_key=self._key.secret,
            bucket=self._bucket,
            prefix="",
            region=REGION,
            expires_at=0,
        )
        signed = sign(secret, method, HOST, target, query, data, datetime.now(UTC))
        headers = signed | {"x-opsroom-token": self._gateway.token("alice").text}
        return await self._gateway.ask(method, f"{target}?{query}".rstrip("?"), headers=headers, data=data or None)


@pytest.fixture
async def alice(world: World) -> AsyncIterator[Agent]:
    """An agent with a key for its own prefix."""
    await world.users.ensure("alice", Access(write=("agents/alice/",)))
    key = await world.users.issue_key("alice")
    async with bed(storage_endpoint=world.storage.prepared.ports.endpoint, bucket=world.bucket) as gateway:
        await gateway.apply()
        yield Agent(gateway, world.bucket, key)
    await world.users.delete("alice")


async def test_every_name_of_a_file_survives_the_signature(alice: Agent, world: World) -> None:
    for name in NAMES:
        data = name.encode() * 1000
        assert (await alice.ask("PUT", f"agents/alice/{name}", data=data)).status == 200, name
        answer = await alice.ask("GET", f"agents/alice/{name}")
        assert (answer.status, answer.body) == (200, data), name
    listing = await alice.ask("GET", None, query="list-type=2&prefix=agents%2Falice%2F")
    assert listing.body.count(b"<Key>") == len(NAMES)
    assert (await alice.ask("DELETE", "agents/alice/a+b")).status == 204
    assert "agents/alice/a+b" not in {entry.key for entry in await world.objects.list("agents/alice/")}


async def test_the_prefix_of_another_agent_is_denied(alice: Agent, world: World) -> None:
    await world.objects.put("agents/bob/secret", b"x")
    assert (await alice.ask("GET", "agents/bob/secret")).status == 403
    assert (await alice.ask("PUT", "agents/bob/secret", data=b"y")).status == 403
    for climbing in ("agents/alice/../bob/secret", "agents/alice/x/../../bob/secret"):
        assert (await alice.ask("GET", climbing)).status == 400
    assert await world.objects.get("agents/bob/secret") == b"x"


async def test_a_large_file_passes_both_ways(alice: Agent) -> None:
    data = bytes(range(256)) * (20 << 12)
    assert (await alice.ask("PUT", "agents/alice/large", data=data)).status == 200
    assert (await alice.ask("GET", "agents/alice/large")).body == data
