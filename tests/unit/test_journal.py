"""A change as content of an event and back; what is wrong with content that others wrote; the way into a store."""

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appservice.errors import Invalid
from appservice.reconcile import journal_events
from appservice.reconcile.journal_events import LIMIT, Media
from appservice.resources import registry
from appservice.store import declaring, journal, objects
from appservice.store.changes import Key
from appservice.store.database import Connection, Database
from appservice.store.declaring import Author
from appservice.store.journal import Change

KEY = Key("Worker", "alice")
YAML = "apiVersion: hiclaw.io/v1beta1\nkind: Worker\nmetadata:\n  name: alice\nspec:\n  model: gpt-test\n"
LARGEST = 2**53 - 1


def change(text: str = YAML, **other: Any) -> Change:
    facts: dict[str, Any] = {
        "revision": 7,
        "action": "changed",
        "generation": 3,
        "author": "@op:hs",
        "cause": "$e",
        "at": 1.5,
    }
    return Change(key=KEY, text=text, **(facts | other))


texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
changes = st.builds(
    Change,
    key=st.builds(
        Key,
        st.sampled_from(sorted(registry.KINDS)),
        st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True),
    ),
    revision=st.integers(1, LARGEST),
    action=st.sampled_from(["created", "changed"]),
    generation=st.integers(1, LARGEST),
    text=texts,
    author=st.text(st.characters(codec="utf-8"), max_size=255),
    cause=st.text(st.characters(codec="utf-8"), max_size=255),
    at=st.integers(0, 2**45).map(lambda ms: ms / 1000),
)


@given(changes)
def test_a_change_comes_back_from_its_content_as_it_was(one: Change) -> None:
    said = json.loads(json.dumps(journal_events.content(one)))

    assert journal_events.read(str(one.key), said) == (one, None)


@given(changes)
def test_a_document_that_is_kept_as_a_file_comes_back_the_same(one: Change) -> None:
    said = json.loads(json.dumps(journal_events.content(one, "mxc://hs/abc")))
    found, media = journal_events.read(str(one.key), said)

    assert media is not None
    assert media.text(one.text.encode()) == one.text
    assert found.text == ""
    assert journal_events.mark(said) == journal_events.mark(journal_events.content(one))


def test_a_deletion_keeps_who_why_and_which_and_declares_nothing() -> None:
    said = journal_events.content(change("", action="deleted"))

    assert not journal_events.is_live(said)
    assert (said["author"], said["cause"], said["revision"]) == ("@op:hs", "$e", 7)
    assert journal_events.read("worker/alice", said) == (change("", action="deleted"), None)


def test_numbers_are_whole_because_matrix_has_no_others() -> None:
    said = journal_events.content(change(at=1700000000.123456))

    assert {type(value) for value in said.values()} == {int, str}
    assert said["at"] == 1700000000123


