"""What an agent is told of those around it, and that this does not wear away what the operator wrote."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appservice.policy.triggers import may_trigger
from appservice.workspace.files import AROUND_END, AROUND_START, END, START, agents_file, own_part, workspace
from appservice.workspace.surroundings import surroundings
from tests.support.rosters import NAMES, Document, companies, human, manager, roster_of, team, text_of, worker

DEV = team("dev", "lena", "ben", "carla")
APART = team("dev", "lena", "ben", "carla", fields="peerMentions: false")
RUN_BY_PM = team("dev", "lena", "ben", fields="admin: {name: pm}")
WEB = team("web", "wendy", "walt")
NO_MANAGER = "Do not mention the Manager"
NO_PEERS = "You may not call others of the team; ask your leader."


def told(text: str, agent: str) -> str:
    roster = roster_of(text)
    return surroundings(roster, roster.agents[agent])


def named(text: str) -> set[str]:
    """Agents whose Matrix ids are in a text."""
    return {NAMES.agent(user) for user in re.findall(r"@agent-[a-z0-9-]+:hs", text)}


# -- whom each is told of ---------------------------------------------------------------------------------------

EVERYBODY = manager() + DEV + WEB + worker("alice") + human("one", 1) + human("two", 2, "accessibleTeams: [dev]")


@pytest.mark.parametrize(
    ("text", "agent", "agents"),
    [
        (DEV, "lena", "ben carla"),
        (EVERYBODY, "lena", "ben carla manager"),
        (EVERYBODY + manager("night"), "lena", "ben carla manager night"),
        (DEV, "ben", "lena carla"),
        (EVERYBODY, "ben", "lena carla"),
        (APART, "ben", "lena"),
        (WEB, "walt", "wendy"),
        (manager(), "manager", ""),
        (EVERYBODY, "manager", "lena wendy alice"),
        (EVERYBODY + manager("night"), "manager", "lena wendy alice"),
        (EVERYBODY, "alice", "manager"),
        (EVERYBODY + manager("night"), "alice", "manager night"),
        (DEV + worker("alice") + worker("zoe"), "alice", ""),
    ],
)
def test_an_agent_is_told_of_those_it_works_with_and_of_nobody_else(text: str, agent: str, agents: str) -> None:
    found = told(text, agent)

    assert named(found) == set(agents.split())
    assert all(f"\n- {name}: @agent-{name}:hs" in found for name in agents.split())


@pytest.mark.parametrize(
    ("agent", "head", "listed"),
    [
        ("lena", "You give work to:", "- ben: @agent-ben:hs\n- carla: @agent-carla:hs"),
        ("lena", "Above the team, in your own room:", "- manager: @agent-manager:hs"),
        ("ben", "Your leader, from whom you get work and to whom you report:", "- lena: @agent-lena:hs"),
        ("ben", "Others of the team, whom you may call:", "- carla: @agent-carla:hs"),
        ("manager", "Leaders, each in its own room:", "- lena: @agent-lena:hs\n- wendy: @agent-wendy:hs"),
        ("manager", "Workers, each in its own room:", "- alice: @agent-alice:hs"),
        ("alice", "The Manager, in your own room:", "- manager: @agent-manager:hs"),
    ],
)
def test_an_agent_is_told_what_the_others_are_to_it(agent: str, head: str, listed: str) -> None:
    assert f"{head}\n\n{listed}" in told(EVERYBODY, agent)


@given(companies(policies=False))
@settings(deadline=None, max_examples=50)
def test_without_policies_an_agent_is_told_of_exactly_those_it_may_call(documents: list[Document]) -> None:
    roster = roster_of(text_of(documents))

    for agent in roster.agents.values():
        may_call = {name for name in roster.agents if may_trigger(roster, agent.user, name, "group").allowed}
        assert named(surroundings(roster, agent)) == may_call


def test_a_standalone_worker_without_a_manager_is_told_nothing() -> None:
    assert told(worker("alice") + DEV, "alice") == ""


# -- teams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("agent", "said"), [("lena", "You lead the team **dev**."), ("ben", "You work in the team")])
@pytest.mark.parametrize("description", ["Builds the pages.", ""])
def test_leader_and_members_are_told_which_team_it_is(agent: str, said: str, description: str) -> None:
    found = told(team("dev", "lena", "ben", fields=f'description: "{description}"'), agent)

    assert found.startswith(f"# Your team\n\n{said}")
    assert f"**dev**.{' ' * bool(description)}{description}\n\n" in found


@pytest.mark.parametrize("agent", ["lena", "ben"])
@pytest.mark.parametrize(("text", "admins"), [(RUN_BY_PM, "`@pm:hs`"), (DEV, "`@a:hs`, `@op:hs`")])
def test_leader_and_members_are_told_who_runs_the_team(agent: str, text: str, admins: str) -> None:
    roster = roster_of(text, operators=("@op:hs", "@a:hs"))

    assert f"Team admin: {admins}.\n" in surroundings(roster, roster.agents[agent])


@pytest.mark.parametrize("agent", ["lena", "ben"])
def test_leader_and_members_are_told_where_the_teams_files_are(agent: str) -> None:
    assert told(DEV, agent).endswith("below `teams/dev/shared/`.")


def test_a_leader_without_members_is_told_of_none() -> None:
    assert "You give work to" not in told(team("dev", "lena"), "lena")


@pytest.mark.parametrize(("agent", "expected"), [("ben", True), ("lena", False), ("alice", False), ("manager", False)])
def test_only_members_are_told_to_leave_the_manager_alone(agent: str, expected: bool) -> None:
    assert (NO_MANAGER in told(EVERYBODY, agent)) is expected


def test_where_there_is_no_manager_nobody_is_told_of_one() -> None:
    text = DEV + WEB + worker("alice")

    assert all("manager" not in told(text, agent).lower() for agent in ("lena", "ben", "alice"))


@pytest.mark.parametrize(
    ("text", "peers", "warned"),
    [
        (DEV, "carla", False),
        (APART, "", True),
        (team("dev", "lena", "ben", fields="peerMentions: false"), "", False),
        (team("dev", "lena", "ben", "carla, channelPolicy: {groupDenyExtra: [ben]}", "dan"), "dan", False),
        (team("dev", "lena", "ben", "carla", fields="channelPolicy: {groupDenyExtra: [ben]}"), "", True),
        (
            team("dev", "lena", "ben", "carla, channelPolicy: {groupAllowExtra: [ben]}", fields="peerMentions: false"),
            "carla",
            False,
        ),
    ],
)
def test_a_member_is_told_of_the_others_whom_it_may_call(text: str, peers: str, warned: bool) -> None:
    found = told(text, "ben")

    assert named(found) - {"lena"} == set(peers.split())
    assert ("whom you may call" in found) is bool(peers)
    assert (NO_PEERS in found) is warned


# -- managers ---------------------------------------------------------------------------------------------------


def test_a_manager_is_told_who_the_operators_are() -> None:
    roster = roster_of(manager() + human("one", 1), operators=("@op:hs", "@a:hs"))

    assert "You answer to: `@a:hs`, `@op:hs`." in surroundings(roster, roster.agents["manager"])


@pytest.mark.parametrize(("text", "expected"), [(manager() + DEV, True), (manager() + worker("alice"), False)])
def test_a_manager_is_told_to_leave_members_to_their_leaders(text: str, expected: bool) -> None:
    assert ("Do not contact members of a team" in told(text, "manager")) is expected


# -- AGENTS.md --------------------------------------------------------------------------------------------------

MINE = "# Mine\n\nSpeak French.\n\n- `@agent-ben:hs` is slow"
FROM_HICLAW = (
    "<!-- hiclaw-builtin-start -->\nold rules\n<!-- hiclaw-builtin-end -->\n"
    "<!-- hiclaw-team-context-start -->\n## Coordination\n<!-- hiclaw-team-context-end -->\n\n"
)


def test_an_agent_reads_the_rules_then_who_is_around_it_then_what_the_operator_wrote() -> None:
    around = told(DEV, "ben")

    found = agents_file(MINE, "@agent-ben:hs", around)

    assert found.startswith(f"{START}\n# Working rules\n")
    assert found.endswith(f"{END}\n{AROUND_START}\n{around}\n{AROUND_END}\n\n{MINE}")


def test_an_agent_with_nobody_around_it_has_no_block_for_that() -> None:
    assert AROUND_START not in agents_file(MINE, "@agent-alice:hs", told(worker("alice"), "alice"))


@pytest.mark.parametrize(
    "blocks",
    [
        "",
        agents_file("", "@agent-ben:hs"),
        agents_file("", "@agent-old:hs", "# Your team\n\nSomebody else's."),
        agents_file("", "@agent-ben:hs", "x") * 2,
        FROM_HICLAW,
        FROM_HICLAW + agents_file("", "@agent-ben:hs", "x"),
        agents_file("", "@agent-ben:hs", "x") + FROM_HICLAW,
    ],
)
def test_blocks_of_before_are_dropped_and_what_the_operator_wrote_is_kept(blocks: str) -> None:
    given_back = f"{blocks}\n{MINE}\n" if blocks else MINE

    assert own_part(given_back) == MINE
    assert agents_file(given_back, "@agent-ben:hs", "now") == agents_file(MINE, "@agent-ben:hs", "now")


def test_a_file_of_blocks_alone_has_nothing_of_the_operator() -> None:
    assert own_part(agents_file("", "@agent-ben:hs", told(DEV, "ben"))) == ""


@given(st.text(), st.sampled_from(["", told(DEV, "lena")]), st.sampled_from(["", told(EVERYBODY, "ben")]))
def test_a_file_that_is_given_back_says_who_is_around_now(own: str, before: str, now: str) -> None:
    once = agents_file(own, "@agent-ben:hs", before)

    assert agents_file(once, "@agent-ben:hs", now) == agents_file(own, "@agent-ben:hs", now)


def test_a_change_of_those_around_gives_an_agent_a_new_revision() -> None:
    def files(around: str) -> dict[str, bytes]:
        return workspace(name="ben", display_name="Ben", model="m", user_id="@agent-ben:hs", around=around)

    before, after = files(told(DEV, "ben")), files(told(APART, "ben"))

    assert {path for path in before if before[path] != after[path]} == {"AGENTS.md", ".opsroom/agent.json"}
    assert told(DEV, "ben").encode() in before["AGENTS.md"]
