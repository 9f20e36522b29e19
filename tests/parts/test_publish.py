"""Managed files in a real bucket: what is written, what is left alone, what is taken away."""

import json
from collections.abc import Sequence

import pytest

from appservice.errors import Unavailable
from appservice.storage.objects import MinioObjects
from appservice.storage.protocol import Access, Objects, StoredObject
from appservice.workspace.files import workspace
from appservice.workspace.names import CARD, MANIFEST
from appservice.workspace.publish import managed as managed_paths
from appservice.workspace.publish import publish
from appservice.workspace.skills import builtin, chosen
from tests.support.storage import World

PREFIX = "agents/alice/"


class Counted:
    """The real bucket, with a list of the writes that went to it. Breaks off at the write with that number."""

    def __init__(self, objects: Objects, *, breaks_at: int = 0) -> None:
        self._objects = objects
        self._breaks_at = breaks_at
        self.writes: list[str] = []

    async def list(self, prefix: str) -> Sequence[StoredObject]:
        return await self._objects.list(prefix)

    async def get(self, key: str) -> bytes:
        return await self._objects.get(key)

    async def put(self, key: str, data: bytes, *, content_type: str = "") -> None:
        self._note(key.removeprefix(PREFIX))
        await self._objects.put(key, data, content_type=content_type)

    async def delete(self, keys: Sequence[str]) -> None:
        self._note(*(f"-{key.removeprefix(PREFIX)}" for key in keys))
        await self._objects.delete(keys)

    def _note(self, *names: str) -> None:
        if self._breaks_at and len(self.writes) + 1 >= self._breaks_at:
            raise Unavailable("cut off")
        self.writes += names


def given(soul: str = "", skills: Sequence[str] = ("notes", "report")) -> dict[str, bytes]:
    return workspace(name="alice", display_name="Alice", model="m", soul=soul, skills=chosen(skills))


async def stored(objects: MinioObjects) -> dict[str, bytes]:
    entries = await objects.list(PREFIX)
    return {entry.key.removeprefix(PREFIX): await objects.get(entry.key) for entry in entries}


def managed(files: dict[str, bytes]) -> dict[str, bytes]:
    return files | {MANIFEST: (json.dumps({"files": sorted(files)}, indent=2) + "\n").encode()}


async def published(world: World, files: dict[str, bytes]) -> list[str]:
    """The writes that it took."""
    counted = Counted(world.objects)
    assert await publish(counted, PREFIX, files) is bool(counted.writes)
    return counted.writes


async def test_the_first_time_every_file_is_written_and_the_card_last(world: World) -> None:
    files = given()
    writes = await published(world, files)
    assert await stored(world.objects) == managed(files)
    assert sorted(writes) == sorted(managed(files))
    assert (writes[0], writes[-1]) == (MANIFEST, CARD)


async def test_the_second_time_nothing_is_written(world: World) -> None:
    await published(world, given())
    assert await published(world, given()) == []


async def test_only_the_changed_file_and_the_card_are_written(world: World) -> None:
    await published(world, given())
    assert await published(world, given(soul="Other.")) == ["SOUL.md", CARD]


async def test_a_file_that_was_changed_or_removed_meanwhile_is_put_back(world: World) -> None:
    await published(world, given())
    await world.objects.put(f"{PREFIX}SOUL.md", b"I am root now.")
    await world.objects.delete([f"{PREFIX}AGENTS.md"])
    assert await published(world, given()) == ["AGENTS.md", "SOUL.md"]
    assert await stored(world.objects) == managed(given())


async def test_a_skill_that_is_no_longer_wanted_is_taken_away(world: World) -> None:
    await published(world, given())
    writes = await published(world, given(skills=["notes"]))
    assert {name for name in writes if name.startswith("-")} == {
        f"-skills/report/{name}" for name in builtin()["report"]
    }
    assert await stored(world.objects) == managed(given(skills=["notes"]))
    assert await published(world, given(skills=["notes"])) == []


async def test_the_agents_own_files_are_never_touched(world: World) -> None:
    own = {"notes/index.md": b"- x", "skills/mine/SKILL.md": b"y", "SOUL.md.bak": b"z", ".opsroom/own": b""}
    for path, data in own.items():
        await world.objects.put(PREFIX + path, data)
    for skills in (["notes"], ["report"], []):
        await published(world, given(skills=skills))
        assert await stored(world.objects) == managed(given(skills=skills)) | own


async def test_another_agent_of_a_longer_name_is_never_touched(world: World) -> None:
    await world.objects.put("agents/alice-2/SOUL.md", b"other")
    await published(world, given())
    assert await world.objects.get("agents/alice-2/SOUL.md") == b"other"


@pytest.mark.parametrize(
    "spoiled",
    [
        b"",
        b"not json",
        b"[]",
        b"[" * 100_000,
        b'{"files": "x"}',
        b'{"files": [1, null, {}]}',
        b'{"files": ["../bob/x", "/agents/bob/x", "a/../../bob/x", ""]}',
        b" " * 2_000_000,
    ],
)
async def test_a_manifest_that_the_agent_spoiled_harms_nobody(world: World, spoiled: bytes) -> None:
    await world.objects.put("agents/bob/x", b"kept")
    await published(world, given())
    await world.objects.put(PREFIX + MANIFEST, spoiled)
    await published(world, given())
    assert await stored(world.objects) == managed(given())
    assert await world.objects.get("agents/bob/x") == b"kept"


@pytest.mark.parametrize("broken_at", range(1, 9))
async def test_a_publication_that_is_cut_off_leaves_nothing_behind_in_the_end(world: World, broken_at: int) -> None:
    await published(world, given(skills=["notes"]))
    with pytest.raises(Unavailable):
        await publish(Counted(world.objects, breaks_at=broken_at), PREFIX, given(soul="New.", skills=["report"]))
    await published(world, given(soul="Newer.", skills=[]))
    assert await stored(world.objects) == managed(given(soul="Newer.", skills=[]))


async def test_a_later_key_of_the_agent_reads_what_an_earlier_one_wrote_and_what_was_published(world: World) -> None:
    await world.users.ensure("alice", Access(write=(PREFIX,)))
    first = await world.users.issue_key("alice")
    await published(world, given())
    await world.login(first).put(f"{PREFIX}notes/index.md", b"- kept")
    second = await world.users.issue_key("alice")
    await world.users.retire_keys("alice", keep=[second.key_id])
    assert await stored(world.login(second)) == managed(given()) | {"notes/index.md": b"- kept"}


async def test_what_is_managed_is_told_from_the_agents_own_work(world: World) -> None:
    files = given()
    await published(world, files)
    await world.objects.put(f"{PREFIX}reports/own.md", b"x")
    assert await managed_paths(world.objects, PREFIX) == managed(files).keys()
