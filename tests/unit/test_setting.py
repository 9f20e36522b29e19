"""Single fields of a document, set as somebody typed them."""

from typing import Any

import pytest

from appservice.errors import Invalid
from appservice.resources.setting import with_fields

DECLARED: dict[str, Any] = {
    "kind": "Worker",
    "metadata": {"name": "ada"},
    "spec": {"model": "m", "channelPolicy": {"dmDenyExtra": ["bob"]}},
}


@pytest.mark.parametrize(
    ("assignment", "spec"),
    [
        ("spec.model=n", {"model": "n"}),
        ("model=n", {"model": "n"}),
        ("soul=Be brief: always.", {"soul": "Be brief: always."}),
        ("soul=a=b", {"soul": "a=b"}),
        ("soul=no", {"soul": "no"}),
        ("soul=true", {"soul": "true"}),
        ("model=4", {"model": "4"}),
        ("model='4'", {"model": "4"}),
        ("identity=[draft] ada", {"identity": "[draft] ada"}),
        ("channelPolicy.dmDenyExtra.0=7", {"channelPolicy": {"dmDenyExtra": ["7"]}}),
        ("labels.port=80", {"labels": {"port": "80"}}),
        ("count=3", {"count": 3}),
        ("count='3'", {"count": "3"}),
        ("flag=true", {"flag": True}),
        ("skills=[a, b]", {"skills": ["a", "b"]}),
        ("channelPolicy.dmDenyExtra=", {"channelPolicy": {}}),
        ("state=", {}),
        ("channelPolicy.groupDenyExtra=[x]", {"channelPolicy": {"dmDenyExtra": ["bob"], "groupDenyExtra": ["x"]}}),
    ],
)
def test_an_assignment_changes_its_field_and_no_other(assignment: str, spec: dict[str, Any]) -> None:
    before = repr(DECLARED)
    changed = with_fields(DECLARED, [assignment])
    assert changed == DECLARED | {"spec": DECLARED["spec"] | spec}
    assert repr(DECLARED) == before


def test_a_label_may_have_dots_in_its_name() -> None:
    changed = with_fields(DECLARED, ["labels.app.kubernetes.io/name=web", "metadata.labels.a.b/c=d"])
    assert changed["spec"]["labels"] == {"app.kubernetes.io/name": "web"}
    assert changed["metadata"]["labels"] == {"a.b/c": "d"}


def test_metadata_is_named_in_full() -> None:
    assert with_fields(DECLARED, ["metadata.labels.team=x"])["metadata"] == {"name": "ada", "labels": {"team": "x"}}


@pytest.mark.parametrize("map_", ["labels", "annotations"])
def test_a_key_of_labels_has_its_dots(map_: str) -> None:
    changed = with_fields(DECLARED, [f"metadata.{map_}.opsroom.io/set=shop"])
    assert changed["metadata"] == {"name": "ada", map_: {"opsroom.io/set": "shop"}}
    assert with_fields(changed, [f"metadata.{map_}.opsroom.io/set="])["metadata"] == {"name": "ada", map_: {}}


@pytest.mark.parametrize(
    "assignment",
    [
        "model",
        "=x",
        "a..b=x",
        "metadata.labels.=x",
        "model.size=3",
        "skills=[a",
        "skills={a: b",
        "count=.nan",
        'soul="a',
        "modle=",
        "modle.size=",
        "channelPolicy.dmDeny=",
        "metadata.lables.team=",
    ],
)
def test_what_sets_nothing_is_refused(assignment: str) -> None:
    with pytest.raises(Invalid):
        with_fields(DECLARED, [assignment])


def test_an_item_of_a_list_is_counted_from_0() -> None:
    declared = {"kind": "Team", "spec": {"workers": [{"name": "ben"}, {"name": "carla"}]}}
    assert with_fields(declared, ["workers.1.model=m"])["spec"]["workers"] == [
        {"name": "ben"},
        {"name": "carla", "model": "m"},
    ]
    assert with_fields(declared, ["workers.0="])["spec"]["workers"] == [{"name": "carla"}]
    with pytest.raises(Invalid, match="names no item of its list"):
        with_fields(declared, ["workers.2.model=m"])


def test_items_are_counted_as_they_were_before_the_command() -> None:
    declared = {"kind": "Worker", "spec": {"skills": ["a", "b", "c", "d"]}}
    assert with_fields(declared, ["skills.0=", "skills.1="])["spec"]["skills"] == ["c", "d"]
    assert with_fields(declared, ["skills.0=", "skills.3=x"])["spec"]["skills"] == ["b", "c", "x"]
    assert with_fields(declared, ["skills.0=", "skills.0=x"])["spec"]["skills"] == ["x", "b", "c", "d"]
    assert declared == {"kind": "Worker", "spec": {"skills": ["a", "b", "c", "d"]}}


def test_nothing_can_be_set_inside_of_what_the_same_command_unsets() -> None:
    with pytest.raises(Invalid, match="has no fields"):
        with_fields({"kind": "Team", "spec": {"workers": [{"name": "ben"}]}}, ["workers.0=", "workers.0.model=m"])


def test_a_mistyped_field_of_an_item_that_is_unset_gets_the_nearest_name() -> None:
    with pytest.raises(Invalid, match="is not a field of") as refused:
        with_fields({"kind": "Team", "spec": {"workers": [{"name": "ben", "model": "m"}]}}, ["workers.0.modle="])
    assert "Did you mean `model`?" in str(refused.value)
