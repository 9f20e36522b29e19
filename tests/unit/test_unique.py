"""No two things of one file become the same Matrix user."""

import pytest

from appservice.errors import Invalid
from appservice.resources.registry import parse

VERSION = "apiVersion: hiclaw.io/v1beta1\n"


def document(kind: str, name: str, spec: str) -> str:
    return f"{VERSION}kind: {kind}\nmetadata:\n  name: {name}\nspec:\n{spec}---\n"


def worker(name: str) -> str:
    return document("Worker", name, "  model: m\n")


def human(name: str) -> str:
    return document("Human", name, "  displayName: J\n  permissionLevel: 1\n")


def manager(name: str) -> str:
    return document("Manager", name, "  model: m\n")


def team(name: str, leader: str, *workers: str) -> str:
    listed = "".join(f"    - {{name: {each}, model: m}}\n" for each in workers)
    return document("Team", name, f"  leader: {{name: {leader}, model: m}}\n  workers:\n{listed}")


@pytest.mark.parametrize(
    ("text", "where", "second", "first"),
    [
        (worker("alice") + human("alice"), "line 11, metadata.name", 'Human "alice"', 'Worker "alice" on line 4'),
        (human("alice") + manager("alice"), "line 12, metadata.name", 'Manager "alice"', 'Human "alice" on line 4'),
        (
            worker("alice") + team("dev", "lena", "ben", "alice"),
            "line 16, spec.workers[1].name",
            'Member "alice" of Team "dev"',
            'Worker "alice" on line 4',
        ),
        (
            team("dev", "alice", "ben") + worker("alice"),
            "line 13, metadata.name",
            'Worker "alice"',
            'Leader "alice" of Team "dev" on line 6',
        ),
        (
            team("dev", "lena", "alice") + team("web", "alice", "ben"),
            "line 15, spec.leader.name",
            'Leader "alice" of Team "web"',
            'Member "alice" of Team "dev" on line 8',
        ),
    ],
)
def test_one_name_for_two_users_is_refused_at_the_second(text: str, where: str, second: str, first: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text.encode(), source="x.yaml")

    assert str(caught.value) == (
        f"x.yaml, {where}: {second} has the same name in Matrix as {first}. "
        "Rename one of them: @alice can mean only one."
    )


def test_each_thing_that_takes_a_name_is_a_problem_of_its_own() -> None:
    with pytest.raises(Invalid) as caught:
        parse((worker("alice") + human("alice") + manager("alice")).encode(), source="x.yaml")

    assert len(caught.value.problems) == 2
    assert str(caught.value).count('Worker "alice" on line 4.') == 2


@pytest.mark.parametrize(
    "text",
    [
        team("dev", "lena", "ben") + worker("dev") + human("john"),
        team("dev", "dev", "ben") + team("web", "web", "carla"),
        manager("default") + worker("default"),
        manager("default") + manager("night"),
    ],
)
def test_a_team_is_no_user_and_the_default_manager_is_called_manager(text: str) -> None:
    assert len(parse(text.encode(), source="x.yaml")) == text.count("---")


def test_one_document_declared_twice_is_one_problem() -> None:
    with pytest.raises(Invalid) as caught:
        parse((worker("alice") + worker("alice")).encode(), source="x.yaml")

    assert len(caught.value.problems) == 1
    assert "is declared twice" in str(caught.value)
