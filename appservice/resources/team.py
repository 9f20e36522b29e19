"""Team: a leader and the agents that work for it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, Strict, ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails

from appservice.resources import worker
from appservice.resources.kind import Duration, Kind, Name, ShortText, Spec, Text, fault
from appservice.resources.source import FieldPath, shown
from appservice.resources.worker import DEFAULT_MODEL, ChannelPolicy, WorkerSpec

MOST_WORKERS: Final = 127

_LOCALPART = re.compile(r"[a-z0-9._=/+-]+")
_MATRIX_ID = re.compile(r"@[^:\s@]+:[^\s@]+")


def _localpart(value: str) -> str:
    if not _LOCALPART.fullmatch(value):
        raise fault(
            f"{shown(value)} is not a user's name.", "Write only the part between @ and the colon, such as alice."
        )
    return value


def _matrix_id(value: str) -> str:
    if value and not _MATRIX_ID.fullmatch(value):
        raise fault(f"{shown(value)} is not a full Matrix id.", 'Write it as "@alice:example.org", in quotes.')
    return value


class TeamAdmin(Spec):
    """The person who runs the team. `matrix_user_id` says who that is when the account has another
    name; it is one of this server, too."""

    name: Annotated[ShortText, AfterValidator(_localpart)]
    matrix_user_id: Annotated[ShortText, AfterValidator(_matrix_id)] = ""


class Heartbeat(Spec):
    """How often the leader is asked to look after its team."""

    enabled: Annotated[bool, Strict()] = False
    every: Duration = "30m"


class _Named(Spec):
    name: Name


class TeamWorker(WorkerSpec, _Named):
    """A worker that lives in its team. Without `model` it has its leader's, and that one the settings' own."""

    model: Annotated[ShortText, AfterValidator(worker._model)] = DEFAULT_MODEL


class Leader(TeamWorker):
    """The agent that leads the others. Without `worker_idle_timeout` no worker is put to sleep for being idle."""

    heartbeat: Heartbeat = Heartbeat()
    worker_idle_timeout: Duration = ""


def _different_names(workers: tuple[TeamWorker, ...], info: ValidationInfo) -> tuple[TeamWorker, ...]:
    leader: Leader | None = info.data.get("leader")
    errors = list(_same_names(workers, leader.name if leader else ""))
    if errors:
        raise ValidationError.from_exception_data("workers", errors)
    return workers


def _same_names(workers: tuple[TeamWorker, ...], leader: str) -> Iterator[InitErrorDetails]:
    names: set[str] = set()
    for index, name in enumerate(each.name for each in workers):
        if name == leader:
            found = fault(f"The leader {name} is among the workers, too.", "Remove it here: it leads the team already.")
            yield InitErrorDetails(type=found, loc=(index, "name"), input=name)
        elif name in names:
            found = fault(f"Two workers are called {name}.", "Keep one of them, or rename it.")
            yield InitErrorDetails(type=found, loc=(index, "name"), input=name)
        names.add(name)


class TeamSpec(Spec):
    """A leader, its workers, and who may talk to whom."""

    description: Annotated[Text, Field(max_length=2000)] = ""
    admin: TeamAdmin | None = None
    leader: Leader
    workers: Annotated[tuple[TeamWorker, ...], Field(max_length=MOST_WORKERS), AfterValidator(_different_names)] = ()
    peer_mentions: Annotated[bool, Strict()] = True
    channel_policy: ChannelPolicy = ChannelPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One agent of a team. `spec` holds what was declared for it alone, `path` is its place in the Team."""

    team: str
    name: str
    role: Literal["leader", "member"]
    spec: WorkerSpec
    path: FieldPath


def members(name: str, spec: TeamSpec) -> tuple[Member, ...]:
    """All agents of the team called `name`, the leader first."""
    leader = Member(
        team=name, name=spec.leader.name, role="leader", spec=_plain(spec.leader, spec.leader), path=("spec", "leader")
    )
    workers = (
        Member(
            team=name, name=each.name, role="member", spec=_plain(each, spec.leader), path=("spec", "workers", index)
        )
        for index, each in enumerate(spec.workers)
    )
    return (leader, *workers)


def _plain(agent: TeamWorker, leader: Leader) -> WorkerSpec:
    declared = agent.model_dump(by_alias=True, include=set(WorkerSpec.model_fields))
    model = leader.model if agent.model == DEFAULT_MODEL else agent.model
    return WorkerSpec.model_validate(declared | {"model": model})


PENDING: Final = {
    "leader.heartbeat": "The leader is not woken by a heartbeat yet.",
    "leader.workerIdleTimeout": "Idle workers are not put to sleep yet.",
    **{f"{part}.{field}": text for part in ("leader", "workers") for field, text in worker.PENDING.items()},
}

EFFECTS: Final = {"peerMentions": "at once", "channelPolicy": "at once"}

_EXAMPLE = """\
apiVersion: hiclaw.io/v1beta1
kind: Team
metadata:
  name: frontend
spec:
  description: Builds and checks the web pages.
  leader:
    name: lena
    model: qwen3.5-plus
    soul: |
      You are Lena. You split the work, give each part to one of your team, and check what comes back.
  workers:
    - name: ben
      model: qwen3.5-plus
      soul: |
        You are Ben. You write the pages.
    - name: carla
      model: qwen3.5-plus
      soul: |
        You are Carla. You test what Ben wrote and say what is wrong.
"""

KIND: Final = Kind(
    name="Team",
    plural="teams",
    short_names=("tm",),
    api_versions=("hiclaw.io/v1beta1",),
    spec=TeamSpec,
    example=_EXAMPLE,
    pending_fields=PENDING,
    effects=EFFECTS,
)
