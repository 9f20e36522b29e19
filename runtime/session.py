"""What the agent remembers of one conversation: a bounded file in its workspace, so that it outlives the sandbox."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)

MAX_TURNS = 30
MAX_BYTES = 192 * 1024


def file_of(root: Path, context: str) -> Path:
    return root / ".opsroom" / "sessions" / f"{hashlib.sha256(context.encode()).hexdigest()[:32]}.json"


def load(root: Path, context: str) -> list[ModelMessage]:
    """The messages so far; none when the file is missing or not readable any more (another version wrote it)."""
    try:
        return ModelMessagesTypeAdapter.validate_json(file_of(root, context).read_bytes())
    except (OSError, ValidationError):
        return []


def save(root: Path, context: str, messages: Sequence[ModelMessage]) -> None:
    """Write the bounded history in one step."""
    file = file_of(root, context)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".part-{file.name}")
    part.write_bytes(bounded(messages))
    os.replace(part, file)


def bounded(messages: Sequence[ModelMessage]) -> bytes:
    """The newest turns that fit, as JSON. Cut only before a question, never between a tool call and its result; a
    single turn that is too large keeps its question and its last answer."""
    turns = _turns(messages)[-MAX_TURNS:]
    while turns:
        data = ModelMessagesTypeAdapter.dump_json([message for turn in turns for message in turn])
        if len(data) <= MAX_BYTES:
            return data
        turns = turns[1:] if len(turns) > 1 else _shortened(turns[0])
    return b"[]"


def exchange(question: str, answer: str) -> list[ModelMessage]:
    """A turn as plain question and answer."""
    return [
        ModelRequest(parts=[UserPromptPart(content=question)]),
        ModelResponse(parts=[TextPart(content=answer)]),
    ]


def _turns(messages: Sequence[ModelMessage]) -> list[list[ModelMessage]]:
    turns: list[list[ModelMessage]] = []
    for message in messages:
        if _question(message):
            turns.append([])
        if turns:
            turns[-1].append(_without_instructions(message))
    return turns


def _without_instructions(message: ModelMessage) -> ModelMessage:
    """Instructions are made anew for each turn; kept with each message they would fill the file."""
    return replace(message, instructions=None) if isinstance(message, ModelRequest) else message


def _question(message: ModelMessage) -> str:
    parts = message.parts if isinstance(message, ModelRequest) else []
    return "".join(part.content for part in parts if isinstance(part, UserPromptPart) and isinstance(part.content, str))


def _shortened(turn: list[ModelMessage]) -> list[list[ModelMessage]]:
    last = turn[-1].parts if isinstance(turn[-1], ModelResponse) else []
    answer = "".join(part.content for part in last if isinstance(part, TextPart))
    short = exchange(_question(turn[0])[: MAX_BYTES // 8], answer[: MAX_BYTES // 8])
    return [] if len(turn) == 2 and turn == short else [short]
