"""Who may wake an agent: everybody to everybody, and what becomes of it when somebody is not declared any more."""

import pytest

from appservice.errors import Invalid
from appservice.policy.roster import Roster, build
from appservice.policy.triggers import Decision, Place, may_trigger
from appservice.resources.source import FieldPath
from tests.support.rosters import NAMES, human, manager, roster_of, team, worker

ADMIN = "admin: {name: pm}"
DEV = team("dev", "lena", "ben", "carla", fields=ADMIN)
PEOPLE = (
    human("one", 1)
    + human("two", 2, "accessibleTeams: [dev], accessibleWorkers: [alice, walt, wendy]")
    + human("three", 3, "accessibleTeams: [dev], accessibleWorkers: [ben, alice, wendy, night]")
)
COMPANY = manager() + manager("night") + DEV + team("web", "wendy", "walt") + worker("alice") + worker("zoe") + PEOPLE


def asked(roster: Roster, user: str, agent: str, place: Place = "group") -> Decision:
    """`user` is an agent of the roster, or a person of our homeserver, or a full Matrix id."""
    known = roster.agents.get(user)
    return may_trigger(roster, known.user if known else NAMES.person(user), agent, place)


# -- roles ------------------------------------------------------------------------------------------------------

# "both": in a group and alone with the agent. Level 2 names team dev, and alice, walt (of team web) and wendy (who
# leads it); level 3 names ben, alice, wendy and night. pm is the admin of team dev, dora is nobody.
MATRIX = """
from     manager  night  lena   ben    carla  wendy  walt   alice  zoe
manager  -        -      group  -      -      group  -      group  group
night    -        -      group  -      -      group  -      group  group
lena     group    group  -      group  group  -      -      -      -
wendy    group    group  -      -      -      -      group  -      -
ben      -        -      group  -      group  -      -      -      -
carla    -        -      group  group  -      -      -      -      -
walt     -        -      -      -      -      group  -      -      -
alice    group    group  -      -      -      -      -      -      -
zoe      group    group  -      -      -      -      -      -      -
op       both     both   both   both   both   both   both   both   both
one      both     both   both   both   both   both   both   both   both
two      -        -      both   both   both   -      both   both   -
three    -        -      -      both   -      -      -      both   -
pm       -        -      both   group  group  -      -      -      -
dora     -        -      -      -      -      -      -      -      -
"""


def matrix() -> list[tuple[str, str, Place, bool]]:
    (_, *targets), *rows = [line.split() for line in MATRIX.strip().splitlines()]
    places: tuple[Place, ...] = ("group", "direct")
    return [
        (user, target, place, cell in (place, "both"))
        for user, *cells in rows
        for target, cell in zip(targets, cells, strict=True)
        for place in places
    ]


@pytest.fixture(scope="module")
def company() -> Roster:
    return roster_of(COMPANY)


@pytest.mark.parametrize(("user", "target", "place", "allowed"), matrix())
def test_a_role_may_ask_whom_the_matrix_says(
    company: Roster, user: str, target: str, place: Place, allowed: bool
) -> None:
    assert asked(company, user, target, place).allowed is allowed


def test_everybody_who_is_declared_is_in_the_matrix(company: Roster) -> None:
    people = {human.name for human in company.humans.values()}

    assert {target for _, target, _, _ in matrix()} == set(company.agents)
    assert {user for user, _, _, _ in matrix()} == set(company.agents) | people | {"op", "pm", "dora"}


@pytest.mark.parametrize(
    ("user", "target", "rule", "document", "field"),
    [
        ("op", "ben", "operator", "", ()),
        ("manager", "lena", "manager to leader", "", ()),
        ("manager", "alice", "manager to worker", "", ()),
        ("lena", "manager", "leader to manager", "", ()),
        ("alice", "manager", "worker to manager", "", ()),
        ("lena", "ben", "leader and team", "team/dev", ("spec", "leader", "name")),
        ("walt", "wendy", "leader and team", "team/web", ("spec", "leader", "name")),
        ("ben", "carla", "peers", "team/dev", ("spec", "peerMentions")),
        ("pm", "ben", "team admin", "team/dev", ("spec", "admin")),
        ("one", "alice", "level 1", "human/one", ("spec", "permissionLevel")),
        ("two", "lena", "level 2, team", "human/two", ("spec", "accessibleTeams", 0)),
        ("two", "walt", "level 2, worker", "human/two", ("spec", "accessibleWorkers", 1)),
        ("three", "ben", "level 3, worker", "human/three", ("spec", "accessibleWorkers", 0)),
    ],
)
def test_a_permission_names_its_rule_and_where_that_is_declared(
    company: Roster, user: str, target: str, rule: str, document: str, field: FieldPath
) -> None:
    assert asked(company, user, target) == Decision(verdict="allow", rule=rule, document=document, field=field)


