"""Every field of every kind takes effect, or says that it does not yet.

A case has two values of one field. Written into the same company, they must make something differ on which Opsroom
acts: a file, a room, a decision, a policy, a sandbox, a route, a state, an answer, or a refusal.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from appservice.config import Settings
from appservice.errors import Invalid
from appservice.ops import describe
from appservice.policy.triggers import may_trigger
from appservice.reconcile import given, human, keeper
from appservice.reconcile.steps import wanted
from appservice.resources import registry
from appservice.resources.kind import Spec
from appservice.resources.printing import to_yaml
from appservice.resources.worker import WorkerSpec
from appservice.rooms.desired import topology
from appservice.storage.access import policy
from appservice.store.changes import Key
from appservice.store.objects import Stored
from appservice.store.status import Status
from tests.support.declared import Company

JOHN = "@john:hs"
PEOPLE = ("@op:hs", JOHN, "@nobody:hs")
SETTINGS = Settings(data_dir=Path("/data"))
Spot = tuple[str | int, ...]  # where something is in a document


# What Opsroom acts on. Each takes a file, and the name of the agent or person whom the changed field is about.


def workspace(text: str, name: str) -> object:
    company = Company(text)
    return given.workspace(name, _spec(company, name), company.roster)


def sandbox(text: str, name: str) -> object:
    company = Company(text)
    stored, agent = company.stored[Key("Worker", name)], company.roster.agents[name]
    return given.sandbox(stored, _spec(company, name), agent, settings=SETTINGS, image="native").spec_hash


def image(text: str, name: str) -> object:
    company = Company(text)
    stored, agent = company.stored[Key("Worker", name)], company.roster.agents[name]
    return given.sandbox(stored, _spec(company, name), agent, settings=SETTINGS, image="native").image


def labels(text: str, name: str) -> object:
    company = Company(text)
    stored, agent = company.stored[Key("Worker", name)], company.roster.agents[name]
    return given.sandbox(stored, _spec(company, name), agent, settings=SETTINGS, image="native").labels


def access(text: str, name: str) -> object:
    company = Company(text)
    return policy("opsroom", given.access(_spec(company, name), company.roster.agents[name]))


def gateway(text: str, name: str) -> object:
    found, _ = keeper.routed(_workers(text), lambda _model: "house", lambda model: model)
    return [consumer for consumer in found if consumer.name == name]


def state(text: str, name: str) -> object:
    return wanted(_spec(Company(text), name).state, awake=False)


def agents(text: str, _name: str) -> object:
    return {stored.name: stored.owner for stored in _workers(text)}


def rooms(text: str, _name: str) -> object:
    return topology(Company(text).roster, prefix="")


def who_may(text: str, name: str) -> object:
    """Who may ask whom, where; of an agent, who may ask it."""
    roster = Company(text).roster
    users = (*PEOPLE, *(agent.user for agent in roster.agents.values()))
    asked: Sequence[str] = [name] if name in roster.agents else list(roster.agents)
    places: tuple[Literal["group", "direct"], ...] = ("group", "direct")
    return {
        (user, agent, place)
        for user in users
        for agent in asked
        for place in places
        if may_trigger(roster, user, agent, place).allowed
    }


def account(text: str, _name: str) -> object:
    return Company(text).roster.humans[JOHN].shown


def missing(text: str, _name: str) -> object:
    roster = Company(text).roster
    return human.references(roster, roster.humans[JOHN]).message


def described(text: str, name: str) -> object:
    return describe.head(Company(text).stored[Key("Human", name)], Status(), 0)


def refusal(text: str, _name: str) -> object:
    try:
        registry.parse(text.encode(), source="all.yaml")
    except Invalid as error:
        return str(error)
    return ""


def _spec(company: Company, name: str) -> WorkerSpec:
    return WorkerSpec.model_validate(company.stored[Key("Worker", name)].document["spec"])


def _workers(text: str) -> list[Stored]:
    return [stored for stored in Company(text).stored.values() if stored.kind == "Worker"]


# Which field changes what


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`before` and `after`: two values of the field; `outcomes`: all that must differ; `beside`: other fields of the
    same part of the document, without which this one is not there."""

    before: Any
    after: Any
    outcomes: tuple[Callable[[str, str], object], ...]
    beside: Mapping[str, Any] = field(default_factory=dict)


def case(before: Any, after: Any, *outcomes: Callable[[str, str], object], **beside: Any) -> Case:
    return Case(before=before, after=after, outcomes=outcomes, beside=beside)


