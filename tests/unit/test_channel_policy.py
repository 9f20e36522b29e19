"""What a channelPolicy of a worker, a leader or a team allows and denies."""

import pytest

from appservice.policy.roster import Roster
from appservice.policy.triggers import Decision, Place
from appservice.resources.source import FieldPath
from appservice.resources.worker import ChannelPolicy
from tests.support.rosters import human, manager, roster_of, team, worker
from tests.unit.test_triggers import ADMIN, PEOPLE, asked

# Whose policy it is: the document that it stands in, and its place there.
DECLARED: dict[str, tuple[str, FieldPath]] = {
    "alice": ("worker/alice", ("spec", "channelPolicy")),
    "lena": ("team/dev", ("spec", "leader", "channelPolicy")),
    "carla": ("team/dev", ("spec", "workers", 1, "channelPolicy")),
    "dev": ("team/dev", ("spec", "channelPolicy")),
}
LISTS = {("group", "allow"): "groupAllowExtra", ("group", "deny"): "groupDenyExtra"}
LISTS |= {("direct", "allow"): "dmAllowExtra", ("direct", "deny"): "dmDenyExtra"}


def policed(**lists: str) -> Roster:
    """Alice and team dev; each list is the channelPolicy of an agent, `dev` the whole team's."""
    policy = {name: f"channelPolicy: {{{lists.get(name, '')}}}" for name in DECLARED}
    lena, carla = f"lena, {policy['lena']}", f"carla, {policy['carla']}"
    dev = team("dev", lena, "ben", carla, fields=f"{ADMIN}, {policy['dev']}")
    return roster_of(manager() + dev + worker("alice", policy["alice"]) + worker("zoe") + PEOPLE)


def by_policy(found: Decision) -> tuple[str, str, FieldPath]:
    assert found.rule == "channelPolicy"
    return found.verdict, found.document, found.field


@pytest.mark.parametrize("place", ["group", "direct"])
@pytest.mark.parametrize(
    ("owner", "name", "user", "target"),
    [
        ("alice", "dora", "dora", "alice"),
        ("alice", "'@dora:hs'", "dora", "alice"),
        ("alice", "'@dora:other.org'", "@dora:other.org", "alice"),
        ("alice", "zoe", "zoe", "alice"),
        ("alice", "agent-zoe", "zoe", "alice"),
        ("alice", "'@agent-zoe:hs'", "zoe", "alice"),
        ("alice", "lena", "lena", "alice"),
        ("lena", "dora", "dora", "lena"),
        ("lena", "zoe", "zoe", "lena"),
        ("carla", "dora", "dora", "carla"),
        ("carla", "manager", "manager", "carla"),
        ("dev", "dora", "dora", "lena"),
        ("dev", "dora", "dora", "carla"),
        ("dev", "'@dora:hs'", "dora", "carla"),
        ("dev", "manager", "manager", "carla"),
    ],
)
def test_whom_a_policy_allows_may_ask(place: Place, owner: str, name: str, user: str, target: str) -> None:
    field = LISTS[place, "allow"]
    roster = policed(**{owner: f"{field}: [somebody, {name}]"})
    document, path = DECLARED[owner]

    assert not asked(policed(), user, target, place).allowed
    assert by_policy(asked(roster, user, target, place)) == ("allow", document, (*path, field, 1))


@pytest.mark.parametrize(
    ("owner", "name", "user", "target", "place"),
    [
        ("alice", "op", "op", "alice", "group"),
        ("alice", "op", "op", "alice", "direct"),
        ("alice", "'@op:hs'", "op", "alice", "group"),
        ("alice", "one", "one", "alice", "group"),
        ("alice", "one", "one", "alice", "direct"),
        ("alice", "two", "two", "alice", "group"),
        ("alice", "three", "three", "alice", "direct"),
        ("alice", "manager", "manager", "alice", "group"),
        ("alice", "'@agent-manager:hs'", "manager", "alice", "group"),
        ("lena", "op", "op", "lena", "direct"),
        ("lena", "manager", "manager", "lena", "group"),
        ("lena", "pm", "pm", "lena", "group"),
        ("lena", "pm", "pm", "lena", "direct"),
        ("lena", "ben", "ben", "lena", "group"),
        ("carla", "op", "op", "carla", "group"),
        ("carla", "lena", "lena", "carla", "group"),
        ("carla", "ben", "ben", "carla", "group"),
        ("carla", "pm", "pm", "carla", "group"),
        ("carla", "two", "two", "carla", "direct"),
        ("dev", "op", "op", "carla", "group"),
        ("dev", "op", "op", "lena", "direct"),
        ("dev", "lena", "lena", "ben", "group"),
        ("dev", "'@agent-ben:hs'", "ben", "carla", "group"),
        ("dev", "pm", "pm", "lena", "direct"),
        ("dev", "one", "one", "carla", "direct"),
        ("dev", "two", "two", "lena", "group"),
        ("dev", "three", "three", "ben", "direct"),
        ("dev", "manager", "manager", "lena", "group"),
    ],
)
def test_whom_a_policy_denies_may_not_ask_whatever_else_allows_it(
    owner: str, name: str, user: str, target: str, place: Place
) -> None:
    field = LISTS[place, "deny"]
    roster = policed(**{owner: f"{field}: [somebody, {name}]"})
    document, path = DECLARED[owner]

    found = asked(roster, user, target, place)

    assert asked(policed(), user, target, place).allowed
    assert by_policy(found) == ("deny", document, (*path, field, 1))
    assert found.reason == f"You may not ask {target} here: its channelPolicy denies it to you."


