"""What a Team may say, what is said when it may not, and which agents it stands for."""

import pytest

from appservice.errors import Invalid
from appservice.resources.access import AccessEntry, Scope
from appservice.resources.kind import Spec
from appservice.resources.registry import canonical, parse
from appservice.resources.team import KIND, PENDING, Leader, Member, TeamSpec, TeamWorker, members
from appservice.resources.worker import DEFAULT_MODEL, ChannelPolicy, ExposedPort, McpServer, WorkerSpec

HEAD = "apiVersion: hiclaw.io/v1beta1\nkind: Team\nmetadata:\n  name: dev\nspec:\n"
LEADER = "  leader:\n    name: lena\n    model: m\n"
BEN = "    - name: ben\n      model: m\n"
FROM_HICLAW = """\
apiVersion: hiclaw.io/v1beta1
kind: Team
metadata:
  name: frontend-team
spec:
  description: "Frontend development team"
  peerMentions: true
  admin:
    name: pm-zhang
    matrixUserId: "@pm:domain"
  leader:
    name: frontend-lead
    model: claude-sonnet-4-6
    heartbeat:
      enabled: true
      every: 10m
    workerIdleTimeout: 720m
  workers:
    - name: alice
      model: claude-sonnet-4-6
      skills: [github-operations]
      mcpServers:
        - name: github
          url: https://gateway.example.com/mcp-servers/github/mcp
    - name: bob
      model: qwen3.5-plus
      runtime: copaw
      skills: [github-operations]
"""


def read(text: str) -> TeamSpec:
    found = parse(text.encode(), source="t.yaml")[0].spec
    assert isinstance(found, TeamSpec)
    return found


def spec(leader: str = "", workers: str = "", own: str = "") -> TeamSpec:
    return read(HEAD + LEADER + leader + (f"  workers:\n{workers}" if workers else "") + own)


def refusal(text: str) -> str:
    with pytest.raises(Invalid) as caught:
        parse(text.encode(), source="t.yaml")
    assert len(caught.value.problems) == 1
    return str(caught.value)


def fields(model: type[Spec]) -> set[str | None]:
    return {info.alias for info in model.model_fields.values()}


def test_only_a_leader_with_a_name_is_required() -> None:
    found = read(f"{HEAD}  leader: {{name: lena}}\n")

    assert (found.workers, found.admin, found.peer_mentions, found.channel_policy) == ((), None, True, ChannelPolicy())
    assert (found.leader.heartbeat.enabled, found.leader.worker_idle_timeout) == (False, "")


def test_a_team_written_for_hiclaw_is_read() -> None:
    found = read(FROM_HICLAW)

    assert found.admin is not None
    assert (found.admin.name, found.admin.matrix_user_id) == ("pm-zhang", "@pm:domain")
    assert (found.leader.heartbeat.every, found.leader.worker_idle_timeout) == ("10m", "720m")
    assert [(worker.name, worker.runtime) for worker in found.workers] == [("alice", "native"), ("bob", "copaw")]


def test_leader_and_workers_have_all_fields_of_a_worker() -> None:
    assert fields(TeamWorker) == fields(WorkerSpec) | {"name"}
    assert fields(Leader) == fields(TeamWorker) | {"heartbeat", "workerIdleTimeout"}


def test_a_heartbeat_comes_every_half_hour_unless_said_otherwise() -> None:
    assert spec("    heartbeat: {enabled: true}\n").leader.heartbeat.every == "30m"


@pytest.mark.parametrize("duration", ["30m", "720m", "1h30m", "12h", "45s", "2h5s"])
def test_a_duration_is_hours_minutes_and_seconds(duration: str) -> None:
    assert spec(f"    workerIdleTimeout: {duration}\n").leader.worker_idle_timeout == duration


@pytest.mark.parametrize("duration", ["30", "m", "0m", "30 m", "30M", "m30", "30m1h", "-5m", "1.5h", "1d", "", "٣m"])
def test_what_is_no_duration_is_refused(duration: str) -> None:
    found = refusal(f'{HEAD}{LEADER}    workerIdleTimeout: "{duration}"\n')

    assert found == (
        f't.yaml, line 9, spec.leader.workerIdleTimeout: "{duration}" is not a duration. Write it as 30m, 12h or 1h30m.'
    )