@pytest.mark.parametrize(
    ("user", "target", "rule", "said"),
    [
        ("dora", "manager", "manager-access", "`permissionLevel: 1`"),
        ("dora", "lena", "worker-access", "`permissionLevel: 2 and accessibleTeams: [dev]`"),
        ("dora", "ben", "worker-access", "`accessibleWorkers: [ben]`"),
        ("dora", "alice", "worker-access", "`accessibleWorkers: [alice]`"),
        ("lena", "walt", "leader to member", "lena (leader) may not call walt (member)."),
        ("ben", "manager", "member to manager", "ben (member) may not call manager (manager)."),
    ],
)
def test_a_refusal_says_what_would_help(company: Roster, user: str, target: str, rule: str, said: str) -> None:
    found = asked(company, user, target)

    assert (found.verdict, found.rule, found.document, found.field) == ("deny", rule, "", ())
    assert said in found.reason


@pytest.mark.parametrize(
    ("level", "fields", "target", "field"),
    [
        (2, "accessibleTeams: [web]", "lena", "accessibleTeams"),
        (2, "accessibleTeams: [web]", "ben", "permissionLevel"),
        (2, "accessibleWorkers: [zoe]", "lena", "permissionLevel"),
        (3, "accessibleWorkers: [zoe]", "alice", "accessibleWorkers"),
        (3, "accessibleTeams: [dev]", "lena", "permissionLevel"),
        (3, "accessibleWorkers: [zoe]", "manager", "permissionLevel"),
    ],
)
def test_a_refusal_of_a_human_names_the_field_that_does_not_reach_so_far(
    level: int, fields: str, target: str, field: str
) -> None:
    found = asked(roster_of(COMPANY + human("hal", level, fields)), "hal", target)

    assert (found.verdict, found.document, found.field) == ("deny", "human/hal", ("spec", field))


def test_an_agent_that_nobody_declares_cannot_be_asked_even_by_an_operator(company: Roster) -> None:
    found = asked(company, "op", "ghost")

    assert (found.verdict, found.rule) == ("deny", "unknown agent")
    assert found.reason == "There is no agent called ghost."


def test_a_user_named_like_an_agent_that_nobody_declares_is_nobody(company: Roster) -> None:
    assert not asked(company, "@agent-ghost:hs", "manager").allowed


@pytest.mark.parametrize("server", ["other.org", "sh"])
def test_an_agents_name_at_another_homeserver_is_not_the_agent(company: Roster, server: str) -> None:
    assert asked(company, f"@agent-manager:{server}", "alice").rule == "worker-access"


@pytest.mark.parametrize("place", ["group", "direct"])
def test_every_operator_may_ask(place: Place) -> None:
    roster = roster_of(worker("alice"), operators=("@op:hs", "@second:hs"))

    assert asked(roster, "second", "alice", place).rule == "operator"


# -- teams ------------------------------------------------------------------------------------------------------


def test_without_peer_mentions_a_member_may_call_its_leader_only() -> None:
    roster = roster_of(team("dev", "lena", "ben", "carla", fields="peerMentions: false"))

    denied = asked(roster, "ben", "carla")

    assert (denied.verdict, denied.rule) == ("deny", "peers")
    assert (denied.document, denied.field) == ("team/dev", ("spec", "peerMentions"))
    assert denied.reason == "ben (member) may not call carla (member)."
    assert asked(roster, "ben", "lena").allowed
    assert asked(roster, "lena", "ben").allowed


@pytest.mark.parametrize("place", ["group", "direct"])
def test_operators_may_still_ask_a_team_that_has_an_admin(company: Roster, place: Place) -> None:
    assert [asked(company, "op", name, place).rule for name in ("lena", "ben")] == ["operator", "operator"]


def test_a_team_admin_may_ask_a_member_alone_once_a_policy_says_so() -> None:
    policy = "channelPolicy: {dmAllowExtra: [pm]}"
    roster = roster_of(team("dev", "lena", f"ben, {policy}", "carla", fields=ADMIN))

    found = asked(roster, "pm", "ben", "direct")

    assert (found.verdict, found.rule, found.document) == ("allow", "channelPolicy", "team/dev")
    assert found.field == ("spec", "workers", 0, "channelPolicy", "dmAllowExtra", 0)
    assert not asked(roster, "pm", "carla", "direct").allowed


def test_a_team_admins_matrix_id_says_who_it_is_and_the_name_then_means_nobody() -> None:
    admin = 'admin: {name: pm, matrixUserId: "@boss:hs"}'
    roster = roster_of(team("dev", "lena", "ben", fields=admin))

    assert asked(roster, "@boss:hs", "lena", "direct").rule == "team admin"
    assert not asked(roster, "pm", "lena", "direct").allowed


def test_an_operator_who_is_a_team_admin_keeps_what_operators_may() -> None:
    roster = roster_of(team("dev", "lena", "ben", fields="admin: {name: op}"))

    assert asked(roster, "op", "ben", "direct").rule == "operator"


