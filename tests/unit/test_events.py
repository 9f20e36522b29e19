"""Reading raw events: who is mentioned, what is meant, and that nothing malformed gets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appservice.homeserver import events
from appservice.homeserver.transactions import wanted

ALICE, BOB, DORA = "@agent-alice:hs", "@agent-bob:hs", "@dora:hs"
MEMBERS = {ALICE: "alice (agent)", BOB: "bob (agent)", DORA: "Dora"}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"body": "x", "m.mentions": {"user_ids": [ALICE]}}, {ALICE}),
        ({"body": "@alice", "m.mentions": {"user_ids": [BOB]}}, {BOB}),
        ({"body": "x", "m.mentions": {"user_ids": ["@stranger:hs"]}}, set()),
        ({"body": "x", "m.mentions": {"user_ids": "no list"}}, set()),
        ({"body": "a", "formatted_body": f'<a href="https://matrix.to/#/{ALICE}">a</a>'}, {ALICE}),
        ({"body": "a", "formatted_body": '<a href="https://matrix.to/#/%40agent-alice%3Ahs">a</a>'}, {ALICE}),
        ({"body": "@alice hello"}, {ALICE}),
        ({"body": "hello @Alice."}, {ALICE}),
        ({"body": "@agent-alice and @bob"}, {ALICE, BOB}),
        ({"body": "@agent-alice:hs please"}, {ALICE}),
        ({"body": "@alice hello", "m.mentions": {}}, {ALICE}),
        ({"body": "mail alice@example.org or x@alice"}, set()),
        ({"body": "@alicesomething @alice-2"}, set()),
        ({"body": "> @alice said this\nI agree"}, set()),
        ({"body": "@alice quoted", "formatted_body": "<b>@alice</b> quoted", "m.mentions": {}}, set()),
        ({"body": {"not": "text"}}, set()),
        ({}, set()),
    ],
)
def test_a_mention_is_what_the_sender_meant(content: dict[str, object], found: set[str]) -> None:
    assert events.mentions(content, MEMBERS) == found


@given(content=st.dictionaries(st.sampled_from(["body", "m.mentions", "formatted_body", "m.relates_to"]), JSON))
def test_no_content_can_break_the_reader(content: dict[str, object]) -> None:
    raw = {"event_id": "$1", "room_id": "!r", "type": "m.room.message", "sender": DORA, "content": content}

    event = events.parse(raw)

    assert event is not None
    assert isinstance(event.body, str)
    assert "\0" not in event.body
    assert events.mentions(event.content, MEMBERS) <= MEMBERS.keys()
    assert all(isinstance(x, str) for x in (event.thread, event.replaces, event.replies_to, *event.reaction))


@given(raw=st.lists(JSON, max_size=5))
def test_what_is_no_event_is_dropped(raw: list[object]) -> None:
    assert wanted(raw) == []


def test_a_stop_sign_is_one_with_any_variation() -> None:
    def reaction(key: str) -> str:
        relation = {"rel_type": "m.annotation", "event_id": "$q", "key": key}
        raw = {"event_id": "$1", "room_id": "!r", "type": "m.reaction", "sender": DORA}
        event = events.parse(raw | {"content": {"m.relates_to": relation}})
        return event.reaction[1] if event else ""

    assert reaction("🛑\ufe0f") == reaction("🛑") == "🛑"
    assert reaction("👍🏽") == "👍"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("> <@a:hs> old words\n\nnew words", "new words"),
        ("> * <@a:hs> waves\n> and smiles\n\nnew words\n\nand more", "new words\n\nand more"),
        ("> the plan\n@one is that right?", "> the plan\n@one is that right?"),
        ("> the plan\n\nis that right?", "> the plan\n\nis that right?"),
        ("> <b>the plan</b>\n\nyes", "> <b>the plan</b>\n\nyes"),
    ],
)
def test_the_reply_fallback_is_not_part_of_what_was_said_and_a_quote_of_the_writers_own_is(
    body: str, said: str
) -> None:
    content = {"body": body, "m.relates_to": {"m.in_reply_to": {"event_id": "$1"}}}
    event = events.parse(
        {"event_id": "$2", "room_id": "!r", "type": "m.room.message", "sender": DORA, "content": content}
    )

    assert event is not None
    assert event.body == said


@pytest.mark.parametrize("ids", [[{}], [None, 1], [["@a:hs"]], "@a:hs", {"@a:hs": 1}, None])
def test_mentions_of_the_wrong_shape_mention_nobody(ids: object) -> None:
    content = {"body": "hi", "m.mentions": {"user_ids": ids}}
    assert events.mentions(content, {"@a:hs": "a"}) == frozenset()