@pytest.mark.parametrize(("counts_in", "side"), LISTS)
def test_every_list_of_a_policy_counts_in_its_place_and_in_no_other(counts_in: Place, side: str) -> None:
    user = "dora" if side == "allow" else "op"
    before, after = policed(), policed(alice=f"{LISTS[counts_in, side]}: [{user}]")
    other: Place = "direct" if counts_in == "group" else "group"

    assert asked(after, user, "alice", counts_in).verdict == side
    assert asked(before, user, "alice", counts_in).verdict != side
    assert asked(after, user, "alice", other) == asked(before, user, "alice", other)


def test_these_are_all_lists_of_a_policy() -> None:
    assert set(LISTS.values()) == {info.alias for info in ChannelPolicy.model_fields.values()}


@pytest.mark.parametrize("place", ["group", "direct"])
@pytest.mark.parametrize(("allows", "denies"), [("carla", "carla"), ("carla", "dev"), ("dev", "carla"), ("dev", "dev")])
def test_what_is_denied_is_denied_wherever_it_is_allowed(place: Place, allows: str, denies: str) -> None:
    allow, deny = f"{LISTS[place, 'allow']}: [dora]", f"{LISTS[place, 'deny']}: [dora]"
    lists = {allows: f"{allow}, {deny}"} if allows == denies else {allows: allow, denies: deny}
    document, path = DECLARED[denies]

    found = asked(policed(**lists), "dora", "carla", place)

    assert by_policy(found) == ("deny", document, (*path, LISTS[place, "deny"], 0))


@pytest.mark.parametrize("field", ["groupAllowExtra", "groupDenyExtra"])
def test_of_an_agents_own_policy_and_its_teams_the_own_is_named(field: str) -> None:
    roster = policed(carla=f"{field}: [dora]", dev=f"{field}: [dora]")

    assert asked(roster, "dora", "carla").field == (*DECLARED["carla"][1], field, 0)


@pytest.mark.parametrize(
    ("owner", "target"),
    [("carla", "ben"), ("carla", "lena"), ("lena", "carla"), ("dev", "alice"), ("alice", "zoe"), ("alice", "carla")],
)
def test_a_policy_is_for_those_it_stands_with(owner: str, target: str) -> None:
    assert not asked(policed(**{owner: "groupAllowExtra: [dora]"}), "dora", target).allowed
    assert asked(policed(**{owner: "groupDenyExtra: [op]"}), "op", target).allowed


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("dora", "@dora:other.org"),
        ("'@dora:other.org'", "@dora:hs"),
        ("zoe", "@agent-zoe:other.org"),
        ("'@zoe:hs'", "@agent-zoe:hs"),
        ("'@agent-zoe:hs'", "@zoe:hs"),
        ("do", "@dora:hs"),
    ],
)
def test_a_name_means_one_of_our_homeserver_and_a_matrix_id_only_itself(name: str, user: str) -> None:
    assert not asked(policed(alice=f"groupAllowExtra: [{name}]"), user, "alice").allowed


def test_a_short_name_means_the_agent_and_the_person_called_so() -> None:
    roster = policed(alice="groupAllowExtra: [zoe]")

    assert [asked(roster, user, "alice").allowed for user in ("@agent-zoe:hs", "@zoe:hs")] == [True, True]


@pytest.mark.parametrize(("user", "is_meant"), [("@telegram_1:hs", True), ("@john:hs", False)])
def test_the_name_of_a_human_means_its_account_and_nobody_else_who_is_called_so(user: str, is_meant: bool) -> None:
    john = human("john", 3, "username: telegram_1")
    allows, denies = (
        roster_of(worker("alice", f"channelPolicy: {{{field}: [john]}}") + john + PEOPLE)
        for field in ("groupAllowExtra", "groupDenyExtra")
    )

    assert asked(allows, user, "alice").allowed is is_meant
    assert (asked(denies, user, "alice").rule == "channelPolicy") is is_meant


def test_a_manager_has_no_policy_and_a_teams_does_not_reach_it() -> None:
    roster = policed(dev="groupDenyExtra: [lena, op]")

    assert asked(roster, "lena", "manager").allowed
    assert asked(roster, "op", "manager").allowed
