"""The JSON Schema of the YAML against the models it is made from."""

import json
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from appservice.cli.main import main
from appservice.errors import OpsroomError
from appservice.resources import registry, schema
from tests.support.documentation import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("**/*.yaml"))


def faults(document: Any, kind: str = "") -> list[str]:
    return [error.message for error in Draft202012Validator(schema.schema(kind)).iter_errors(document)]


def worker(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "alice"}
    return {"apiVersion": "hiclaw.io/v1beta1", "kind": "Worker", "metadata": metadata, "spec": {"model": "x", **spec}}


@pytest.mark.parametrize("kind", ["", *registry.KINDS])
def test_it_is_a_valid_schema(kind: str) -> None:
    Draft202012Validator.check_schema(schema.schema(kind))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_that_ships_is_accepted(path: Any) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        assert faults(document) == []


@pytest.mark.parametrize("kind", registry.KINDS)
def test_the_example_of_each_kind_is_accepted_and_a_field_too_many_is_not(kind: str) -> None:
    document = yaml.safe_load(registry.KINDS[kind].example)
    assert faults(document) == []
    assert faults(document, kind) == []

    document["spec"]["modle"] = "x"
    assert faults(document) != []
    assert "modle" in faults(document, kind)[0]


@pytest.mark.parametrize(
    "document",
    [
        worker(),
        worker(mcpServers=["github", {"name": "search", "url": "https://search.example/mcp", "transport": "sse"}]),
        worker(state="Stopped", expose=[{"port": 8000}], skills=["notes"]),
        worker(state="Asleep"),
        worker(expose=[{"port": 0}]),
        worker(skills="notes"),
        worker(skills=["No Skill"]),
        worker(model=7),
        worker() | {"metadata": {"name": "Alice"}},
        worker() | {"metadata": {"name": "manager"}},
        worker() | {"metadata": {"name": "alice", "uid": "1", "resourceVersion": "7"}, "status": {"phase": "Running"}},
        worker() | {"apiVersion": "v1"},
        worker() | {"extra": 1},
        worker() | {"spec": {}},
    ],
    ids=lambda document: json.dumps(document)[60:120],
)
def test_it_says_what_the_reader_says(document: dict[str, Any]) -> None:
    try:
        registry.parse(json.dumps(document).encode(), source="x.yaml")
        read = True
    except OpsroomError:
        read = False

    assert (faults(document) == []) is read
    assert (faults(document, "Worker") == []) is read


def test_what_does_not_take_effect_yet_is_said_at_its_field() -> None:
    found = schema.schema()["$defs"]
    for kind, field, sentence in schema.pending():
        spec, *path = f"{kind}Spec", *field.split(".")
        for name in path[:-1]:
            inner = found[spec]["properties"][name]
            spec = inner.get("items", inner)["$ref"].removeprefix(schema.DEFS)
        assert sentence in found[spec]["properties"][path[-1]]["description"], (kind, field)


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema.schema()
    assert main(["schema", "wk"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Worker"


def test_the_command_lists_what_is_pending(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--pending"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(list(schema.pending()))
    assert [line for line in lines if line.startswith("Human") and "spec.email" in line and "No mail" in line]

    assert main(["schema", "frog"]) == 2
    assert "Worker, Team" in capsys.readouterr().err
