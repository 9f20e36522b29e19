"""One turn: workspace and question in, streamed text out."""

import asyncio
import logging
from collections.abc import AsyncIterable, Awaitable, Callable

import httpx2
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelHTTPError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
)
from pydantic_ai.messages import ModelMessage, PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import RunUsage, UsageLimits

from runtime import failures, prompt, session, tools
from runtime.declared import CARD, managed_files, read_json
from runtime.failures import Failure
from runtime.protocol import End, Turn
from runtime.settings import Settings, read_token

MAX_STEPS = 40
TRIES_TO_CONNECT = 2  # beside the first, and only before an answer has begun
STOPPED = "[This answer was stopped here.]"

log = logging.getLogger("runtime.agent")


class Mind:
    """The model behind the gateway and the tools, for all turns of this process."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.workspace
        self._fallback_name = settings.agent

        async def token() -> str:
            return read_token(settings.token_file)

        self._client = AsyncOpenAI(
            base_url=f"{settings.base_url}/v1",
            api_key=token,
            max_retries=TRIES_TO_CONNECT,
            timeout=httpx2.Timeout(180, connect=5),
        )
        self._agent = Agent(
            deps_type=tools.Desk,
            tools=[tools.read_file, tools.write_file, tools.list_files, tools.run_command],
            retries=3,
        )

    async def answer(self, turn: Turn, emit: Callable[[str], None], save: Callable[[], Awaitable[str]]) -> End:
        """Run one turn to its end and remember it. A cancelled turn is remembered as far as it came."""
        said: list[str] = []
        usage = RunUsage()
        earlier = await asyncio.to_thread(session.load, self._root, turn.context)

        def say(text: str) -> None:
            said.append(text)
            emit(text)

        def remember_part(note: str) -> None:
            session.save(self._root, turn.context, [*earlier, *session.exchange(turn.question, "".join(said) + note)])

        try:
            messages = await self._run(turn, earlier, say, save, usage)
        except asyncio.CancelledError:
            remember_part(f"\n{STOPPED}")
            return End(code="canceled", tokens_in=usage.input_tokens, tokens_out=usage.output_tokens)
        except Failure as failure:
            return _ended(failure, usage)
        except AgentRunError as error:
            return _ended(_failure(error, self._model_name()), usage)
        await asyncio.to_thread(session.save, self._root, turn.context, messages)
        return End(tokens_in=usage.input_tokens, tokens_out=usage.output_tokens)

    def _model_name(self) -> str:
        return str(read_json(self._root / CARD).get("model", ""))

    async def _run(
        self,
        turn: Turn,
        earlier: list[ModelMessage],
        say: Callable[[str], None],
        save: Callable[[], Awaitable[str]],
        usage: RunUsage,
    ) -> list[ModelMessage]:
        card = read_json(self._root / CARD)
        if not card.get("model"):
            raise Failure("No model is declared for me; an operator should set one.")
        name = str(card.get("displayName") or card.get("name") or self._fallback_name)
        async with self._agent.iter(
            turn.question,
            model=OpenAIChatModel(str(card["model"]), provider=OpenAIProvider(openai_client=self._client)),
            instructions=prompt.instructions(self._root, turn, name),
            message_history=earlier,
            deps=tools.Desk(root=self._root, managed=managed_files(self._root), save=save),
            usage_limits=UsageLimits(request_limit=MAX_STEPS),
            usage=usage,
        ) as run:
            spoken = False
            async for node in run:
                if Agent.is_model_request_node(node):
                    async with node.stream(run.ctx) as events:
                        spoken = await _say_all(events, say, apart=spoken) or spoken
            return run.all_messages()


async def _say_all(events: AsyncIterable[object], say: Callable[[str], None], *, apart: bool) -> bool:
    """Pass on the text of one model response, set apart from what was said before it; True if there was any."""
    spoken = False
    async for event in events:
        if text := _text_of(event):
            say(f"\n\n{text}" if apart and not spoken else text)
            spoken = True
    return spoken


def _text_of(event: object) -> str:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


def _ended(failure: Failure, usage: RunUsage) -> End:
    return End(
        code=failure.code,
        sentence=failure.sentence,
        retry=failure.retry,
        tokens_in=usage.input_tokens,
        tokens_out=usage.output_tokens,
    )


def _failure(error: AgentRunError, model: str) -> Failure:
    if isinstance(error, ModelHTTPError):
        return failures.of_model_status(error.status_code, error.body, model)
    if isinstance(error, UsageLimitExceeded):
        return Failure(failures.STEPS_USED_UP)
    if isinstance(error, ModelAPIError):
        return Failure(failures.NO_MODEL, code="model-unavailable", retry=True)
    if isinstance(error, UnexpectedModelBehavior):
        return Failure(failures.BROKEN_ANSWER, retry=True)
    log.error("a turn failed: %s", type(error).__name__)
    return Failure("Something in my own program failed; an operator finds it in my log.")
