"""What an A2A 1.0 agent says, as far as a turn needs it: JSON-RPC replies, and the updates they mean.

Field names and states are those of the specification's JSON binding (proto3 JSON: camelCase, enums by name). Agents are
not trusted: what does not fit is refused by pydantic, what is unknown is ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

ANSWER = "answer"

End = Literal["", "done", "failed", "stopped"]

_ENDS: Mapping[str, End] = {
    "TASK_STATE_COMPLETED": "done",
    "TASK_STATE_FAILED": "failed",
    "TASK_STATE_REJECTED": "failed",
    "TASK_STATE_CANCELED": "stopped",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What a stream says next. `text` is appended to the answer, or with `whole` replaces it; `state` is set at the
    end, with the sentence of a failure in `error` and `retry` if the same question may succeed later."""

    task_id: str = ""
    text: str = ""
    whole: bool = False
    state: End = ""
    error: str = ""
    retry: bool = False


class _Said(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class Part(_Said):
    text: str = ""


class Message(_Said):
    message_id: str = ""
    parts: tuple[Part, ...] = ()
    metadata: dict[str, Any] = Field(default_factory=dict)


class Status(_Said):
    state: str = ""
    message: Message = Message()

    def update(self, task_id: str) -> Update:
        end = _ENDS.get(self.state, "")
        if end != "failed":
            return Update(task_id=task_id, state=end)
        error = _text(self.message.parts) or "The agent could not answer and did not say why."
        return Update(task_id=task_id, state=end, error=error, retry=bool(self.message.metadata.get("retry")))


class Artifact(_Said):
    name: str = ""
    parts: tuple[Part, ...] = ()


class Task(_Said):
    id: str
    status: Status = Status()
    artifacts: tuple[Artifact, ...] = ()
    history: tuple[Message, ...] = ()

    def update(self) -> Update:
        text = "".join(_text(made.parts) for made in self.artifacts if made.name == ANSWER)
        end = self.status.update(self.id)
        return Update(task_id=self.id, text=text, whole=bool(text), state=end.state, error=end.error, retry=end.retry)


class StatusUpdate(_Said):
    task_id: str = ""
    status: Status = Status()


class ArtifactUpdate(_Said):
    task_id: str = ""
    artifact: Artifact = Artifact()
    append: bool = False

    def update(self) -> Update:
        if self.artifact.name not in (ANSWER, ""):
            return Update(task_id=self.task_id)
        return Update(task_id=self.task_id, text=_text(self.artifact.parts), whole=not self.append)


class Result(_Said):
    """One of these, by the method and what happened; a list of tasks for ListTasks."""

    task: Task | None = None
    status_update: StatusUpdate | None = None
    artifact_update: ArtifactUpdate | None = None
    tasks: tuple[Task, ...] = ()

    def update(self) -> Update:
        if self.task is not None:
            return self.task.update()
        if self.artifact_update is not None:
            return self.artifact_update.update()
        if self.status_update is not None:
            return self.status_update.status.update(self.status_update.task_id)
        return Update()


class Fault(_Said):
    code: int = 0
    message: str = ""


class Reply(_Said):
    """A JSON-RPC 2.0 response."""

    result: Result = Result()
    error: Fault | None = None


def _text(parts: tuple[Part, ...]) -> str:
    return "".join(part.text for part in parts)