@pytest.mark.parametrize(
    ("lines", "where", "said"),
    [
        ("  workers: []\n", "line 5, spec", "Add `leader:` with a value."),
        ("  leader: {model: m}\n", "line 6, spec.leader.name", "Add `name:` with a value."),
        ("  leader:\n    name: lena\n    modle: m\n", "line 8, spec.leader.modle", "Did you mean `model`?"),
        ("  leader: {name: manager, model: m}\n", "line 6, spec.leader.name", "Try `manager-agent`."),
        (f"{LEADER}    expose: [{{port: 0}}]\n", "line 9, spec.leader.expose[0].port", "`port` is at least 1."),
        (f"{LEADER}    heartbeat: {{every: 30}}\n", "line 9, spec.leader.heartbeat.every", 'Quote it: "30".'),
        (f"{LEADER}    heartbeat: {{enabled: yes}}\n", "line 9, spec.leader.heartbeat.enabled", "Write true or false"),
        (f"{LEADER}  heartbeat: {{}}\n", "line 9, spec.heartbeat", "Its fields are description, admin, leader"),
        (f"{LEADER}  peerMentions: 1\n", "line 9, spec.peerMentions", "Write true or false"),
        (f"{LEADER}  admin: {{}}\n", "line 9, spec.admin.name", "Add `name:` with a value."),
        (
            f"{LEADER}  admin: {{name: '@pm:x.org'}}\n",
            "line 9, spec.admin.name",
            "only the part between @ and the colon",
        ),
        (
            f"{LEADER}  admin: {{name: pm, matrixUserId: pm}}\n",
            "line 9, spec.admin.matrixUserId",
            '"pm" is not a full Matrix id. Write it as "@alice:example.org", in quotes.',
        ),
        (f"{LEADER}  workers:\n    - model: m\n", "line 10, spec.workers[0].name", "Add `name:` with a value."),
        (f"{LEADER}  workers:\n{BEN}      every: 1m\n", "line 12, spec.workers[0].every", "Its fields are name, model"),
        (
            f"{LEADER}  workers:\n{BEN}    - name: admin\n      model: m\n",
            "line 12, spec.workers[1].name",
            "Try `admin-agent`.",
        ),
        (
            f"{LEADER}  workers:\n{BEN}{BEN}",
            "line 12, spec.workers[1].name",
            "Two workers are called ben. Keep one of them, or rename it.",
        ),
        (
            f"{LEADER}  workers:\n{BEN}    - name: lena\n      model: m\n",
            "line 12, spec.workers[1].name",
            "The leader lena is among the workers, too. Remove it here: it leads the team already.",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_way_to_mend_it(lines: str, where: str, said: str) -> None:
    found = refusal(HEAD + lines)

    assert found.startswith(f"t.yaml, {where}")
    assert said in found


@pytest.mark.parametrize("count", [127, 128])
def test_a_team_has_at_most_127_workers(count: int) -> None:
    workers = "".join(f"    - {{name: w{index}, model: m}}\n" for index in range(count))
    text = f"{HEAD}{LEADER}  workers:\n{workers}"

    if count == 127:
        assert len(read(text).workers) == 127
    else:
        assert "line 10, spec.workers: `workers` has more than 127 entries." in refusal(text)


def test_the_members_are_the_leader_and_then_the_workers() -> None:
    found = spec(workers=f"{BEN}    - name: carla\n      model: n\n")

    assert members("dev", found) == (
        Member(team="dev", name="lena", role="leader", spec=WorkerSpec(model="m"), path=("spec", "leader")),
        Member(team="dev", name="ben", role="member", spec=WorkerSpec(model="m"), path=("spec", "workers", 0)),
        Member(team="dev", name="carla", role="member", spec=WorkerSpec(model="n"), path=("spec", "workers", 1)),
    )


def test_a_member_without_a_model_has_its_leaders_and_a_leader_without_one_the_default() -> None:
    workers = f"{BEN}    - name: carla\n"

    assert [member.spec.model for member in members("dev", spec(workers=workers.replace(": m", ": n")))] == [*"mnm"]
    nobody = read(f"{HEAD}  leader: {{name: lena}}\n  workers:\n    - {{name: ben}}\n")
    assert [member.spec.model for member in members("dev", nobody)] == [DEFAULT_MODEL, DEFAULT_MODEL]


def test_a_member_is_what_a_worker_with_the_same_fields_is() -> None:
    lines = "      soul: be brief\n      mcpServers: [github]\n      expose: [{port: 80}]\n      state: Sleeping\n"
    lines += "      skills: [notes]\n      accessEntries: [{service: object-storage, scope: {prefixes: [a]}}]\n"
    found = spec(workers=BEN + lines)

    _, ben = members("dev", found)

    assert ben.spec == WorkerSpec(
        model="m",
        soul="be brief",
        mcpServers=(McpServer(name="github"),),
        expose=(ExposedPort(port=80),),
        state="Sleeping",
        skills=("notes",),
        accessEntries=(AccessEntry(service="object-storage", scope=Scope(prefixes=("a/",))),),
    )


def test_a_member_has_its_own_channel_policy_and_not_its_teams() -> None:
    own = "      channelPolicy: {dmDenyExtra: [bob]}\n"
    found = spec(workers=BEN + own, own="  channelPolicy: {dmAllowExtra: [dora]}\n")

    leader, ben = members("dev", found)

    assert leader.spec.channel_policy == ChannelPolicy()
    assert ben.spec.channel_policy == ChannelPolicy(dmDenyExtra=("bob",))


@pytest.mark.parametrize(
    ("leader", "workers", "pending"),
    [
        ("    heartbeat: {enabled: false}\n    soul: x\n", BEN, ()),
        ("    heartbeat: {enabled: true}\n", "", ("leader.heartbeat",)),
        ("    workerIdleTimeout: 1h\n    package: a.zip\n", "", ("leader.workerIdleTimeout", "leader.package")),
        ("", f"{BEN}      labels: {{}}\n    - {{name: carla, model: m, package: a.zip}}\n", ("workers.package",)),
        ("", f"{BEN}      runtime: copaw\n    - {{name: carla, model: m, runtime: copaw}}\n", ("workers.runtime",)),
    ],
)
def test_fields_of_any_member_that_take_no_effect_yet_are_named(
    leader: str, workers: str, pending: tuple[str, ...]
) -> None:
    assert KIND.pending(spec(leader, workers)) == pending


def test_every_field_that_takes_no_effect_exists_and_has_a_sentence() -> None:
    owners: dict[str, type[Spec]] = {"leader": Leader, "workers": TeamWorker}

    assert all(path.split(".")[1] in fields(owners[path.split(".")[0]]) for path in PENDING)
    assert all(sentence.endswith(".") for sentence in PENDING.values())


def test_what_equals_the_defaults_is_not_part_of_the_canonical_form() -> None:
    stated = "    heartbeat: {enabled: false, every: 30m}\n    runtime: native\n"
    text = f"{HEAD}{LEADER}{stated}  workers: []\n  peerMentions: true\n  channelPolicy: {{}}\n  description: ''\n"

    found = canonical(parse(text.encode(), source="t.yaml")[0])

    assert found["spec"] == {"leader": {"name": "lena", "model": "m"}}
