"""The A2A 1.0 server: what the control plane talks to, over a unix socket."""

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from a2a.helpers import new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext, SimpleRequestContextBuilder
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, SendMessageRequest, Task, TaskState
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runtime.protocol import End, Turn
from runtime.start import Startup
from runtime.turns import Running, Turns

KEPT_TASKS = 100
KEPT_S = 3600.0
KEPT_IDS = 5000
MAX_QUESTION = 400_000
TERMINAL = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_REJECTED,
    }
)


class Tasks(InMemoryTaskStore):
    """Keeps the newest finished tasks for an hour; running ones always."""

    def __init__(self) -> None:
        super().__init__()
        self._finished: OrderedDict[str, float] = OrderedDict()

    async def save(self, task: Task, context: ServerCallContext) -> None:
        await super().save(task, context)
        if task.status.state in TERMINAL:
            self._finished[task.id] = time.monotonic()
            await self._drop_old(context)

    async def _drop_old(self, context: ServerCallContext) -> None:
        oldest_allowed = time.monotonic() - KEPT_S
        while self._finished:
            task_id, since = next(iter(self._finished.items()))
            if len(self._finished) <= KEPT_TASKS and since >= oldest_allowed:
                return
            del self._finished[task_id]
            await self.delete(task_id, context)


class TaskIds(SimpleRequestContextBuilder):
    """Names a task after the control plane's turn and attempt (`TURN.ATTEMPT`), so that a message that is sent twice
    meets the task it has begun already."""

    async def build(
        self,
        context: ServerCallContext,
        params: SendMessageRequest | None = None,
        task_id: str | None = None,
        context_id: str | None = None,
        task: Task | None = None,
    ) -> RequestContext:
        if params is not None and not task_id:
            task_id = task_id_of(metadata_of(params.message)) or None
        return await super().build(context, params, task_id, context_id, task)


class Executor(AgentExecutor):
    """Turns A2A requests into turns, once each."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._taken: OrderedDict[str, None] = OrderedDict()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        message, task_id, context_id = context.message, context.task_id, context.context_id
        if message is None or not task_id or not context_id:
            raise ValueError("the library gave no message, task or context")
        updater = TaskUpdater(event_queue, task_id, context_id)
        again = not self._take(task_id)
        if again and context.current_task is not None:
            return  # a second delivery: its sender follows the first one's events
        await event_queue.enqueue_event(new_task_from_user_message(message))
        question = context.get_user_input()
        if again:
            await _reject(updater, "This turn was taken already, and its result is not kept any more.")
        elif not question.strip() or len(question) > MAX_QUESTION:
            await _reject(updater, f"A question has 1 to {MAX_QUESTION} characters of text.")
        else:
            await self._turns.run(_running(metadata_of(message), task_id, context_id, question, Answer(updater)))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        task_id, context_id = context.task_id, context.context_id
        if not task_id or not context_id:
            raise ValueError("the library gave no task or context")
        self._turns.cancel(task_id)
        await TaskUpdater(event_queue, task_id, context_id).cancel()

    def _take(self, task_id: str) -> bool:
        """True the first time a task is seen."""
        if task_id in self._taken:
            return False
        self._taken[task_id] = None
        if len(self._taken) > KEPT_IDS:
            self._taken.popitem(last=False)
        return True


class Answer:
    """Writes one turn's answer as A2A events: an artifact `answer` that grows, then the final status."""

    def __init__(self, updater: TaskUpdater) -> None:
        self._updater = updater
        self._begun = False

    async def working(self) -> None:
        await self._updater.start_work()

    async def text(self, text: str) -> None:
        await self._updater.add_artifact(
            [new_text_part(text)], artifact_id=f"answer-{self._updater.task_id}", name="answer", append=self._begun
        )
        self._begun = True

    async def completed(self, end: End) -> None:
        usage = {"tokensIn": end.tokens_in, "tokensOut": end.tokens_out}
        await self._updater.update_status(TaskState.TASK_STATE_COMPLETED, metadata=usage)

    async def failed(self, end: End) -> None:
        metadata = {"code": end.code, "retry": end.retry}
        message = self._updater.new_agent_message([new_text_part(end.sentence)], metadata=metadata)
        await self._updater.failed(message)


def metadata_of(message: Any) -> Mapping[str, Any]:
    """The control plane's facts about a turn, without their prefix."""
    prefix = "org.opsroom."
    return {name.removeprefix(prefix): value for name, value in message.metadata.items() if name.startswith(prefix)}


def task_id_of(facts: Mapping[str, Any]) -> str:
    """`TURN.ATTEMPT`; '' when the message names no turn."""
    return f"{facts['turn']}.{_attempt(facts)}" if facts.get("turn") else ""


def build(name: str, turns: Turns, startup: Startup) -> Starlette:
    """The web application: agent card, JSON-RPC, readiness."""

    async def healthz(_: Request) -> Response:
        return JSONResponse(startup.state(), status_code=200 if startup.ready else 503)

    card = _card(name)
    handler = DefaultRequestHandler(
        agent_executor=Executor(turns), task_store=Tasks(), agent_card=card, request_context_builder=TaskIds()
    )
    rpc = create_jsonrpc_routes(handler, "/")
    return Starlette(routes=[*create_agent_card_routes(card), *rpc, Route("/healthz", healthz)])


def _card(name: str) -> AgentCard:
    return AgentCard(
        name=name,
        description=f"{name}, a native Opsroom agent",
        version="1",
        capabilities=AgentCapabilities(streaming=True),
        supported_interfaces=[AgentInterface(url="http://agent/", protocol_binding="JSONRPC", protocol_version="1.0")],
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="chat", name="chat", description="Answers questions and works on files", tags=["chat"])],
    )


def _running(facts: Mapping[str, Any], task_id: str, context_id: str, question: str, answer: Answer) -> Running:
    turn = Turn(
        id=task_id,
        context=context_id,
        question=question,
        sender=str(facts.get("sender", "")),
        room=str(facts.get("room", "")),
        retry=bool(facts.get("retry", False)),
    )
    return Running(turn=turn, attempt=_attempt(facts), revision=str(facts.get("workspace", "")), outlet=answer)


def _attempt(facts: Mapping[str, Any]) -> int:
    attempt = facts.get("attempt", 1)
    return int(attempt) if isinstance(attempt, int | float) else 1


async def _reject(updater: TaskUpdater, sentence: str) -> None:
    await updater.reject(updater.new_agent_message([new_text_part(sentence)]))
