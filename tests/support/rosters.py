"""Rosters from YAML as people write it, and companies of any shape."""

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from appservice.policy import roster
from appservice.policy.roster import Names, Roster
from appservice.resources.printing import to_yaml
from appservice.resources.registry import canonical, parse

NAMES = Names(bot="@opsroom:hs", prefix="agent-", server_name="hs")
OPERATORS = ("@op:hs",)

Document = dict[str, Any]


def roster_of(yaml_text: str, operators: Iterable[str] = OPERATORS) -> Roster:
    declared = [canonical(document) for document in parse(yaml_text.encode(), source="all.yaml")] if yaml_text else []
    documents = [(document["kind"], document["metadata"]["name"], document["spec"]) for document in declared]
    return roster.build(documents, names=NAMES, operators=frozenset(operators))


# One document each. What comes after a name is more fields: worker("alice", "soul: x"), team("dev", "lena, soul: x").


def worker(name: str, fields: str = "") -> str:
    return _written("Worker", name, f"model: m, {fields}")


def manager(name: str = "default") -> str:
    return _written("Manager", name, "model: m")


def team(name: str, leader: str, *members: str, fields: str = "") -> str:
    listed = ", ".join(f"{{model: m, name: {each}}}" for each in members)
    return _written("Team", name, f"leader: {{model: m, name: {leader}}}, workers: [{listed}], {fields}")


def human(name: str, level: int, fields: str = "") -> str:
    return _written("Human", name, f"displayName: {name.title()}, permissionLevel: {level}, {fields}")


def _written(kind: str, name: str, fields: str) -> str:
    head = f"---\napiVersion: hiclaw.io/v1beta1\nkind: {kind}\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {{{fields.removesuffix(', ')}}}\n"


# Companies of any shape: agents are called t0-lead, t0-m1, w0 and so on, people h0, h1, and pm and op.

_TEAMS = ("t0", "t1", "t2")
_MEMBERS = 3
_AGENTS = (
    *("w0", "w1", "night", "nobody"),
    *(f"{team}-{part}" for team in _TEAMS for part in ("lead", *(f"m{index}" for index in range(_MEMBERS)))),
)
_PEOPLE = ("h0", "h1", "h2", "h3", "pm", "op", "@far:hs")
_POLICIES = st.fixed_dictionaries(
    {},
    optional={
        field: st.lists(st.sampled_from((*_PEOPLE, *_AGENTS, "manager")), max_size=2)
        for field in ("groupAllowExtra", "groupDenyExtra", "dmAllowExtra", "dmDenyExtra")
    },
)


@st.composite
def companies(draw: st.DrawFn, *, policies: bool = True) -> list[Document]:
    """Documents that belong together, in any order; people may name teams and agents that nobody declares."""
    policy = _POLICIES if policies else st.just({})
    specs = {
        "Team": {name: _teams(name, policy) for name in _TEAMS},
        "Worker": dict.fromkeys(("w0", "w1"), st.fixed_dictionaries({"model": st.just("m"), "channelPolicy": policy})),
        "Manager": dict.fromkeys(("default", "night"), st.just({"model": "m"})),
        "Human": dict.fromkeys(("h0", "h1", "h2", "h3"), _HUMANS),
    }
    documents = [
        {"apiVersion": "hiclaw.io/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": draw(known[name])}
        for kind, known in specs.items()
        for name in draw(st.lists(st.sampled_from(list(known)), unique=True))
    ]
    return draw(st.permutations(documents))


def text_of(documents: Sequence[Document]) -> str:
    return "---\n".join(to_yaml(document) for document in documents)


def _teams(name: str, policy: st.SearchStrategy[Document]) -> st.SearchStrategy[Document]:
    def agent(part: str) -> st.SearchStrategy[Document]:
        return st.fixed_dictionaries(
            {"name": st.just(f"{name}-{part}"), "model": st.just("m"), "channelPolicy": policy}
        )

    def members(count: int) -> st.SearchStrategy[list[Document]]:
        return st.tuples(*(agent(f"m{index}") for index in range(count))).map(list)

    admin = st.fixed_dictionaries(
        {"name": st.sampled_from(("pm", "op", "h0"))}, optional={"matrixUserId": st.just("@far:hs")}
    )
    return st.fixed_dictionaries(
        {
            "leader": agent("lead"),
            "workers": st.integers(0, _MEMBERS).flatmap(members),
            "peerMentions": st.booleans(),
            "channelPolicy": policy,
        },
        optional={"admin": admin, "description": st.sampled_from(("Builds the pages.", ""))},
    )


_HUMANS = st.fixed_dictionaries(
    {
        "displayName": st.just("H"),
        "permissionLevel": st.integers(1, 3),
        "accessibleTeams": st.lists(st.sampled_from((*_TEAMS, "none")), unique=True, max_size=2),
        "accessibleWorkers": st.lists(st.sampled_from(_AGENTS), unique=True, max_size=3),
    }
)