@pytest.mark.parametrize("letter", ["x", "ä", "\n", '"'])
def test_what_fits_is_counted_in_bytes_of_the_whole_content(letter: str) -> None:
    def size(count: int) -> int:
        said = journal_events.content(change(letter * count))
        return len(json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode())

    step = size(2) - size(1)
    most = (LIMIT - size(0) - len(',"document":""')) // step

    assert journal_events.fits(change(letter * most))
    assert not journal_events.fits(change(letter * (most + 1)))
    assert size(most) <= LIMIT < size(most + 1)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"version": 2}, "`version` is not 1"),
        ({"version": True}, "`version` is not 1"),
        ({"kind": "Team"}, "not those of the state key"),
        ({"name": "bob"}, "not those of the state key"),
        ({"revision": 0}, "`revision` is no whole number"),
        ({"revision": 1.5}, "`revision` is no whole number"),
        ({"revision": 2**53}, "`revision` is no whole number"),
        ({"generation": "3"}, "`generation` is no whole number"),
        ({"at": -1}, "`at` is no whole number"),
        ({"author": 7}, "`author` is no text"),
        ({"cause": "x" * 256}, "`cause` is no text"),
        ({"document": ["a"]}, "`document` is no text"),
        ({"document": "  "}, "`document` is no text"),
        ({"action": "deleted"}, "a deletion has no document"),
        ({"document_url": "mxc://hs/a", "sha256": "0" * 64}, "both"),
    ],
)
def test_content_that_is_not_ours_is_refused_with_a_sentence(other: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        journal_events.read("worker/alice", journal_events.content(change()) | other)


@pytest.mark.parametrize(
    "said",
    [
        {"document_url": "https://elsewhere/a", "sha256": "0" * 64},
        {"document_url": "mxc://hs/../a", "sha256": "0" * 64},
        {"document_url": 1, "sha256": "0" * 64},
        {"document_url": "mxc://hs/a"},
        {"document_url": "mxc://hs/a", "sha256": "zz"},
        {"document": 1},
        {"version": 9, "document": YAML},
        {"note": "nothing"},
    ],
)
def test_a_wish_that_cannot_be_read_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        journal_events.wish(said)


def test_a_wish_is_a_document_a_file_or_a_deletion() -> None:
    assert journal_events.wish({"document": YAML}) == YAML
    assert journal_events.wish({"document_url": "mxc://hs/a", "sha256": "0" * 64}) == Media(
        url="mxc://hs/a", sha256="0" * 64
    )
    assert journal_events.wish({}) is None
    assert journal_events.wish(journal_events.content(change("", action="deleted"))) is None


@pytest.mark.parametrize("key", ["", "alice", "worker/", "Worker/alice", "workers/alice", "worker/a/b", "worker/Alice"])
def test_a_state_key_that_names_no_object_is_refused(key: str) -> None:
    with pytest.raises(Invalid, match="names no object"):
        journal_events.key_of(key)


def test_a_key_holds_one_document_and_it_is_its_own() -> None:
    [alice] = registry.parse(YAML.encode(), source="a")
    [bob] = registry.parse(YAML.replace("alice", "bob").encode(), source="b")

    assert journal_events.only(KEY, [alice]) is alice
    with pytest.raises(Invalid, match="declares `worker/bob`"):
        journal_events.only(KEY, [bob])
    with pytest.raises(Invalid, match="2 documents"):
        journal_events.only(KEY, [alice, bob])


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"other", "not the one"), (b"\xff\xfe", "not UTF-8"), (b"a" * (2**20 + 1), "larger than 1 MiB")],
)
def test_a_file_that_is_not_the_one_is_refused(data: bytes, words: str) -> None:
    total = sha256(b"x" if words == "not the one" else data).hexdigest()
    with pytest.raises(Invalid, match=words):
        Media(url="mxc://hs/a", sha256=total).text(data)


# -- the outbox ------------------------------------------------------------------------------------------------------


TEAM = """\
apiVersion: hiclaw.io/v1beta1
kind: Team
metadata:
  name: dev
spec:
  leader:
    name: lena
    model: m
"""


def nobody(_word: str) -> bool:
    return False


async def declare(store: Database, text: str, cause: str = "$1") -> None:
    documents = registry.parse(text.encode(), source="test")
    await store.write(
        lambda db: declaring.declare(db, documents, Author(user="@op:hs", cause=cause, now=1.0), is_ours=nobody)
    )


async def test_revisions_wait_in_order_until_they_are_published_and_parts_never_do(store: Database) -> None:
    await declare(store, YAML)
    await declare(store, TEAM)
    await declare(store, YAML.replace("gpt-test", "other"))

    waiting = await journal.waiting(store)
    assert [(str(one.key), one.action) for one in waiting] == [
        ("worker/alice", "created"),
        ("team/dev", "created"),
        ("worker/alice", "changed"),
    ]
    assert [one.revision for one in await journal.waiting(store, limit=2)] == [one.revision for one in waiting[:2]]

    await store.write(lambda db: journal.published(db, waiting[1].revision))
    assert await journal.waiting(store) == waiting[2:]
    assert await journal.latest(store) == waiting[1:]
    assert await journal.latest_of(store, KEY) == waiting[2]
    assert await journal.latest_of(store, Key("Worker", "lena")) is None


async def test_a_rebuilt_object_has_the_numbers_it_had_and_new_ones_come_after(store: Database) -> None:
    async def rebuild(db: Connection) -> None:
        await journal.begin(db, 70)
        await journal.remember(db, [change("", action="deleted", revision=70)])
        for text, revision in ((YAML, 40), (TEAM, 12)):
            [document] = registry.parse(text.encode(), source="test")
            await declaring.declare(db, [document], Author(user="@op:hs", cause="$x", now=1.0), is_ours=nobody)
            key = Key(document.kind, document.name)
            one = Change(
                key=key, revision=revision, action="changed", generation=9, text=text, author="", cause="", at=0.0
            )
            await journal.number(db, one)

    await store.write(rebuild)

    found = {str(one.key): (one.revision, one.generation, one.author) for one in await journal.latest(store)}
    assert found == {"team/dev": (12, 9, "@op:hs"), "worker/alice": (70, 3, "@op:hs")}
    assert {(s.name, s.generation, s.owner) for s in await objects.every(store)} == {
        ("alice", 9, ""),
        ("dev", 9, ""),
        ("lena", 1, "team/dev"),
    }
    await declare(store, YAML.replace("gpt-test", "other"))
    newest = await journal.latest_of(store, KEY)
    assert newest is not None
    assert newest.revision > 70
