"""The number that every change of an object has."""

from dataclasses import replace
from functools import partial

import pytest

from appservice.store import objects, status, versions
from appservice.store.changes import Key
from appservice.store.database import Database
from appservice.store.objects import Declared
from appservice.store.status import Status

KEY = Key("Worker", "a")


async def test_every_change_of_an_object_or_its_status_has_a_number_of_its_own(store: Database) -> None:
    async def declare(name: str, document: dict[str, str], now: float = 1.0) -> None:
        wanted = Declared(kind="Worker", name=name, api_version="v", document=document, text="")
        await store.write(lambda db: objects.declare(db, wanted, author="@a", cause="$", now=now))

    other = Key("Worker", "b")
    await declare("a", {"x": "1"})
    await declare("b", {"x": "1"})
    first = await versions.every(store)
    await store.write(lambda db: status.put(db, KEY, Status(phase="Running")))
    after_status = await versions.of(store, KEY)
    await store.write(lambda db: status.put(db, KEY, Status(phase="Running")))
    assert (await versions.of(store, KEY), await versions.of(store, other)) == (after_status, first[other])
    await declare("a", {"x": "2"})

    assert first[KEY] < first[other] < after_status < await versions.of(store, KEY) == await versions.newest(store)
    assert [found.key for found in await versions.since(store, first[other])] == [KEY]


async def test_what_is_gone_can_be_told_until_it_is_swept(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "KEPT_GONE", 1)
    for name in ("a", "b", "c"):
        wanted = Declared(kind="Worker", name=name, api_version="v", document={}, text="")
        await store.write(partial(objects.declare, wanted=wanted, author="@a", cause="$", now=1.0))
    start = await versions.newest(store)
    for name in ("a", "b"):
        key = Key("Worker", name)
        await store.write(partial(objects.begin_delete, key=key, author="@a", cause="$", now=2.0))
        await store.write(partial(objects.forget, key=key))
    assert [(found.key.name, found.last is not None) for found in await versions.since(store, start)] == [
        ("a", True),
        ("b", True),
    ]
    assert await versions.of(store, KEY) == 0

    await store.write(versions.sweep)
    assert await versions.horizon(store) > start
    assert [found.key.name for found in await versions.since(store, start)] == ["b"]
    newest = await versions.newest(store)
    await store.write(partial(objects.declare, wanted=replace(wanted, name="a"), author="@a", cause="$", now=3.0))
    [again] = await versions.since(store, newest)
    assert (again.last, again.born) == (None, newest + 1)
