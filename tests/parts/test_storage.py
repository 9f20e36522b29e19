"""Objects of a real SeaweedFS: what an agent's key opens, and what it does not; and a storage that is away."""

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from minio.commonconfig import CopySource
from minio.error import S3Error

from appservice.errors import Denied, Invalid, NotFound, Unavailable
from appservice.resources.access import Permission
from appservice.storage import aws, seaweed
from appservice.storage.iam import IamUsers
from appservice.storage.objects import MinioObjects
from appservice.storage.protocol import Access, AccessKey, Grant
from appservice.storage.wire import Server, http_client
from tests.support.storage import BUCKET, REGION, Storage, World, both, running, until_denied, world_of

ALICE = Access(write=("agents/alice/", "teams/alpha/"), read=("shared/knowledge/",))
BOB = Access(write=("agents/bob/",))


async def alice_in(world: World, access: Access = ALICE) -> MinioObjects:
    await world.users.ensure("alice", access)
    return world.login(await world.users.issue_key("alice"))


def iam(world: World, key: AccessKey, action: str, **params: str) -> aws.Answer:
    """One IAM call by hand, past the driver."""
    client = http_client(repeatable=False)
    try:
        return aws.call(client, world.storage.server, key, action, **params)
    finally:
        client.clear()


def root(world: World, action: str, **params: str) -> aws.Answer:
    return iam(world, world.storage.prepared.root_key, action, **params)


# Objects


async def test_an_object_comes_back_as_it_was_put(world: World) -> None:
    for key, data in (("a/empty", b""), ("a/é ü+&?#.md", b"\x00\xff"), ("a/large", bytes(7_000_000))):
        await world.objects.put(key, data)
        assert await world.objects.get(key) == data


async def test_every_etag_is_the_md5_of_the_content(world: World) -> None:
    contents = {"a/small": b"x", "a/large": b"y" * 12_000_000}
    for key, data in contents.items():
        await world.objects.put(key, data)
    listed = {entry.key: (entry.etag, entry.size) for entry in await world.objects.list("a/")}
    assert listed == {key: (hashlib.md5(data).hexdigest(), len(data)) for key, data in contents.items()}


async def test_a_missing_object_is_not_found_and_can_be_deleted(world: World) -> None:
    with pytest.raises(NotFound, match="agents/x"):
        await world.objects.get("agents/x")
    await world.objects.delete(["agents/x"])


async def test_deleted_objects_are_gone_and_others_stay(world: World) -> None:
    for name in "abc":
        await world.objects.put(f"d/{name}", b"1")
    await world.objects.delete(["d/a", "d/c"])
    assert [entry.key for entry in await world.objects.list("d/")] == ["d/b"]


async def test_making_the_bucket_twice_is_fine(world: World) -> None:
    await world.objects.put("kept", b"1")
    await world.objects.ensure_bucket()
    assert await world.objects.get("kept") == b"1"


async def test_a_missing_bucket_is_named(world: World) -> None:
    elsewhere = MinioObjects(world.storage.server, "no-such-bucket")
    with pytest.raises(NotFound, match="no-such-bucket"):
        await elsewhere.list("x/")
    await elsewhere.close()


@pytest.mark.parametrize("key", ["", "a" * 1100])
async def test_a_key_that_storage_cannot_have_is_invalid(world: World, key: str) -> None:
    with pytest.raises(Invalid):
        await world.objects.put(key, b"")


async def test_many_calls_at_once_do_not_hold_the_loop(world: World) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    await asyncio.gather(*(world.objects.put(f"m/{number}", b"x") for number in range(40)))
    counting.cancel()
    assert turns > 40
    assert len(await world.objects.list("m/")) == 40


# What an agent's key opens