# -- people -----------------------------------------------------------------------------------------------------


def test_a_human_of_level_2_may_ask_a_worker_of_another_team_that_it_names(company: Roster) -> None:
    assert asked(company, "two", "walt").allowed
    assert not asked(company, "two", "wendy").allowed  # who leads that team and is named, too


@pytest.mark.parametrize("level", [2, 3])
@pytest.mark.parametrize("place", ["group", "direct"])
def test_naming_a_leader_or_a_manager_as_a_worker_opens_nothing(level: int, place: Place) -> None:
    people = human("hal", level, "accessibleWorkers: [lena, night]")
    roster = roster_of(team("dev", "lena", "ben") + manager("night") + people)

    assert not asked(roster, "hal", "lena", place).allowed
    assert not asked(roster, "hal", "night", place).allowed


def test_a_human_of_level_3_has_nothing_of_the_teams_it_lists() -> None:
    roster = roster_of(DEV + human("hal", 3, "accessibleTeams: [dev]"))

    assert not asked(roster, "hal", "lena").allowed
    assert not asked(roster, "hal", "ben").allowed


def test_a_human_who_names_what_nobody_declares_may_ask_it_once_it_is_there() -> None:
    hal = human("hal", 2, "accessibleTeams: [dev], accessibleWorkers: [alice]")
    before, after = roster_of(hal), roster_of(hal + DEV + worker("alice"))

    assert [asked(before, "hal", name).rule for name in ("lena", "alice")] == ["unknown agent", "unknown agent"]
    assert [asked(after, "hal", name).allowed for name in ("lena", "alice")] == [True, True]


@pytest.mark.parametrize("username", ["_irc_bob", "telegram_1", "john.doe"])
def test_a_human_may_be_somebody_whose_name_no_document_can_have(username: str) -> None:
    roster = roster_of(DEV + human("bob", 2, f"username: {username}, accessibleTeams: [dev]"))

    assert asked(roster, f"@{username}:hs", "lena").document == "human/bob"
    assert not asked(roster, "bob", "lena").allowed


def test_a_human_who_runs_a_team_has_both_the_level_and_the_team() -> None:
    roster = roster_of(DEV + worker("alice") + human("pm", 3, "accessibleWorkers: [alice]"))

    assert asked(roster, "pm", "alice").rule == "level 3, worker"
    assert asked(roster, "pm", "ben").rule == "team admin"


# -- what is not declared any more ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "user", "target", "then"),
    [
        (DEV, team("dev", "lena", "ben", "carla"), "pm", "lena", "worker-access"),
        (team("dev", "lena", "ben", "carla", fields="peerMentions: false"), DEV, "ben", "carla", "peers"),
        (
            worker("alice", "channelPolicy: {groupDenyExtra: [op]}"),
            worker("alice", "channelPolicy: {}"),
            "op",
            "alice",
            "operator",
        ),
        (worker("alice", "channelPolicy: {groupAllowExtra: [h]}"), worker("alice"), "h", "alice", "worker-access"),
        (
            DEV + human("h", 2, "accessibleTeams: [dev]"),
            DEV + human("h", 2),
            "h",
            "lena",
            "worker-access",
        ),
        (
            worker("alice") + human("h", 3, "accessibleWorkers: [alice]"),
            worker("alice") + human("h", 3),
            "h",
            "alice",
            "worker-access",
        ),
        (worker("alice") + human("h", 1), worker("alice") + human("h", 2), "h", "alice", "worker-access"),
        (worker("alice") + human("h", 1), worker("alice"), "h", "alice", "worker-access"),
        (DEV, team("dev", "lena", "carla"), "lena", "ben", "unknown agent"),
        (DEV, team("dev", "lena", "carla"), "ben", "lena", "worker-access"),
        (DEV, team("dev", "lena", "carla") + worker("ben"), "lena", "ben", "leader to worker"),
        (manager() + worker("alice"), worker("alice"), "@agent-manager:hs", "alice", "worker-access"),
    ],
)
def test_what_is_removed_decides_nothing_any_more(before: str, after: str, user: str, target: str, then: str) -> None:
    known = roster_of(before).agents.get(user)
    asker = known.user if known else user
    old, new = asked(roster_of(before), asker, target), asked(roster_of(after), asker, target)

    assert old.allowed is not new.allowed
    assert new.rule == then


def test_nobody_calls_itself_whatever_a_policy_says() -> None:
    decision = asked(
        roster_of(team("dev", "lena", "ben", fields="channelPolicy: {groupAllowExtra: [ben]}")), "ben", "ben"
    )
    assert (decision.verdict, decision.rule) == ("deny", "itself")


def test_a_stored_document_that_this_program_does_not_read_is_named_and_nothing_is_left_out() -> None:
    with pytest.raises(Invalid, match="the stored `team/dev` cannot be read"):
        build([("Team", "dev", {"leaders": []})], names=NAMES, operators=frozenset())
