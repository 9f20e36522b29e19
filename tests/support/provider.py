"""A scripted model provider: the only stand-in in these tests, OpenAI-shaped, on a free port of 127.0.0.1.

    async with ScriptedProvider() as provider:                  # provider.base_url -> http://127.0.0.1:PORT/v1
        provider.when("weather", ToolCall("look", {"city": "Bern"}), Say("It rains."))
        provider.when("novel", Say(words=50, hold_after=10))    # 10 words, then it waits for provider.release()
        provider.when("broken", Fail(503), Say("Better now."))
        ...
        assert provider.calls[-1].headers["authorization"] == "Bearer sk-test"
        assert provider.tokens() == (prompt, completion)        # what it would charge

A rule fits when its text occurs in the last message of the user (any letter case); later rules win. The replies of a
rule are used one per call, in order; the last one repeats. Without a fitting rule the answer is `You said: ...`.
Each reply works streamed and whole. One word is one completion token and one event of the stream; each word of the
messages is one prompt token. `delay` is the pause in seconds before each word, `first` the one before the first.

Every call is recorded before it is answered. `ended` is `running`, `whole`, `failed` (by script) or `cut` (the
client went away); `words` counts the words sent so far. Waiting without sleeping: `await provider.until(condition)`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Say:
    """Text, or `words` numbered words. `hold_after`: stop after that many words until `release()`."""

    text: str = ""
    words: int = 0
    delay: float = 0.0
    first: float = 0.0
    hold_after: int | None = None
    drop_after: int | None = None  # break the connection after that many words

    def tokens(self) -> list[str]:
        return [f"word{n} " for n in range(1, self.words + 1)] if self.words else _split(self.text)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Ask the client to run one of its tools. The call after it is the client's answer with the result."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fail:
    """An error answer."""

    status: int = 500
    message: str = "scripted failure"
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Hang:
    """Accept the call and say nothing until `release()`; then answer `late`."""


Reply = Say | ToolCall | Fail | Hang


@dataclass(slots=True)
class Call:
    """One call as it arrived, and what became of it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    prompt: str
    prompt_tokens: int
    words: int = 0
    ended: str = "running"

    @property
    def model(self) -> str:
        return str(self.body.get("model"))