@both
async def test_an_agent_works_below_its_own_prefixes(world: World) -> None:
    alice = await alice_in(world)
    for prefix in ALICE.write:
        await alice.put(f"{prefix}x", b"mine")
        assert await alice.get(f"{prefix}x") == b"mine"
        assert [entry.key for entry in await alice.list(prefix)] == [f"{prefix}x"]
        await alice.delete([f"{prefix}x"])
        assert not await alice.list(prefix)


@both
async def test_an_agent_only_reads_what_is_shared(world: World) -> None:
    alice = await alice_in(world)
    await world.objects.put("shared/knowledge/x", b"known")
    assert await alice.get("shared/knowledge/x") == b"known"
    assert len(await alice.list("shared/knowledge/")) == 1
    with pytest.raises(Denied):
        await alice.put("shared/knowledge/x", b"changed")
    with pytest.raises(Denied):
        await alice.delete(["shared/knowledge/x"])
    assert await world.objects.get("shared/knowledge/x") == b"known"


def copied(source: str, target: str) -> Callable[[MinioObjects], Awaitable[object]]:
    async def copy(objects: MinioObjects) -> object:
        return await objects._threads.run(
            objects._client.copy_object, objects.bucket, target, CopySource(objects.bucket, source)
        )

    return copy


FORBIDDEN: dict[str, Callable[[MinioObjects], Awaitable[object]]] = {
    "list another's": lambda alice: alice.list("agents/bob/"),
    "list everything": lambda alice: alice.list(""),
    "list all agents": lambda alice: alice.list("agents/"),
    "list without the slash": lambda alice: alice.list("agents/alice"),
    "list a longer name": lambda alice: alice.list("agents/alice-2/"),
    "get another's": lambda alice: alice.get("agents/bob/x"),
    "get a longer name": lambda alice: alice.get("agents/alice-2/x"),
    "put another's": lambda alice: alice.put("agents/bob/x", b"changed"),
    "put at the top": lambda alice: alice.put("x", b"changed"),
    "delete another's": lambda alice: alice.delete(["agents/bob/x"]),
    "copy from another's": copied("agents/bob/x", "agents/alice/stolen"),
    "copy over another's": copied("agents/alice/x", "agents/bob/x"),
}


@both
@pytest.mark.parametrize("attempt", FORBIDDEN.values(), ids=FORBIDDEN.keys())
async def test_an_agent_cannot(world: World, attempt: Callable[[MinioObjects], Awaitable[object]]) -> None:
    alice = await alice_in(world)
    for key in ("agents/bob/x", "agents/alice-2/x", "agents/alice/x"):
        await world.objects.put(key, b"kept")
    with pytest.raises((Denied, S3Error), match="AccessDenied"):
        await attempt(alice)
    assert await world.objects.get("agents/bob/x") == b"kept"
    assert "agents/alice/stolen" not in {entry.key for entry in await world.objects.list("agents/alice/")}


GRANTED: dict[Permission, Callable[[MinioObjects, str], Awaitable[object]]] = {
    "read": lambda agent, folder: agent.get(f"{folder}x"),
    "list": lambda agent, folder: agent.list(folder),
    "write": lambda agent, folder: agent.put(f"{folder}x", bytes(12_000_000)),  # in several parts
    "delete": lambda agent, folder: agent.delete([f"{folder}x"]),
}


@both
@pytest.mark.parametrize("permission", GRANTED)
async def test_a_grant_opens_what_it_names_and_nothing_else(world: World, permission: Permission) -> None:
    grants = (Grant(prefix="reports/new/", permissions=frozenset({permission})),)
    agent = await alice_in(world, Access(write=("agents/alice/",), grants=grants))
    await world.objects.put("reports/x", b"kept")
    for attempted, attempt in GRANTED.items():
        await world.objects.put("reports/new/x", b"kept")
        if attempted == permission:
            await attempt(agent, "reports/new/")
        else:
            with pytest.raises(Denied):
                await attempt(agent, "reports/new/")
            assert await world.objects.get("reports/new/x") == b"kept"
        with pytest.raises(Denied):
            await attempt(agent, "reports/")
    await agent.put("agents/alice/x", b"mine")
    assert await world.objects.get("reports/x") == b"kept"


