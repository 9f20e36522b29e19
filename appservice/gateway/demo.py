"""The offline demo model: what answers while no provider is configured. It says so in every answer.

OpenAI-shaped and deterministic. Asked for something long it streams for half a minute, so that stopping can be tried.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

MODEL = "demo"
_LABEL = "I am Opsroom's offline demo model, not a real one. "
_HOW = "To get real answers, stop and start again with a provider, for example `OPENAI_API_KEY=... make up`."
_WORD = re.compile(r"\S+\s*")
_COUNT_TO = re.compile(r"\bcount\b\D{0,40}?(\d{1,6})", re.IGNORECASE)
_LONG = re.compile(r"\b(long|story|novel|essay|poem)\b", re.IGNORECASE)
_MENTION = re.compile(r"^@[\w.:=/-]+[:,]?\s+")
_LARGEST_COUNT = 500
_QUOTED = 200
_PAUSE_S = 0.02
_LONG_PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class Answer:
    """What it says, and the pause before each word in a stream."""

    text: str
    pause_s: float = _PAUSE_S

    def words(self) -> list[str]:
        return _WORD.findall(self.text)


def routes() -> list[web.RouteDef]:
    return [web.get("/demo/v1/models", _models), web.post("/demo/v1/chat/completions", _chat)]


def answer(question: str) -> Answer:
    """What the demo model says to a question."""
    asked = _MENTION.sub("", question.strip())
    counting = _COUNT_TO.search(asked)
    if counting:
        numbers = " ".join(str(number) for number in range(1, min(int(counting[1]), _LARGEST_COUNT) + 1))
        return Answer(f"{_LABEL}I can count, slowly:\n\n{numbers}\n\n{_HOW}", _LONG_PAUSE_S)
    if _LONG.search(asked):
        return Answer(
            f"{_LABEL}Here is something long, told slowly so that you can stop it.\n\n{_story()}\n\n{_HOW}",
            _LONG_PAUSE_S,
        )
    if not asked:
        return Answer(f"{_LABEL}You said nothing that I can quote. {_HOW}")
    quoted = asked if len(asked) <= _QUOTED else asked[:_QUOTED] + "…"
    return Answer(f"{_LABEL}You said ({len(asked.split())} words): “{quoted}”. {_HOW}")


def _story() -> str:
    return " ".join(
        f"On day {day} the operator asked the agent for a report, and the agent wrote {day} lines."
        for day in range(1, 9)
    )


async def _models(_: web.Request) -> web.Response:
    entry = {"id": MODEL, "object": "model", "created": 0, "owned_by": "opsroom"}
    return web.json_response({"object": "list", "data": [entry]})


async def _chat(request: web.Request) -> web.StreamResponse:
    try:
        body = json.loads(await request.read())
        messages = [(str(item["role"]), _text(item.get("content"))) for item in body["messages"]]
    except (ValueError, TypeError, KeyError):
        error = {"error": {"message": "body must be JSON with messages", "type": "invalid_request_error"}}
        return web.json_response(error, status=400)
    question = next((text for role, text in reversed(messages) if role == "user"), "")
    said = answer(question)
    asked_tokens = sum(len(text.split()) for _, text in messages)
    if body.get("stream"):
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return await _stream(request, body.get("model", MODEL), said, asked_tokens, with_usage=with_usage)
    message = {"role": "assistant", "content": said.text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = _envelope(body.get("model", MODEL), "chat.completion", [choice])
    return web.json_response(whole | {"usage": _usage(asked_tokens, len(said.words()))})


async def _stream(
    request: web.Request, model: str, said: Answer, asked_tokens: int, *, with_usage: bool
) -> web.StreamResponse:
    out = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-store"})
    await out.prepare(request)
    for event in _events(model, said):
        await out.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await asyncio.sleep(said.pause_s)
    if with_usage:
        last = _envelope(model, "chat.completion.chunk", []) | {"usage": _usage(asked_tokens, len(said.words()))}
        await out.write(b"data: " + json.dumps(last).encode() + b"\n\n")
    await out.write(b"data: [DONE]\n\n")
    return out


def _events(model: str, said: Answer) -> Iterator[dict[str, Any]]:
    for word in said.words():
        delta = {"role": "assistant", "content": word}
        yield _envelope(model, "chat.completion.chunk", [{"index": 0, "delta": delta, "finish_reason": None}])
    yield _envelope(model, "chat.completion.chunk", [{"index": 0, "delta": {}, "finish_reason": "stop"}])


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def _envelope(model: str, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "chatcmpl-demo", "object": kind, "created": 0, "model": model, "choices": choices}


def _usage(asked: int, said: int) -> dict[str, int]:
    """One word counts as one token."""
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
