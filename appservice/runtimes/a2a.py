"""Talk to an agent: A2A 1.0 (JSON-RPC, streaming) over the unix socket in its door."""

import socket
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import httpx
from a2a.client import A2AClientError, Client, ClientConfig, ClientFactory
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    CancelTaskRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskState,
    TaskStatus,
)
from a2a.utils.errors import A2AError
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct

from appservice.errors import Unavailable

BASE = "http://agent"
ANSWER = "answer"
CONNECT_S = 5.0
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=0)

# What every agent behind a door is: asking for its card before each turn would cost a round trip.
_CARD = AgentCard(
    name="agent",
    version="1",
    capabilities=AgentCapabilities(streaming=True),
    supported_interfaces=[AgentInterface(url=f"{BASE}/", protocol_binding="JSONRPC", protocol_version="1.0")],
)

_ENDED: Mapping[int, Literal["done", "failed", "stopped"]] = {
    TaskState.TASK_STATE_COMPLETED: "done",
    TaskState.TASK_STATE_FAILED: "failed",
    TaskState.TASK_STATE_REJECTED: "failed",
    TaskState.TASK_STATE_CANCELED: "stopped",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What a stream says next. `text` is appended to the answer, or with `whole` replaces it; `state` is set at the
    end, with the sentence of a failure in `error` and `retry` if the same question may succeed later."""

    task_id: str = ""
    text: str = ""
    whole: bool = False
    state: Literal["", "done", "failed", "stopped"] = ""
    error: str = ""
    retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One turn as an agent gets it. `facts`: what the control plane knows of it (`org.opsroom.*`)."""

    message_id: str
    context_id: str
    text: str
    facts: Mapping[str, Any]


class AgentLost(Unavailable):
    """The agent broke off or does not answer: its container is gone, starting, or ill."""


class Listener(NamedTuple):
    """A socket file that somebody has made and listens at."""

    inode: int
    made_ns: int


class Agent:
    """One agent behind its socket."""

    def __init__(self, path: Path) -> None:
        self._socket = path
        # Each call connects anew: an agent that was started again listens at a new socket. verify: there is no TLS on
        # a unix socket.
        transport = httpx.AsyncHTTPTransport(uds=str(path), verify=False, limits=_LIMITS)
        self._http = httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(None, connect=CONNECT_S))
        self._client = ClientFactory(ClientConfig(streaming=True, httpx_client=self._http)).create(_CARD)

    def listens(self) -> Listener | None:
        """Who listens at the socket at this moment: another after each start. Connecting to a unix socket is done at
        once or fails."""
        try:
            found = self._socket.lstat()
            if not stat.S_ISSOCK(found.st_mode):
                return None
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)
                probe.connect(str(self._socket))
        except OSError:
            return None
        return Listener(found.st_ino, found.st_mtime_ns)

    async def ready(self) -> Mapping[str, Any] | None:
        """What the agent says of itself once it takes turns, None before."""
        try:
            self._reached()
            answer = await self._http.get(f"{BASE}/healthz", timeout=2.0)
            facts = answer.json()
        except (AgentLost, httpx.HTTPError, OSError, ValueError):
            return None
        return facts if answer.status_code == 200 and isinstance(facts, dict) else None

    async def ask(self, question: Question) -> AsyncGenerator[Update]:
        """Deliver a question and follow its answer. Raises AgentLost when the connection breaks."""
        message = Message(
            message_id=question.message_id,
            context_id=question.context_id,
            role=Role.ROLE_USER,
            parts=[Part(text=question.text)],
            metadata=ParseDict(dict(question.facts), Struct()),
        )
        async for update in _follow(self._reached().send_message(SendMessageRequest(message=message))):
            yield update

    async def follow(self, task_id: str) -> AsyncGenerator[Update]:
        """Take up a running task again: first all there is so far, then the rest. Raises AgentLost when it has ended
        meanwhile; `find` has its answer then."""
        async for update in _follow(self._reached().subscribe(SubscribeToTaskRequest(id=task_id))):
            yield update

    async def find(self, context_id: str, message_id: str) -> Update | None:
        """The task that a question made, if the agent knows it; with `state` '' when it runs."""
        wanted = ListTasksRequest(context_id=context_id, include_artifacts=True)
        found = await _errors(self._reached().list_tasks(wanted))
        for task in found.tasks:
            if any(message.message_id == message_id for message in task.history):
                return _of_task(task)
        return None

    async def cancel(self, task_id: str) -> None:
        """End a task; one that has ended, or that nobody knows any more, is a success."""
        try:
            await _errors(self._reached().cancel_task(CancelTaskRequest(id=task_id)))
        except A2AError:
            return

    def _reached(self) -> Client:
        """The folder is the agent's: a link there could lead to another socket of ours."""
        if not _is_socket(self._socket):
            raise AgentLost("the agent has no socket", fix="It is started again by itself.")
        return self._client


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


async def _errors(call: Any) -> Any:
    try:
        return await call
    except (httpx.HTTPError, A2AClientError, OSError) as error:
        raise AgentLost("the agent does not answer", fix="It is started again by itself.") from error


async def _follow(stream: AsyncIterator[StreamResponse]) -> AsyncGenerator[Update]:
    try:
        async with aclosing(cast("AsyncGenerator[StreamResponse]", stream)):
            async for item in stream:
                yield _update(item)
    except (httpx.HTTPError, A2AClientError, A2AError, OSError) as error:
        raise AgentLost("the agent broke off", fix="It is started again by itself.") from error


def _update(item: StreamResponse) -> Update:
    match item.WhichOneof("payload"):
        case "task":
            return _of_task(item.task)
        case "artifact_update":
            change = item.artifact_update
            text = "".join(part.text for part in change.artifact.parts)
            if change.artifact.name not in (ANSWER, ""):
                return Update(task_id=change.task_id)
            return Update(task_id=change.task_id, text=text, whole=not change.append)
        case "status_update":
            return _ended(item.status_update.task_id, item.status_update.status)
        case _:
            return Update()


def _of_task(task: Task) -> Update:
    text = "".join(part.text for made in task.artifacts if made.name == ANSWER for part in made.parts)
    end = _ended(task.id, task.status)
    return Update(task_id=task.id, text=text, whole=bool(text), state=end.state, error=end.error, retry=end.retry)


def _ended(task_id: str, status: TaskStatus) -> Update:
    state = _ENDED.get(status.state)
    if state != "failed":
        return Update(task_id=task_id, state=state or "")
    facts = MessageToDict(status.message.metadata)
    text = "".join(part.text for part in status.message.parts)
    return Update(
        task_id=task_id,
        state="failed",
        error=text or "The agent could not answer and did not say why.",
        retry=bool(facts.get("retry")),
    )