@both
async def test_a_grant_that_is_taken_back_is_gone(world: World) -> None:
    usual = Access(write=("agents/alice/",))
    agent = await alice_in(
        world, Access(write=usual.write, grants=(Grant(prefix="r/", permissions=frozenset({"read"})),))
    )
    await world.objects.put("r/x", b"1")
    assert await agent.get("r/x") == b"1"
    assert await world.users.ensure("alice", usual)
    await until_denied(agent, "r/x")


# When it does not work


def nowhere() -> Server:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    return Server(endpoint=f"http://127.0.0.1:{port}", region=REGION, key=AccessKey(key_id="k", secret="hush-hush"))


async def test_storage_that_is_away_is_said_in_a_sentence() -> None:
    server = nowhere()
    objects, users = MinioObjects(server, "bucket"), IamUsers(server, bucket="bucket", installation="i")
    calls: list[Awaitable[object]] = [
        objects.ensure_bucket(),
        objects.put("a", b""),
        objects.get("a"),
        objects.list("a/"),
        objects.delete(["a"]),
        users.ensure("a", BOB),
        users.issue_key("a"),
        users.retire_keys("a"),
        users.delete("a"),
        users.names(),
    ]
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(answer, Unavailable)
        assert f"{server.endpoint}: Storage does not answer. Check that it runs" in str(answer)
        assert "hush-hush" not in f"{answer!r}{answer}{answer.__cause__}"
    assert not await seaweed.ready(objects)
    health = await objects.healthy()
    assert (health.level, health.detail) == ("fail", "Storage does not answer.")
    assert health.fix
    await objects.close()
    await users.close()


async def test_a_wrong_key_is_refused_in_a_sentence_without_the_key(world: World) -> None:
    wrong = AccessKey(key_id=world.storage.prepared.root_key.key_id, secret="hush-hush")
    users = IamUsers(world.storage.server_as(wrong), bucket=BUCKET, installation="i")
    for call in (world.login(wrong).list("a/"), users.names(), seaweed.ready(world.login(wrong))):
        with pytest.raises(Denied, match=r"refuses .*storage\.access_key") as caught:
            await call
        assert "hush-hush" not in f"{caught.value!r}{caught.value.__cause__}"
    await users.close()


async def test_what_was_acknowledged_survives_a_kill_with_users_and_keys() -> None:
    async with running() as storage, world_of(storage) as world:
        alice = await alice_in(world)
        for number in range(20):
            await alice.put(f"agents/alice/{number}", str(number).encode())
        await storage.kill()
        with pytest.raises(Unavailable):
            await alice.get("agents/alice/0")
        await storage.start()
        assert len(await alice.list("agents/alice/")) == 20
        assert await alice.get("agents/alice/19") == b"19"
        assert not await world.users.ensure("alice", ALICE)
        with pytest.raises(Denied):
            await alice.list("agents/bob/")


# How it is started


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses, as the kernel writes them, and ports of the TCP sockets that the process listens on."""
    inodes = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                address, _, port = fields[1].partition(":")
                found.add((address, int(port, 16)))
    return found


def test_it_listens_on_its_eight_ports_of_the_loopback_address_only(storage: Storage) -> None:
    assert storage.process
    assert listening(storage.process.pid) == {("0100007F", port) for port in storage.prepared.ports.every}


def test_its_secret_is_in_no_command_line_and_no_log(storage: Storage) -> None:
    assert storage.process
    secret = storage.prepared.root_key.secret
    assert len(secret) == 40
    assert secret.encode() not in Path(f"/proc/{storage.process.pid}/cmdline").read_bytes()
    assert secret not in (storage.prepared.data.parent / "seaweed.log").read_text(errors="replace")
