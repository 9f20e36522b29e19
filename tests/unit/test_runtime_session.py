"""What the native agent remembers stays small and whole."""

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from runtime import session
from runtime.prompt import front_matter


def turn(number: int, tools: int, size: int) -> list[ModelMessage]:
    messages: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart(content=f"question {number}")], instructions="x" * 1000)
    ]
    for call in range(tools):
        key = f"{number}-{call}"
        messages.append(ModelResponse(parts=[ToolCallPart(tool_name="look", args={}, tool_call_id=key)]))
        messages.append(ModelRequest(parts=[ToolReturnPart(tool_name="look", content="y" * size, tool_call_id=key)]))
    return [*messages, ModelResponse(parts=[TextPart(content=f"answer {number}")])]


def calls_and_results(messages: list[ModelMessage]) -> tuple[list[str], list[str]]:
    parts = [part for message in messages for part in message.parts]
    return (
        [part.tool_call_id for part in parts if isinstance(part, ToolCallPart)],
        [part.tool_call_id for part in parts if isinstance(part, ToolReturnPart)],
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([10, 5_000, 90_000])), min_size=1, max_size=45))
def test_a_bounded_history_is_small_and_never_parts_a_call_from_its_result(shape: list[tuple[int, int]]) -> None:
    messages = [message for n, (tools, size) in enumerate(shape) for message in turn(n, tools, size)]
    data = session.bounded(messages)
    kept = ModelMessagesTypeAdapter.validate_json(data)
    calls, results = calls_and_results(kept)
    assert len(data) <= session.MAX_BYTES
    assert calls == results
    assert isinstance(kept[0].parts[0], UserPromptPart)
    assert kept[-1].parts == [TextPart(content=f"answer {len(shape) - 1}")]
    assert b"xxxx" not in data


def test_one_turn_that_is_too_large_keeps_its_question_and_its_answer() -> None:
    kept = ModelMessagesTypeAdapter.validate_json(session.bounded(turn(1, 4, 90_000)))
    assert [part.content for message in kept for part in message.parts] == ["question 1", "answer 1"]  # type: ignore[union-attr]


def test_front_matter_is_read_with_folded_values() -> None:
    text = "---\nname: 'pdf'\ndescription: >\n  Reads PDF files.\n  And writes them.\n---\n# Body: no"
    assert front_matter(text) == {"name": "pdf", "description": "Reads PDF files. And writes them."}
    assert front_matter("# No front matter") == {}