ENTRY = [{"service": "object-storage", "scope": {"prefixes": ["reports/"]}}]
POLICY = {
    "channelPolicy.groupAllowExtra[]": case("someone", "nobody", who_may, rooms),
    "channelPolicy.groupDenyExtra[]": case("someone", "op", who_may),
    "channelPolicy.dmAllowExtra[]": case("someone", "nobody", who_may, rooms),
    "channelPolicy.dmDenyExtra[]": case("someone", "op", who_may),
}
MANAGER = {
    "model": case("one", "two", gateway, workspace),
    "image": case("one", "two", image, sandbox),
    "soul": case("You are kind.", "You are brief.", workspace),
    "agents": case("Keep notes.", "Keep no notes.", workspace),
    "skills[]": case("notes", "report", workspace),
    "state": case("Running", "Sleeping", state),
    "labels": case({"tier": "one"}, {"tier": "two"}, labels, sandbox),
    "accessEntries[].service": case("object-storage", "ai-gateway", refusal, accessEntries=ENTRY),
    "accessEntries[].permissions[]": case("read", "write", access, accessEntries=ENTRY),
    "accessEntries[].scope.bucket": case("hiclaw", "reports", refusal, accessEntries=ENTRY),
    "accessEntries[].scope.bucketRef": case("workspace", "reports", refusal, accessEntries=ENTRY),
    "accessEntries[].scope.prefixes[]": case("one/", "two/", access, accessEntries=ENTRY),
}
AGENT = {**MANAGER, **POLICY, "identity": case("Name: A", "Name: B", workspace)}
NAME = {"name": case("one", "two", agents, rooms)}


def below(place: str, cases: Mapping[str, Case]) -> dict[str, Case]:
    return {f"{place}.{path}": found for path, found in cases.items()}


PROVEN: Mapping[str, Mapping[str, Case]] = {
    "Worker": AGENT,
    "Manager": MANAGER,
    "Team": {
        **below("leader", {**AGENT, **NAME}),
        **below("workers[]", {**AGENT, **NAME}),
        **POLICY,
        "description": case("Builds pages.", "Builds roads.", rooms),
        "admin.name": case("john", "dora", rooms, who_may),
        "admin.matrixUserId": case(JOHN, "@dora:hs", rooms, who_may, admin={"name": "john"}),
        "peerMentions": case(True, False, who_may),
    },
    "Human": {
        "displayName": case("John", "Johnny", account, described),
        "username": case("john", "dora", rooms, who_may, permissionLevel=1),
        "permissionLevel": case(1, 2, rooms, who_may, described),
        "accessibleTeams[]": case("dev", "other", rooms, who_may, missing, permissionLevel=2),
        "accessibleWorkers[]": case("alice", "other", rooms, who_may, missing, permissionLevel=3),
        "note": case("Likes tea.", "Likes coffee.", described),
    },
}
# The company that the changed document is part of. Where an agent is in its document, and its name.
HEAD = {"apiVersion": "hiclaw.io/v1beta1"}
COMPANY: Mapping[str, dict[str, Any]] = {
    "Worker": {"name": "alice", "spec": {"model": "m"}},
    "Manager": {"name": "default", "spec": {"model": "m"}},
    "Human": {"name": "john", "spec": {"displayName": "John", "permissionLevel": 3}},
    "Team": {
        "name": "dev",
        "spec": {
            "leader": {"name": "lena", "model": "m"},
            "workers": [{"name": "ben", "model": "m"}, {"name": "carla", "model": "m"}],
        },
    },
}
SUBJECTS: Mapping[tuple[str, str], str] = {
    ("Worker", ""): "alice",
    ("Manager", ""): "manager",
    ("Human", ""): "john",
    ("Team", ""): "dev",
    ("Team", "leader"): "lena",
    ("Team", "workers[]"): "ben",
}


def written(kind: str, path: str, value: Any, beside: Mapping[str, Any]) -> str:
    """The company with one value at a path of the spec of one of its documents."""
    documents = []
    for each, facts in COMPANY.items():
        spec = deepcopy(facts["spec"])
        if each == kind:
            part = _at(spec, _spot(_place(kind, path)))
            part |= deepcopy(dict(beside))
            _put(spec, _spot(path), value)
        documents.append(to_yaml({**HEAD, "kind": each, "metadata": {"name": facts["name"]}, "spec": spec}))
    return "---\n".join(documents)


