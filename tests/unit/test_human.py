"""What a Human may say, and what is said when it may not."""

import pytest

from appservice.errors import Invalid
from appservice.resources.human import KIND, PENDING, HumanSpec
from appservice.resources.registry import parse

HEAD = "apiVersion: hiclaw.io/v1beta1\nkind: Human\nmetadata:\n  name: john\nspec:\n"
BOTH = "  displayName: John Doe\n  permissionLevel: 2\n"


def spec(lines: str) -> HumanSpec:
    found = parse((HEAD + lines).encode(), source="h.yaml")[0].spec
    assert isinstance(found, HumanSpec)
    return found


def test_only_the_name_to_show_and_the_level_are_required() -> None:
    found = spec(BOTH)

    assert (found.display_name, found.permission_level) == ("John Doe", 2)
    assert (found.email, found.accessible_teams, found.accessible_workers, found.note) == ("", (), (), "")


@pytest.mark.parametrize("level", [1, 2, 3])
def test_every_level_may_keep_teams_and_workers(level: int) -> None:
    lists = "  accessibleTeams: [frontend-team]\n  accessibleWorkers: [devops-alice]\n"

    found = spec(f"  displayName: J\n  permissionLevel: {level}\n{lists}")

    assert (found.permission_level, found.accessible_teams) == (level, ("frontend-team",))
    assert found.accessible_workers == ("devops-alice",)


@pytest.mark.parametrize(
    ("lines", "where", "said"),
    [
        ("  permissionLevel: 1\n", "line 5, spec.displayName", "Add `displayName:` with a value."),
        ("  displayName: J\n", "line 5, spec.permissionLevel", "Add `permissionLevel:` with a value."),
        (
            "  displayName: J\n  permissionLevel: 0\n",
            "line 7, spec.permissionLevel",
            "1 (everywhere, like an administrator), 2 (the teams and workers named here) or 3 (these workers only).",
        ),
        ("  displayName: J\n  permissionLevel: 4\n", "line 7, spec.permissionLevel", "is not a permission level"),
        ('  displayName: J\n  permissionLevel: "2"\n', "line 7, spec.permissionLevel", "Remove the quotes: 2."),
        ("  displayName: J\n  permissionLevel: true\n", "line 7, spec.permissionLevel", "must be a whole number"),
        ('  displayName: ""\n  permissionLevel: 1\n', "line 6, spec.displayName", "Write for example `displayName: J"),
        ('  displayName: " "\n  permissionLevel: 1\n', "line 6, spec.displayName", "has no name to show"),
        (f"{BOTH}  email: john\n", "line 8, spec.email", "Write it as alice@example.org."),
        (f"{BOTH}  email: john doe@x.org\n", "line 8, spec.email", "is not an e-mail address"),
        (f"{BOTH}  accessibleTeams: [a, a]\n", "line 8, spec.accessibleTeams", "The team a is listed twice."),
        (f"{BOTH}  accessibleWorkers: [a, b, a]\n", "line 8, spec.accessibleWorkers", "The worker a is listed twice."),
        (f"{BOTH}  accessibleWorkers: [a, Bob]\n", "line 8, spec.accessibleWorkers[1]", "Try `bob`."),
        (f"{BOTH}  teams: [a]\n", "line 8, spec.teams", "accessibleTeams"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_way_to_mend_it(lines: str, where: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        spec(lines)

    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(f"h.yaml, {where}: ")
    assert said in str(caught.value)


def test_an_address_is_kept_and_gets_no_mail_yet() -> None:
    found = spec(f"{BOTH}  email: john@example.com\n")

    assert found.email == "john@example.com"
    assert KIND.pending(found) == ("email",) == tuple(PENDING)
    assert KIND.pending(spec(BOTH)) == ()
