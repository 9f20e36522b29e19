"""What the API answers, as models. Nothing but the OpenAPI document is made of them, and it is tested against answers;
so they are imported when it is asked for and not before."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Problem(Answer):
    """One thing that is wrong: what, where, how to mend it; and the line of the input it is about."""

    what: str
    where: str | None = None
    fix: str | None = None
    excerpt: str | None = None


class ProblemDocument(Answer):
    """RFC 9457. `instance` names the request, as the log does."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    problems: list[Problem]


class OwnerReference(Answer):
    api_version: str
    kind: str
    name: str
    controller: bool
    uid: str | None = None


class ObjectMeta(Answer):
    """`resource_version` grows with every change of the object or its status."""

    name: str
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    uid: str
    generation: int
    resource_version: str
    creation_timestamp: str
    deletion_timestamp: str | None = None
    finalizers: list[str] | None = None
    owner_references: list[OwnerReference] | None = None


class Condition(Answer):
    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    last_transition_time: str


class Status(Answer):
    """What is so; `message` is its first trouble, '' when all is well. Beside these fields there are the facts of each
    kind: matrixUserID, roomID, container, containerState, members."""

    model_config = ConfigDict(extra="allow")

    phase: str
    message: str
    observed_generation: int
    paused: bool
    conditions: list[Condition]


class Change(Answer):
    """`before` and `after` are left out where the field is not stated."""

    field: str
    effect: str
    before: Any = None
    after: Any = None


class Step(Answer):
    kind: str
    name: str
    action: Literal["create", "change", "delete", "none"]
    note: str
    changes: list[Change]


class ListMeta(Answer):
    resource_version: str
    continue_: str | None = Field(None, alias="continue")
    remaining_item_count: int | None = None


class Event(Answer):
    reason: str
    message: str
    count: int
    last_timestamp: str


class EventList(Answer):
    items: list[Event]


class AuditEntry(Answer):
    time: str
    actor: str
    action: str
    target: str
    room: str
    verdict: str
    rule: str
    cause: str


class AuditList(Answer):
    items: list[AuditEntry]


class Decision(Answer):
    """`document` and `field` say where the rule is declared, '' for one of Opsroom's own."""

    user: str
    agent: str
    room: str
    allowed: bool
    verdict: str
    rule: str
    document: str
    field: str
    reason: str


class Alive(Answer):
    alive: bool


class Version(Answer):
    version: str


class Count(Answer):
    total: int
    phases: dict[str, int]


class Overview(Answer):
    """`reason`: why work is not taken, '' when it is."""

    version: str
    ready: bool
    reason: str
    backend: str
    isolation: str
    turns: int
    objects: dict[str, Count]


class File(Answer):
    name: str
    text: str


class Told(Answer):
    """What the ops room would have said, as Markdown; `file` when there is more than fits. `code`: why it failed, as a
    problem's `type` ends; '' when no error ended it."""

    ok: bool
    text: str
    file: File | None
    code: str


class Command(Answer):
    """A command as a shell gives its words, and the YAML it is about."""

    words: list[str] = Field(min_length=1, examples=[["get", "workers"]])
    input: str = ""
    source: str = "the input"


MODELS: tuple[type[BaseModel], ...] = (
    ProblemDocument,
    ObjectMeta,
    ListMeta,
    Status,
    Step,
    Told,
    Command,
    EventList,
    AuditList,
    Decision,
    Alive,
    Version,
    Overview,
)
