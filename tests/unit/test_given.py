"""What an agent is given, as far as that follows from declarations alone."""

from pathlib import Path

from appservice.backends.protocol import Sandbox
from appservice.config import Settings
from appservice.reconcile import given
from appservice.resources.worker import WorkerSpec
from appservice.storage.protocol import Access
from appservice.store.changes import Key
from tests.support.declared import Company

HEAD = "apiVersion: hiclaw.io/v1beta1\n"
TEAM = """\
apiVersion: hiclaw.io/v1beta1
kind: Team
metadata: {name: dev, labels: {tier: gold, opsroom.io/set: all}}
spec:
  leader: {name: lena, model: m}
  workers: [{name: ben, model: m, labels: {tier: iron}}]
"""


def sandbox(text: str, name: str) -> Sandbox:
    company = Company(text)
    stored = company.stored[Key("Worker", name)]
    spec = WorkerSpec.model_validate(stored.document["spec"])
    settings = Settings(data_dir=Path("/data"))
    return given.sandbox(stored, spec, company.roster.agents[name], settings=settings, image="native")


def test_an_agents_own_labels_win_over_those_of_its_metadata() -> None:
    metadata = "{name: ada, labels: {tier: gold, team: red, opsroom.io/team: dev, opsroom.io/set: all}}"
    text = f"{HEAD}kind: Worker\nmetadata: {metadata}\nspec: {{model: m, labels: {{tier: iron}}}}\n"

    assert sandbox(text, "ada").labels == {"tier": "iron", "team": "red"}


def test_an_agent_of_a_team_has_the_teams_labels_and_its_place() -> None:
    assert sandbox(TEAM, "lena").labels == {"tier": "gold", "opsroom.io/team": "dev", "opsroom.io/role": "leader"}
    assert sandbox(TEAM, "ben").labels == {"tier": "iron", "opsroom.io/team": "dev", "opsroom.io/role": "member"}


def test_the_agent_of_a_manager_has_its_labels() -> None:
    text = f"{HEAD}kind: Manager\nmetadata: {{name: default, labels: {{a: b}}}}\nspec: {{model: m, labels: {{c: d}}}}\n"

    assert sandbox(text, "manager").labels == {"a": "b", "c": "d"}


def test_only_labels_that_reach_the_sandbox_make_it_anew() -> None:
    ours = TEAM.replace("opsroom.io/set: all", "opsroom.io/set: other")

    assert sandbox(ours, "lena").spec_hash == sandbox(TEAM, "lena").spec_hash
    assert sandbox(TEAM.replace("gold", "lead"), "lena").spec_hash != sandbox(TEAM, "lena").spec_hash


def test_a_manager_writes_what_all_read_and_has_a_folder_of_its_own() -> None:
    company = Company(f"{TEAM}---\n{HEAD}kind: Manager\nmetadata: {{name: default}}\nspec: {{model: m}}\n")

    def access(name: str) -> Access:
        return given.access(WorkerSpec(model="m"), company.roster.agents[name])

    assert access("manager") == Access(write=("agents/manager/", "manager/", "shared/"))
    assert access("ben") == Access(write=("agents/ben/", "teams/dev/"), read=("shared/",))
