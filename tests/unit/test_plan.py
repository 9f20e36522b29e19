"""What an apply would do, told before it is done."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appservice.ops import plan
from appservice.reconcile import plan as planning
from appservice.resources import registry
from appservice.resources.difference import NOTHING, changes
from appservice.store.changes import Key
from appservice.store.objects import Stored
from tests.support.declared import Company
from tests.support.rosters import human, manager, team, worker

HEAD = "apiVersion: hiclaw.io/v1beta1\nkind: Worker\nmetadata:\n  name: ada\nspec:\n  model: m\n"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
MAPS = st.dictionaries(st.text(max_size=2), VALUES, max_size=4)


def told(before: str, after: str) -> str:
    known = {stored.key: stored for stored in [_stored(before)]} if before else {}
    return plan.told(planning.plan(registry.parse(after.encode(), source="ada.yaml"), known))


def _stored(text: str) -> Stored:
    [document] = registry.parse(text.encode(), source="ada.yaml")
    return Stored(
        kind=document.kind,
        name=document.name,
        api_version=document.api_version,
        document=registry.canonical(document),
        text=text,
        generation=1,
        restart="",
        author="@op:hs",
        cause="$e",
        created_at=0,
        changed_at=0,
        deleting=False,
        finalizers=(),
        owner="",
        paused=False,
    )


@given(MAPS, MAPS)
def test_the_differences_make_one_document_of_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    found = changes(before, after)
    assert (found == []) == (before == after)
    for change in found:
        assert _at(before, change.path) == change.before
        assert _at(after, change.path) == change.after


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        if isinstance(value, dict) and part not in value:
            return NOTHING
        value = value[part]
    return value


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("", "  soul: be brief\n", "`spec.soul`: + `be brief`"),
        ("  soul: be brief\n", "", "`spec.soul`: − `be brief`"),
        ("", "  soul: |\n    a\n    b\n", "`spec.soul`: + text of 2 lines, 4 characters"),
        ("", "  image: other/image:1\n", "its sandbox is made anew"),
        ("", "  labels: {tier: demo}\n", "its sandbox is made anew"),
        ("", "  state: Sleeping\n", "a mention wakes it"),
        ("", "  channelPolicy: {dmDenyExtra: [bob]}\n", '`spec.channelPolicy`: + `{"dmDenyExtra": ["bob"]}`'),
        ("  skills: [notes]\n", "  skills: [other]\n", "`spec.skills[0]`: `notes` → `other`"),
    ],
)
def test_a_plan_names_each_field_and_what_follows(before: str, after: str, words: str) -> None:
    text = told(HEAD + before, HEAD + after)
    assert "**change** `worker/ada`" in text
    assert words in text
    assert text.endswith("Nothing was changed. `!apply` does it.")


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        ("Worker", "{model: m}", "its sandbox is made anew"),
        ("Manager", "{model: m}", "its sandbox is made anew"),
        ("Team", "{leader: {name: lena, model: m}}", "the sandboxes of its agents are made anew"),
    ],
)
def test_a_label_of_the_metadata_makes_sandboxes_anew_unless_it_is_ours(kind: str, spec: str, words: str) -> None:
    def written(labels: str) -> str:
        return f"apiVersion: hiclaw.io/v1beta1\nkind: {kind}\nmetadata: {{name: ada{labels}}}\nspec: {spec}\n"

    one, two = written(", labels: {tier: demo}"), written(", labels: {tier: gold}")
    assert words in told(written(""), one)
    assert words in told(one, two)
    assert words not in told(written(""), written(", labels: {opsroom.io/set: all}"))


def test_a_plan_says_what_is_new() -> None:
    assert "**create** `worker/ada`" in told("", HEAD)


def test_a_plan_of_what_is_so_already_says_no_changes() -> None:
    assert told(HEAD, HEAD + "  state: Running\n").startswith("No changes")


def test_a_key_of_a_plan_is_that_of_its_object() -> None:
    [step] = planning.plan(registry.parse(HEAD.encode(), source="ada.yaml"), {})
    assert step.key == Key("Worker", "ada")


ANEW = "its sandbox is made anew, its files stay"


def _team(leader: str, *workers: str) -> str:
    listed = "".join(f"  - {{model: m, {one}}}\n" for one in workers)
    head = "---\napiVersion: hiclaw.io/v1beta1\nkind: Team\nmetadata: {name: dev}\nspec:\n"
    return f"{head}  leader: {{model: m, {leader}}}\n  workers:\n{listed}"


def steps_of(before: str, after: str) -> list[str]:
    known = Company(before).stored
    return plan.told(planning.plan(registry.parse(after.encode(), source="all.yaml"), known)).splitlines()[:-2]


def test_a_new_member_hides_no_change_of_another_one() -> None:
    before = _team("name: lena", "name: ben, image: x:1", "name: cy")
    after = _team("name: lena", "name: dora", "name: ben, image: x:2")
    assert steps_of(before, after) == [
        "- **change** `team/dev`",
        f"  - `spec.workers[ben].image`: `x:1` → `x:2`; {ANEW}",
        '  - `spec.workers[cy]`: − `{"name": "cy", "model": "m"}`',
        '  - `spec.workers[dora]`: + `{"name": "dora", "model": "m"}`',
        "- **create** `worker/dora`: part of `team/dev`",
        "- **delete** `worker/cy`: its sandbox, token, storage user and room go; its files stay",
    ]


def test_members_in_another_order_restart_nothing() -> None:
    before = _team("name: lena", "name: ben, image: x:1", "name: cy, image: y:1")
    after = _team("name: lena", "name: cy, image: y:1", "name: ben, image: x:1")
    assert steps_of(before, after) == [
        "- **change** `team/dev`",
        '  - `spec.workers`: `["ben", "cy"]` → `["cy", "ben"]`; only their order: nothing restarts',
    ]


def test_items_of_any_list_that_have_names_are_compared_by_them() -> None:
    before = "  mcpServers: [{name: a, url: 'http://a.org'}, {name: b, url: 'http://b.org'}]\n"
    after = "  mcpServers: [{name: b, url: 'http://c.org'}]\n"
    text = told(HEAD + before, HEAD + after)
    assert "`spec.mcpServers[b].url`: `http://b.org` → `http://c.org`" in text
    assert "`spec.mcpServers[a]`: −" in text


def test_a_leader_and_a_member_that_change_places_get_new_sandboxes() -> None:
    before, after = _team("name: lena, image: x:1", "name: ben"), _team("name: ben", "name: lena, image: x:1")
    found = steps_of(before, after)
    assert f"- **change** `worker/ben`: member of `team/dev` → leader of `team/dev`; {ANEW}" in found
    assert f"- **change** `worker/lena`: leader of `team/dev` → member of `team/dev`; {ANEW}" in found
    assert "  - `spec.leader.image`: − `x:1`" in found  # of no agent: lena keeps hers


def test_an_agent_that_moves_gets_a_new_sandbox_and_keeps_its_files() -> None:
    before = team("dev", "lena", "ben") + team("qa", "quentin")
    found = steps_of(before, team("dev", "lena") + team("qa", "quentin", "ben"))
    assert f"- **change** `worker/ben`: member of `team/dev` → member of `team/qa`; {ANEW}" in found
    found = steps_of(before, worker("ben", "soul: x") + team("dev", "lena"))
    assert found[:2] == [
        f"- **change** `worker/ben`: member of `team/dev` → on its own; {ANEW}",
        "  - `spec.soul`: + `x`; from its next turn on",
    ]
    assert not any("**delete**" in line for line in found)


def test_an_agent_that_comes_back_while_it_is_deleted_is_told() -> None:
    stored = dict(Company(team("dev", "lena", "ben")).stored)
    known = stored | {Key("Worker", "ben"): replace(stored[Key("Worker", "ben")], deleting=True)}
    steps = planning.plan(registry.parse(team("dev", "lena", "ben").encode(), source="all.yaml"), known)
    assert [(str(step.key), step.action, step.note) for step in steps] == [
        ("team/dev", "none", ""),
        ("worker/ben", "change", "its deletion is taken back"),
    ]


def test_what_is_named_and_not_declared_is_told_in_any_order() -> None:
    bob = human("bob", 2, "accessibleTeams: [dev, qa], accessibleWorkers: [ben, ghost]")
    access = "There is no team qa and no worker ghost yet; access begins when there is."
    dev = team("dev", "lena", "ben")
    assert steps_of(dev, bob) == [f"- **create** `human/bob`: {access}"]
    assert steps_of(manager(), bob + dev)[0] == f"- **create** `human/bob`: {access}"
    assert steps_of(dev, team("dev", "lena") + bob)[2] == f"- **create** `human/bob`: {access}".replace(
        "worker ghost", "worker ben and no worker ghost"
    )


def test_a_matrix_id_in_a_policy_that_was_an_agents_in_hiclaw_is_told() -> None:
    lena = "lena, channelPolicy: {groupDenyExtra: ['@ben:hs', '@agent-ben:hs', '@zoe:hs', ben]}"
    said = "`@ben:hs` in a channelPolicy is a person; the agent is `ben`"
    assert steps_of(manager(), team("dev", lena, "ben"))[0] == f"- **create** `team/dev`: {said}"
    ada = worker("ada", "channelPolicy: {dmAllowExtra: ['@ben:hs']}")
    assert steps_of(team("dev", "lena", "ben"), ada) == [f"- **create** `worker/ada`: {said}"]
    assert steps_of(team("dev", "lena"), ada) == ["- **create** `worker/ada`"]


def test_an_admin_that_nobody_declares_is_told() -> None:
    run_by_zoe = team("dev", "lena", fields="admin: {name: zoe}")
    told_of_zoe = "Its admin zoe is not declared as a Human; the rooms wait until there is such an account."
    assert steps_of(manager(), run_by_zoe)[0] == f"- **create** `team/dev`: {told_of_zoe}"
    assert steps_of(manager(), run_by_zoe + human("zoe", 1))[0] == "- **create** `team/dev`"
    assert steps_of(run_by_zoe, worker("ada") + run_by_zoe)[1] == f"- unchanged `team/dev`: {told_of_zoe}"
    in_full = team("dev", "lena", fields="admin: {name: z, matrixUserId: '@zoe:hs'}")
    assert steps_of(human("zoe", 1), in_full)[0] == "- **create** `team/dev`"
