"""What is sent: sizes, edits, fences, and that HTML of others is shown, never used."""

from hypothesis import given
from hypothesis import strategies as st

from appservice.conversations import answer
from appservice.homeserver import content
from appservice.store.turns import Turn

TURN = Turn(id="t", event_id="$q", agent="a", room_id="!r", thread="$q", sender="@s:hs", question="?", root="$q")


@given(st.text(alphabet=st.sampled_from("ab \n`é😀"), max_size=400), st.integers(min_value=40, max_value=120))
def test_a_split_text_is_whole_again(text: str, limit: int) -> None:
    pieces, left = [], text
    while left:
        head, left = content.split(left, limit)
        assert len(head.encode()) <= limit + 8
        pieces.append(head)
        assert len(pieces) <= len(text) + 1

    def words(found: str) -> str:
        return "".join(found.split()).replace("`", "")

    assert words("".join(pieces)) == words(text)


@given(st.text(max_size=60_000))
def test_every_event_of_an_answer_fits(text: str) -> None:
    shape = answer.shape(text)
    first = answer.compose(TURN, shape.first)

    events = [first, content.edit(first, "$e"), *(answer.compose(TURN, piece) for piece in shape.rest)]

    assert all(content.size(event) < 60_000 for event in events)


def test_html_in_an_answer_is_shown_and_not_used() -> None:
    body = content.message("<script>x</script> and **bold**")

    assert "<script>" not in body["formatted_body"]
    assert "<strong>bold</strong>" in body["formatted_body"]


def test_nobody_is_called_unless_somebody_is_named() -> None:
    assert content.message("@alice hello")["m.mentions"] == {}
    assert content.message("hi", mention=["@a:hs"])["m.mentions"] == {"user_ids": ["@a:hs"]}
    assert content.edit(content.message("hi", mention=["@a:hs"]), "$e")["m.mentions"] == {"user_ids": ["@a:hs"]}
    assert content.edit(content.message("hi"), "$e")["m.mentions"] == {}


def test_an_edit_shows_the_content_and_leaves_the_thread_alone() -> None:
    edited = content.edit(content.message("new", thread="$root"), "$old")

    assert edited["m.relates_to"] == {"rel_type": "m.replace", "event_id": "$old"}
    assert edited["m.new_content"]["body"] == "new"
    assert "m.relates_to" not in edited["m.new_content"]


def test_a_note_after_code_that_was_cut_off_is_no_code() -> None:
    assert content.html(content.closed("```python\nx = 1") + "\n\n*Stopped.*").endswith("<p><em>Stopped.</em></p>")
    assert content.closed("```\nx\n```") == "```\nx\n```"