def _place(kind: str, path: str) -> str:
    """The part of the document that an agent of its own is."""
    start = path.split(".")[0]
    return start if (kind, start) in SUBJECTS else ""


def _spot(path: str) -> Spot:
    """`workers[].name` as the name of the first of them."""
    names = [name for name in path.split(".") if name]
    return tuple(part for name in names for part in ((name[:-2], 0) if name.endswith("[]") else (name,)))


def _at(value: Any, spot: Spot) -> Any:
    for part in spot:
        value = value[part]
    return value


def _put(spec: Any, spot: Spot, value: Any) -> None:
    """Put a value where it belongs; maps and lists on the way are made where there are none."""
    for part, after in pairwise(spot):
        empty: Any = [] if after == 0 else {}
        if isinstance(part, int) and part == len(spec):
            spec.append(empty)
        spec = spec.setdefault(part, empty) if isinstance(part, str) else spec[part]
    if isinstance(spec, list):
        spec[:] = [value]
    else:
        spec[spot[-1]] = value


# Which fields there are


def fields(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Every field that has no fields of its own, by its path: `workers[].channelPolicy.dmDenyExtra[]`."""
    for name, info in model.model_fields.items():
        path = f"{before}{info.alias or name}"
        inner, many = _inner(info.annotation)
        path += "[]" if many else ""
        if inner:
            yield from fields(inner, f"{path}.")
        else:
            yield path


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The model inside of a type, and whether the type is a list. A free map is one field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    origin = get_origin(annotation)
    if origin in (dict, Mapping):
        return None, False
    found = [_inner(part) for part in get_args(annotation)]
    return next((inner for inner, _ in found if inner), None), origin is tuple or any(many for _, many in found)


def complaints(known: Sequence[str], pending: Sequence[str], proven: Sequence[str]) -> list[str]:
    """What is wrong with the two tables."""
    waiting = {path for path in known if any(_covers(entry, path) for entry in pending)}
    return [
        *(f"{path}: neither pending nor proven" for path in known if path not in waiting and path not in proven),
        *(f"{path}: pending, and proven" for path in proven if path in waiting),
        *(f"{path}: proven, and no field" for path in proven if path not in known),
        *(f"{entry}: pending, and no field" for entry in pending if not any(_covers(entry, path) for path in known)),
    ]


def _covers(entry: str, path: str) -> bool:
    """A pending field is pending with all that is in it; pending tables write lists without brackets."""
    return f"{path.replace('[]', '')}.".startswith(f"{entry}.")


CASES = [
    pytest.param(kind, path, found, id=f"{kind}.{path}")
    for kind, cases in PROVEN.items()
    for path, found in cases.items()
]


@pytest.mark.parametrize("kind", registry.KINDS.values(), ids=lambda kind: kind.name)
def test_every_field_is_pending_by_name_or_proven_to_take_effect(kind: Any) -> None:
    assert complaints(list(fields(kind.spec)), list(kind.pending_fields), list(PROVEN[kind.name])) == []


@pytest.mark.parametrize(("kind", "path", "found"), CASES)
def test_a_change_of_the_field_changes_what_opsroom_does(kind: str, path: str, found: Case) -> None:
    before, after = (written(kind, path, value, found.beside) for value in (found.before, found.after))
    subject = SUBJECTS[kind, _place(kind, path)]

    assert found.outcomes
    for outcome in found.outcomes:
        assert outcome(before, subject) == outcome(before, subject), "the outcome is not one of the file alone"
        assert outcome(before, subject) != outcome(after, subject), outcome.__name__


def test_a_new_field_is_complained_about_until_it_is_in_one_table() -> None:
    class Inner(Spec):
        size: int = 0

    class New(Spec):
        first_name: str = ""
        inner: tuple[Inner, ...] = ()
        words: tuple[str, ...] = ()
        facts: Mapping[str, tuple[str, ...]] = {}
        maybe: Inner | None = None

    known = list(fields(New))
    assert known == ["firstName", "inner[].size", "words[]", "facts", "maybe.size"]
    assert complaints(known, ["inner", "maybe"], ["firstName", "words[]", "facts"]) == []
    assert complaints(known, ["inner"], ["firstName", "words[]", "facts"]) == ["maybe.size: neither pending nor proven"]
    assert complaints(["a"], ["a"], ["a"]) == ["a: pending, and proven"]
    assert complaints(["a"], ["b"], ["a", "c"]) == ["c: proven, and no field", "b: pending, and no field"]
