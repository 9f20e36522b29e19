"""Users of a real SeaweedFS, kept through its filer and through IAM calls: made, changed, and gone without a trace."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http import HTTPStatus

import pytest
import urllib3

from appservice.errors import NotFound
from appservice.storage.access import policy
from appservice.storage.objects import MinioObjects
from appservice.storage.protocol import Access, AccessKey
from tests.parts.test_storage import ALICE, BOB, alice_in, iam, root
from tests.support.storage import BUCKET, World, both, until_denied


def written(world: World) -> dict[str, str]:
    """When each file of users was last written."""
    found: dict[str, str] = {}
    for folder in ("", "identities/", "policies/"):
        answer = urllib3.request(
            "GET", f"{world.storage.filer}/etc/iam/{folder}", headers={"accept": "application/json"}
        )
        entries = answer.json()["Entries"] or [] if answer.status == HTTPStatus.OK else []
        found |= {entry["FullPath"]: entry["Mtime"] for entry in entries}
    return found


@both
async def test_ensuring_a_second_time_writes_nothing(world: World) -> None:
    assert await world.users.ensure("alice", ALICE)
    before = written(world)
    assert f"/etc/iam/identities/{world.installation}.alice.json" in before
    assert not await world.users.ensure("alice", ALICE)
    assert written(world) == before


@both
async def test_a_changed_access_replaces_the_old_one(world: World) -> None:
    alice = await alice_in(world)
    await alice.put("teams/alpha/x", b"1")
    assert await world.users.ensure("alice", Access(write=("agents/alice/",)))
    await until_denied(alice, "teams/alpha/x")
    await alice.put("agents/alice/x", b"1")


@both
async def test_a_deleted_user_leaves_nothing_to_the_next_of_its_name(world: World) -> None:
    old = await alice_in(world)
    await old.put("teams/alpha/x", b"1")
    await world.users.delete("alice")
    assert await world.users.names() == {}
    await until_denied(old, "teams/alpha/x")
    assert root(world, "CreateUser", UserName=f"{world.installation}.alice").ok
    assert root(world, "ListUserPolicies", UserName=f"{world.installation}.alice").texts("member") == []
    assert root(world, "ListAccessKeys", UserName=f"{world.installation}.alice").texts("AccessKeyId") == []


@both
async def test_policies_that_a_foreign_deletion_left_behind_are_taken_away(world: World) -> None:
    user = f"{world.installation}.alice"
    await world.objects.put("agents/bob/x", b"secret")
    await world.users.ensure("alice", ALICE)
    everything = str(policy(BUCKET, BOB)).replace("'", '"')
    assert root(world, "PutUserPolicy", UserName=user, PolicyName="left", PolicyDocument=everything).ok
    assert root(world, "DeleteUser", UserName=user).ok
    assert root(world, "CreateUser", UserName=user).ok
    inherited = root(world, "ListUserPolicies", UserName=user).texts("member")
    assert "left" in inherited, "the server no longer has this trap"
    assert root(world, "DeleteUser", UserName=user).ok

    alice = await alice_in(world)

    assert "left" not in root(world, "ListUserPolicies", UserName=user).texts("member")
    await until_denied(alice, "agents/bob/x")


@both
async def test_a_key_works_the_moment_it_is_issued(world: World) -> None:
    await world.users.ensure("alice", ALICE)
    for _ in range(5):
        await world.login(await world.users.issue_key("alice")).put("agents/alice/x", b"1")


@both
async def test_both_keys_work_during_a_rotation_and_only_the_new_one_after(world: World) -> None:
    await world.users.ensure("alice", ALICE)
    first, second = [await world.users.issue_key("alice") for _ in range(2)]
    old, new = world.login(first), world.login(second)
    await old.put("agents/alice/x", b"1")
    await new.put("agents/alice/x", b"2")
    await world.users.retire_keys("alice", keep=[second.key_id])
    await until_denied(old, "agents/alice/x")
    assert await new.get("agents/alice/x") == b"2"
    assert await world.users.names() == {"alice": (second.key_id,)}


@both
async def test_a_key_that_an_agent_made_for_itself_is_retired_with_the_rest(world: World) -> None:
    await world.users.ensure("alice", ALICE)
    given = await world.users.issue_key("alice")
    made = iam(world, given, "CreateAccessKey")
    assert made.ok, "the server no longer has this trap"
    minted = world.login(AccessKey(key_id=made.text("AccessKeyId"), secret=made.text("SecretAccessKey")))
    await minted.put("agents/alice/x", b"1")
    fresh = await world.users.issue_key("alice")
    await world.users.retire_keys("alice", keep=[fresh.key_id])
    await until_denied(minted, "agents/alice/x")
    await world.login(fresh).put("agents/alice/x", b"2")


@both
async def test_an_agent_cannot_manage_users_or_its_own_policy(world: World) -> None:
    await world.users.ensure("alice", ALICE)
    key = await world.users.issue_key("alice")
    user = f"{world.installation}.alice"
    wide = str(policy(BUCKET, BOB)).replace("'", '"')
    assert iam(world, key, "CreateUser", UserName="mallory").status == 403
    assert iam(world, key, "ListUsers").status == 403
    assert iam(world, key, "PutUserPolicy", UserName=user, PolicyName="more", PolicyDocument=wide).status == 403


@both
async def test_deleting_what_is_not_there_is_fine(world: World) -> None:
    await world.users.delete("nobody")
    await world.users.retire_keys("nobody")


@both
async def test_a_key_for_a_user_that_is_not_there_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="nobody"):
        await world.users.issue_key("nobody")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as one:
        yield one


@both
async def test_only_the_users_of_this_installation_are_named(world: World, stack: AsyncExitStack) -> None:
    for installation in (f"{world.installation}{rest}" for rest in ("-b", ".b", "x")):
        other = world.storage.users("iam", installation)
        stack.push_async_callback(other.close)
        stack.push_async_callback(other.delete, "carol")
        await other.ensure("carol", BOB)
    await world.users.ensure("alice", ALICE)
    key = await world.users.issue_key("alice")
    assert await world.users.names() == {"alice": (key.key_id,)}


async def test_users_are_all_named_when_they_come_on_several_pages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appservice.storage.filer._PAGE", 2)
    for number in range(5):
        await world.users.ensure(f"a{number}", Access(write=(f"agents/a{number}/",)))
    assert set(await world.users.names()) == {f"a{number}" for number in range(5)}


@both
async def test_users_made_and_deleted_at_the_same_time_do_not_undo_each_other(world: World) -> None:
    async def live(number: int) -> MinioObjects:
        name = f"a{number}"
        await world.users.ensure(name, Access(write=(f"agents/{name}/",)))
        fresh = [await world.users.issue_key(name) for _ in range(2)]
        await world.users.retire_keys(name, keep=[fresh[1].key_id])
        await world.users.ensure(f"gone-{name}", BOB)
        await world.users.delete(f"gone-{name}")
        return world.login(fresh[1])

    logins = await asyncio.gather(*(live(number) for number in range(12)))
    for number, login in enumerate(logins):
        await login.put(f"agents/a{number}/x", b"1")
    found = await world.users.names()
    assert {name: len(keys) for name, keys in found.items()} == {f"a{number}": 1 for number in range(12)}
