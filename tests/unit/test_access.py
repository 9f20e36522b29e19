"""What `accessEntries` may say, and which rights follow from it."""

import pytest

from appservice.errors import Invalid
from appservice.reconcile import given
from appservice.resources.access import Permission
from appservice.resources.registry import canonical, parse
from appservice.resources.worker import WorkerSpec
from appservice.storage.protocol import Access, Grant
from appservice.store.changes import Key
from tests.support.declared import Company

HEAD = "apiVersion: hiclaw.io/v1beta1\nkind: Worker\nmetadata: {name: alice}\nspec:\n  model: m\n  accessEntries:\n"
READ: frozenset[Permission] = frozenset({"read", "list"})
CHANGE: frozenset[Permission] = frozenset({"write", "delete"})


def entry(prefix: str, rest: str = "", scope: str = "") -> str:
    return f"    - {{service: object-storage, scope: {{prefixes: ['{prefix}']{scope}}}{rest}}}\n"


def refusal(text: str) -> str:
    with pytest.raises(Invalid) as caught:
        parse(text.encode(), source="w.yaml")
    assert len(caught.value.problems) == 1
    return str(caught.value)


def access(text: str, name: str = "alice") -> Access:
    company = Company(text)
    spec = WorkerSpec.model_validate(company.stored[Key("Worker", name)].document["spec"])
    return given.access(spec, company.roster.agents[name])


def test_an_agent_without_entries_has_its_usual_access() -> None:
    found = access("apiVersion: hiclaw.io/v1beta1\nkind: Worker\nmetadata: {name: alice}\nspec: {model: m}\n")

    assert found == Access(write=("agents/alice/",), read=("shared/",))


def test_an_entry_adds_to_the_usual_access() -> None:
    found = access(HEAD + entry("shared/reports/*", ", permissions: [write, delete]") + entry("agents/bob/"))

    assert (found.write, found.read) == (("agents/alice/",), ("shared/",))
    assert found.grants == (
        Grant(prefix="shared/reports/", permissions=CHANGE),
        Grant(prefix="agents/bob/", permissions=READ),
    )


@pytest.mark.parametrize("written", ["shared/a", "shared/a/", "shared/a/*"])
def test_a_folder_is_written_in_several_ways_and_means_one(written: str) -> None:
    [document] = parse((HEAD + entry(written)).encode(), source="w.yaml")

    assert canonical(document)["spec"]["accessEntries"][0]["scope"] == {"prefixes": ["shared/a/"]}


def test_permissions_are_the_same_in_any_order_and_when_none_are_stated() -> None:
    texts = [entry("a/", rest) for rest in ("", ", permissions: []", ", permissions: [list, read]")]
    found = [canonical(parse((HEAD + text).encode(), source="w.yaml")[0]) for text in texts]

    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("scope", [", bucket: hiclaw-storage", ", bucket: hiclaw", ", bucketRef: workspace"])
def test_the_bucket_of_a_file_for_hiclaw_is_our_own(scope: str) -> None:
    assert access(HEAD + entry("a/", scope=scope)) == access(HEAD + entry("a/", scope=", bucket: opsroom"))


def test_variables_are_those_of_the_agent() -> None:
    prefix = "x/${self.name}/${self.kind}/${self.namespace}/${self.team}"
    access_entries = f"accessEntries: [{{service: object-storage, scope: {{prefixes: ['{prefix}']}}}}]"
    team = f"""\
apiVersion: hiclaw.io/v1beta1
kind: Team
metadata: {{name: dev}}
spec:
  leader: {{name: lena, model: m, {access_entries}}}
  workers: [{{name: ben, model: m, {access_entries}}}]
"""
    manager = f"""\
apiVersion: hiclaw.io/v1beta1
kind: Manager
metadata: {{name: default}}
spec: {{model: m, {access_entries.replace("/${self.team}", "")}}}
"""

    assert [grant.prefix for grant in access(team, "lena").grants] == ["x/lena/TeamLeader/default/dev/"]
    assert [grant.prefix for grant in access(team, "ben").grants] == ["x/ben/TeamWorker/default/dev/"]
    assert [grant.prefix for grant in access(manager, "manager").grants] == ["x/manager/Manager/default/"]
    assert [grant.prefix for grant in access(HEAD + entry("${self.kind}")).grants] == ["Worker/"]


@pytest.mark.parametrize("kind", ["Worker", "Manager"])
def test_a_team_is_not_spoken_of_where_there_is_none(kind: str) -> None:
    said = refusal((HEAD + entry("teams/${self.team}/x")).replace("Worker", kind))

    assert f'spec.accessEntries[0].scope.prefixes[0]: {kind} "alice" belongs to no team' in said


@pytest.mark.parametrize(
    "prefix", ["", "*", "/", "/*", "/a", "a//b", "../a", "a/../b", "a/./b", "a/*/b", "a*", "a?", "$x/a"]
)
def test_what_is_no_plain_folder_is_refused(prefix: str) -> None:
    assert "spec.accessEntries[0].scope.prefixes[0]" in (said := refusal(HEAD + entry(prefix)))
    assert "is not a folder of the bucket. Write it like `shared/reports/`." in said


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (entry("a/${self.nam}"), 'prefixes[0]: "self.nam" is not a variable. Did you mean `self.name`?'),
        (entry("a/${aws:username}"), "is not a variable."),
        (entry("a/", scope=", bucket: reports"), 'scope.bucket: There is no bucket "reports" for agents'),
        (entry("a/", scope=", bucketRef: other"), 'scope.bucketRef: There is no bucket "other" for agents'),
        (entry("a/", scope=", prefix: b"), 'scope.prefix: "prefix" is not a field'),
        (entry("a/", scope=", prefix: b"), "Did you mean `prefixes`?"),
        ("    - {service: object-storage}\n", "`scope` is missing."),
        ("    - {service: object-storage, scope: {}}\n", "`prefixes` is missing."),
        ("    - {service: object-storage, scope: {prefixes: []}}\n", "`prefixes` names no folder."),
        ("    - {service: object-storage, scope: all}\n", "`scope` must be a map of fields"),
        (entry("a/", ", permissions: [reed]"), "Did you mean `read`?"),
        ("    - {service: s3, scope: {x: 1}}\n", "Use one of object-storage."),
        ("    - {service: ai-gateway}\n", "follows from its `model`. Remove this entry."),
        ("    - {service: ai-gateway, scope: {gatewayRef: default, resources: ['*']}}\n", "follows from its `model`."),
        (entry("agents/*", ", permissions: [write]"), "prefixes[0]: Who may write or delete in all of `agents/`"),
        (entry("agents", ", permissions: [read, delete]"), "prefixes[0]: Who may write or delete in all of `agents/`"),
    ],
)
def test_a_mistake_is_named_in_its_place(lines: str, said: str) -> None:
    assert said in refusal(HEAD + lines)


def test_all_agents_may_be_read_and_one_may_be_written_when_an_operator_says_so() -> None:
    found = access(HEAD + entry("agents/") + entry("agents/bob/", ", permissions: [write, delete]"))

    assert found.grants[0] == Grant(prefix="agents/", permissions=READ)
    assert found.grants[1].permissions == CHANGE


def test_a_variable_does_not_get_around_what_is_refused() -> None:
    text = HEAD.replace("alice", "agents") + entry("${self.name}/", ", permissions: [write]")

    with pytest.raises(Invalid, match="means all of `agents/` for agents"):
        access(text, "agents")
