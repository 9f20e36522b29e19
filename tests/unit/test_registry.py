"""From a file to all its documents, whatever their kind."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appservice.errors import Invalid
from appservice.resources.names import LONGEST, NAME, RESERVED, fault_in_name, repaired
from appservice.resources.printing import to_yaml
from appservice.resources.registry import KINDS, NOT_YET, canonical, find_kind, parse

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("**/*.yaml"))
HEAD = "apiVersion: hiclaw.io/v1beta1\nkind: Worker\n"
WORKER = f"{HEAD}metadata:\n  name: alice\nspec:\n  model: m\n"


def refusal(text: str) -> str:
    with pytest.raises(Invalid) as caught:
        parse(text.encode(), source="x.yaml")
    return str(caught.value)


def test_every_example_is_valid() -> None:
    assert EXAMPLES
    for path in EXAMPLES:
        assert parse(path.read_bytes(), source=path.name), path


def test_the_full_example_shows_every_field_of_a_worker() -> None:
    path = next(path for path in EXAMPLES if path.name == "full-worker.yaml")
    document = parse(path.read_bytes(), source=path.name)[0]

    assert set(document.data["spec"]) == {info.alias for info in KINDS["Worker"].spec.model_fields.values()}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_has_an_example_that_is_of_that_kind(kind: Any) -> None:
    document = parse(kind.example.encode(), source="example.yaml")[0]

    assert document.kind == kind.name
    assert isinstance(document.spec, kind.spec)
    assert document.api_version in kind.api_versions


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_is_found_by_all_its_words(kind: Any) -> None:
    assert all(find_kind(word) is kind for word in (kind.name, *kind.words, kind.plural.upper()))


def test_an_unknown_word_is_no_kind() -> None:
    assert find_kind("pods") is None


def test_no_words_of_two_kinds_are_the_same() -> None:
    words = [word for kind in KINDS.values() for word in kind.words]

    assert len(words) == len(set(words))


@pytest.mark.parametrize("kind", NOT_YET)
def test_a_kind_that_comes_later_is_refused_by_name(kind: str) -> None:
    assert f"{kind} is not supported yet." in refusal(f"apiVersion: x/v1\nkind: {kind}\nspec: {{}}\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WORKER.replace("Worker", "Wroker"), "Did you mean `Worker`?"),
        (WORKER.replace("Worker", "Pod"), "Supported kinds: Worker, Team, Human, Manager."),
        (WORKER.replace("v1beta1", "v1"), "Write `apiVersion: hiclaw.io/v1beta1`."),
        (WORKER.replace("kind: Worker\n", ""), "`kind` is missing."),
        (f"{HEAD}spec:\n  model: m\n", "`metadata` is missing."),
        (WORKER.replace("spec:", "specs:"), "Did you mean `spec`?"),
        (WORKER + "soul: x\n", "Move it below `spec:`"),
        (WORKER.replace("name: alice", "name: Alice Müller"), "Try `alice-muller`."),
        (WORKER.replace("name: alice", "name: true"), 'Quote it: "true".'),
        (WORKER.replace("name: alice", "name: admin"), "is reserved"),
        (WORKER.replace("name: alice", "name: alice\n  label: {}"), "Did you mean `labels`?"),
        (WORKER.replace("name: alice", "name: alice\n  labels: {a: 1}"), 'Quote it: "1".'),
        (f"{WORKER}---\n{WORKER}", 'Worker "alice" is declared twice; the first is on line 4.'),
        (f"{WORKER}---\n- a\n", "A document must be a map of fields"),
        ("# nothing\n---\n---\n", "The file has no document in it."),
    ],
)
def test_a_mistake_around_the_spec_is_one_problem(text: str, said: str) -> None:
    found = refusal(text)

    assert said in found
    assert found.count("\n") == 0


def test_problems_of_all_documents_are_reported_together() -> None:
    broken = WORKER.replace("model", "modle")

    found = refusal(f"{broken}---\n{broken.replace('alice', 'bob')}---\nkind: [\n")

    assert [part in found for part in ("line 6,", "line 13,", "line 15:")] == [True] * 3


def test_what_a_kubernetes_server_adds_is_ignored() -> None:
    exported = WORKER.replace(
        "  name: alice\n",
        "  name: alice\n  namespace: hiclaw\n  uid: x\n  creationTimestamp: null\n  finalizers: [hiclaw.io/cleanup]\n",
    )

    found = parse(f"{exported}status: {{phase: Running, note: on}}\n".encode(), source="x.yaml")[0]

    assert canonical(found) == canonical(parse(WORKER.encode(), source="x.yaml")[0])
    assert set(found.data) == {"apiVersion", "kind", "metadata", "spec"}
    kept = parse(found.text.encode(), source="x.yaml")[0]
    assert kept.data == found.data
    assert not [word for word in ("uid", "finalizers", "status") if f"{word}:" in found.text]


def test_labels_are_kept() -> None:
    text = WORKER.replace("name: alice", "name: alice\n  labels: {a.org/b: no}\n  annotations: {note: 'x y'}")

    found = parse(text.encode(), source="x.yaml")[0]

    assert (found.labels, found.annotations) == ({"a.org/b": "no"}, {"note": "x y"})


def test_a_problem_found_later_is_located_in_the_document() -> None:
    document = parse(f"{WORKER}  skills:\n    - notes\n".encode(), source="x.yaml")[0]

    problem = document.problem(("spec", "skills", 0), "There is no skill notes.")

    assert str(problem) == "x.yaml, line 8, spec.skills[0]: There is no skill notes."


@given(st.text(max_size=100))
def test_a_repaired_name_is_allowed_or_empty(name: str) -> None:
    repair = repaired(name)

    assert repair == "" or fault_in_name(repair) is None
    assert len(repair) <= LONGEST


@given(st.from_regex(NAME, fullmatch=True).filter(lambda name: name not in RESERVED))
def test_an_allowed_name_is_its_own_repair(name: str) -> None:
    assert repaired(name) == name


NAMES = st.sampled_from(["alpha", "bravo", "carol", "delta"])
PORTS = st.lists(st.integers(1, 65535), unique=True, max_size=3)
DEFAULTS: dict[str, Any] = {
    "runtime": "native",
    "image": "",
    "identity": "",
    "soul": "",
    "agents": "",
    "skills": [],
    "mcpServers": [],
    "package": "",
    "expose": [],
    "channelPolicy": {"groupAllowExtra": [], "groupDenyExtra": [], "dmAllowExtra": [], "dmDenyExtra": []},
    "state": "Running",
    "labels": {},
    "accessEntries": [],
}
SPECS = st.fixed_dictionaries(
    {"model": NAMES},
    optional={
        "runtime": st.sampled_from(["native", "openclaw"]),
        "soul": st.text("ab \n:#'\"é", max_size=20),
        "skills": st.lists(NAMES, unique=True),
        "mcpServers": st.lists(NAMES, unique=True),
        "expose": PORTS.map(lambda ports: [{"port": port} for port in ports]),
        "channelPolicy": st.dictionaries(st.sampled_from(["dmDenyExtra", "groupAllowExtra"]), st.lists(NAMES)),
        "state": st.sampled_from(["Running", "Sleeping", "Stopped"]),
        "labels": st.dictionaries(NAMES, NAMES),
        "accessEntries": st.just([{"service": "object-storage", "scope": {"prefixes": ["shared/a/*"]}}]),
    },
)


def declared(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    found = {
        "apiVersion": "hiclaw.io/v1beta1",
        "kind": "Worker",
        "metadata": {"name": "alice", **metadata},
        "spec": spec,
    }
    return canonical(parse(to_yaml(found).encode(), source="x.yaml")[0])


def test_defaults_are_written_out_for_every_field_in_this_test() -> None:
    assert set(DEFAULTS) | {"model"} == {info.alias for info in KINDS["Worker"].spec.model_fields.values()}


@given(SPECS)
@settings(deadline=None)
def test_a_field_stated_with_its_default_is_the_same_as_one_left_out(spec: dict[str, Any]) -> None:
    stated = DEFAULTS | spec
    stated["channelPolicy"] = DEFAULTS["channelPolicy"] | spec.get("channelPolicy", {})
    stated["mcpServers"] = [{"name": name, "url": "", "transport": "http"} for name in spec.get("mcpServers", [])]
    stated["expose"] = [entry | {"protocol": "http"} for entry in spec.get("expose", [])]
    stated["accessEntries"] = [
        entry | {"permissions": ["list", "read"], "scope": {"bucket": "", "bucketRef": "", "prefixes": ["shared/a"]}}
        for entry in spec.get("accessEntries", [])
    ]

    assert declared(spec) == declared(stated, labels={}, annotations={})


@given(SPECS)
@settings(deadline=None)
def test_the_canonical_form_reads_back_as_itself(spec: dict[str, Any]) -> None:
    once = declared(spec)

    again = canonical(parse(to_yaml(once).encode(), source="x.yaml")[0])

    assert again == once


@pytest.mark.parametrize(
    ("field", "value"), [("soul", "x"), ("state", "Stopped"), ("expose", [{"port": 1}]), ("skills", ["a"])]
)
def test_a_changed_field_changes_the_canonical_form(field: str, value: object) -> None:
    assert declared({"model": "m", field: value}) != declared({"model": "m"})