class ScriptedProvider:
    """See the module's docstring."""

    def __init__(self, *, models: tuple[str, ...] = ("stub-model",)) -> None:
        self.models = models
        self.calls: list[Call] = []
        self.others: list[str] = []  # method and path of whatever else was asked
        self.default: Reply | None = None
        self._rules: list[tuple[str, list[Reply]]] = []
        self._gate = asyncio.Event()
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def when(self, text: str, *replies: Reply) -> None:
        self._rules.append((text.lower(), list(replies)))

    def release(self) -> None:
        """Let every reply that is held (now or later) go on."""
        self._gate.set()

    def reset(self) -> None:
        """Forget rules and calls; hold again."""
        self.calls.clear()
        self.others.clear()
        self._rules.clear()
        self._gate = asyncio.Event()

    def tokens(self) -> tuple[int, int]:
        """Prompt and completion tokens of every call that got an answer, cut ones by the words sent."""
        served = [call for call in self.calls if call.ended in {"whole", "cut"}]
        whole = sum(call.prompt_tokens for call in served if call.ended == "whole")
        return whole, sum(call.words for call in served)

    async def until(self, condition: Callable[[], bool], *, timeout: float = 60.0) -> None:
        """Wait until the condition holds; it is looked at whenever a call makes progress."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(condition)

    async def start(self) -> Self:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/{base:.*}chat/completions", self._chat)  # whatever the base path
        app.router.add_get("/{base:.*}models", self._list)
        app.router.add_route("*", "/{path:.*}", self._other)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        """Stop answering; `start` again takes the same port."""
        self._gate.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _reply(self, prompt: str) -> Reply:
        for text, replies in reversed(self._rules):
            if text in prompt.lower():
                return replies.pop(0) if len(replies) > 1 else replies[0]
        return self.default or Say(f"You said: {prompt}")

    async def _list(self, request: web.Request) -> web.Response:
        self.others.append(f"{request.method} {request.path}")
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def _other(self, request: web.Request) -> web.Response:
        self.others.append(f"{request.method} {request.path}")
        return web.json_response({"error": {"message": "no such path"}}, status=404)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        messages = body.get("messages", [])
        prompt = next((_text(m) for m in reversed(messages) if m.get("role") == "user"), "")
        call = Call(
            path=request.path_qs,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=body,
            prompt=prompt,
            prompt_tokens=sum(len(_text(message).split()) for message in messages),
        )
        self.calls.append(call)
        await self._tell()
        try:
            answer = await self._answer(request, call, self._reply(prompt))
            call.ended = "whole" if call.ended == "running" else call.ended
            return answer
        except (ConnectionError, asyncio.CancelledError):
            call.ended = "cut" if call.ended == "running" else call.ended
            raise
        finally:
            await asyncio.shield(self._tell())

    async def _answer(self, request: web.Request, call: Call, reply: Reply) -> web.StreamResponse:
        if isinstance(reply, Fail):
            call.ended = "failed"
            headers = {"retry-after": str(reply.retry_after)} if reply.retry_after is not None else None
            error = {"error": {"message": reply.message, "type": "scripted"}}
            return web.json_response(error, status=reply.status, headers=headers)
        if isinstance(reply, Hang):
            await self._gate.wait()
            reply = Say("late")
        if call.body.get("stream"):
            return await self._stream(request, call, reply)
        return await self._whole(request, call, reply)

    async def _whole(self, request: web.Request, call: Call, reply: Say | ToolCall) -> web.Response:
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if isinstance(reply, ToolCall):
            call.words = 1
            message["tool_calls"] = [_tool(reply, len(self.calls))]
        else:
            message["content"] = "".join([word async for word in self._words(request, call, reply)])
        finish = "tool_calls" if isinstance(reply, ToolCall) else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return web.json_response(_envelope(call, "chat.completion", [choice]) | {"usage": _usage(call)})

    async def _stream(self, request: web.Request, call: Call, reply: Say | ToolCall) -> web.StreamResponse:
        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)

        async def send(choices: list[dict[str, Any]], **more: Any) -> None:
            event = _envelope(call, "chat.completion.chunk", choices) | more
            await out.write(b"data: " + json.dumps(event).encode() + b"\n\n")

        if isinstance(reply, ToolCall):
            call.words = 1
            delta = {"role": "assistant", "tool_calls": [{"index": 0} | _tool(reply, len(self.calls))]}
            await send([{"index": 0, "delta": delta, "finish_reason": None}])
        else:
            async for word in self._words(request, call, reply):
                await send([{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}])
        finish = "tool_calls" if isinstance(reply, ToolCall) else "stop"
        await send([{"index": 0, "delta": {}, "finish_reason": finish}])
        if (call.body.get("stream_options") or {}).get("include_usage"):
            await send([], usage=_usage(call))
        await out.write(b"data: [DONE]\n\n")
        await out.write_eof()
        return out

    async def _words(self, request: web.Request, call: Call, reply: Say) -> AsyncIterator[str]:
        await asyncio.sleep(reply.first)
        for count, word in enumerate(reply.tokens()):
            if count == reply.drop_after:
                call.ended = "failed"
                assert request.transport is not None
                request.transport.abort()
                raise ConnectionResetError("scripted drop")
            if count == reply.hold_after:
                await self._gate.wait()
            if reply.delay:
                await asyncio.sleep(reply.delay)
            yield word
            call.words += 1
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _split(text: str) -> list[str]:
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + words[-1:]


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in content)


def _tool(reply: ToolCall, number: int) -> dict[str, Any]:
    function = {"name": reply.name, "arguments": json.dumps(dict(reply.arguments))}
    return {"id": f"call_{number}", "type": "function", "function": function}


def _usage(call: Call) -> dict[str, int]:
    total = call.prompt_tokens + call.words
    return {"prompt_tokens": call.prompt_tokens, "completion_tokens": call.words, "total_tokens": total}


def _envelope(call: Call, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "chatcmpl-stub", "object": kind, "created": 1, "model": call.model, "choices": choices}
