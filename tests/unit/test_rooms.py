"""Who is in which room, with which power, below which space; and when a room is as it should be."""

from collections.abc import Iterable, Mapping

import pytest

from appservice.policy.roster import Roster
from appservice.rooms import desired
from appservice.rooms.desired import DesiredRoom, topology
from tests.support.rosters import NAMES, human, manager, roster_of, team, worker

PREFIX = "x-"
DEV = team("dev", "lena", "ben", "carla")
RUN_BY_PM = team("dev", "lena", "ben", "carla", fields="admin: {name: pm}")
WEB = team("web", "wendy")
ALICE = worker("alice")
PEOPLE = (
    human("one", 1)
    + human("two", 2, "accessibleTeams: [dev], accessibleWorkers: [alice, wendy]")
    + human("three", 3, "accessibleTeams: [dev], accessibleWorkers: [ben, lena]")
    + human("four", 3)
)
ALL = manager() + RUN_BY_PM + WEB + ALICE + PEOPLE


def rooms_of(text: str) -> Mapping[str, DesiredRoom]:
    """By alias without the prefix."""
    return plain(roster_of(text))


def plain(roster: Roster) -> Mapping[str, DesiredRoom]:
    return {alias.removeprefix(PREFIX): room for alias, room in topology(roster, prefix=PREFIX).items()}


def users(names: str | Iterable[str]) -> set[str]:
    """Matrix ids of people, and of agents, which are marked with a `*`."""
    listed = names.split() if isinstance(names, str) else names
    return {NAMES.user(name[1:]) if name.startswith("*") else NAMES.person(name) for name in listed}


# -- members ----------------------------------------------------------------------------------------------------

# What is declared, and then each room with who is in it; agents have a star.
MEMBERS: dict[str, tuple[str, dict[str, str]]] = {
    "nothing": ("", {"space": "op"}),
    "a worker": (ALICE, {"space": "op", "worker-alice": "op *alice"}),
    "a worker and a manager": (
        ALICE + manager(),
        {"space": "op", "worker-alice": "op *manager *alice", "manager-manager": "op *manager"},
    ),
    "two managers": (
        manager() + manager("night") + ALICE,
        {
            "space": "op",
            "worker-alice": "op *manager *night *alice",
            "manager-manager": "op *manager",
            "manager-night": "op *night",
        },
    ),
    "a team": (
        DEV,
        {
            "space": "op",
            "space-dev": "op *lena *ben *carla",
            "team-dev": "op *lena *ben *carla",
            "leader-dm-lena": "op *lena",
            "worker-lena": "op *lena",
            "worker-ben": "op *lena *ben",
            "worker-carla": "op *lena *carla",
        },
    ),
    "a team and a manager": (
        DEV + manager(),
        {
            "space": "op",
            "space-dev": "op *lena *ben *carla",
            "team-dev": "op *lena *ben *carla",
            "leader-dm-lena": "op *lena",
            "worker-lena": "op *manager *lena",
            "worker-ben": "op *lena *ben",
            "worker-carla": "op *lena *carla",
            "manager-manager": "op *manager",
        },
    ),
    "a team with an admin, and a manager": (
        RUN_BY_PM + manager(),
        {
            "space": "op pm",
            "space-dev": "pm *lena *ben *carla",
            "team-dev": "pm *lena *ben *carla",
            "leader-dm-lena": "pm *lena",
            "worker-lena": "op *manager *lena",
            "worker-ben": "pm *lena *ben",
            "worker-carla": "pm *lena *carla",
            "manager-manager": "op *manager",
        },
    ),
    "a leader without members": (
        WEB,
        {
            "space": "op",
            "space-web": "op *wendy",
            "team-web": "op *wendy",
            "leader-dm-wendy": "op *wendy",
            "worker-wendy": "op *wendy",
        },
    ),
    "people of each level": (
        DEV + WEB + ALICE + PEOPLE,
        {
            "space": "op one two three four",
            "space-dev": "op one two *lena *ben *carla",
            "team-dev": "op one two *lena *ben *carla",
            "leader-dm-lena": "op *lena",
            "worker-lena": "op one *lena",
            "worker-ben": "op one two three *lena *ben",
            "worker-carla": "op one two *lena *carla",
            "space-web": "op one *wendy",
            "team-web": "op one *wendy",
            "leader-dm-wendy": "op *wendy",
            "worker-wendy": "op one *wendy",
            "worker-alice": "op one two *alice",
        },
    ),
    "all of it": (
        ALL,
        {
            "space": "op pm one two three four",
            "space-dev": "pm one two *lena *ben *carla",
            "team-dev": "pm one two *lena *ben *carla",
            "leader-dm-lena": "pm *lena",
            "worker-lena": "op one *manager *lena",
            "worker-ben": "pm one two three *lena *ben",
            "worker-carla": "pm one two *lena *carla",
            "space-web": "op one *wendy",
            "team-web": "op one *wendy",
            "leader-dm-wendy": "op *wendy",
            "worker-wendy": "op one *manager *wendy",
            "worker-alice": "op one two *manager *alice",
            "manager-manager": "op *manager",
        },
    ),
}


@pytest.mark.parametrize(
    ("text", "alias", "members"),
    [
        pytest.param(text, alias, members, id=f"{name}: {alias}")
        for name, (text, rooms) in MEMBERS.items()
        for alias, members in rooms.items()
    ],
)
def test_a_room_has_the_members_it_should_have(text: str, alias: str, members: str) -> None:
    assert rooms_of(text)[alias].members == users(members)


@pytest.mark.parametrize(("text", "rooms"), MEMBERS.values(), ids=MEMBERS)
def test_there_are_these_rooms_and_no_others(text: str, rooms: Mapping[str, str]) -> None:
    assert set(rooms_of(text)) == set(rooms)


def test_all_operators_are_in_the_rooms_of_operators() -> None:
    rooms = plain(roster_of(ALICE + manager() + DEV, operators=("@op:hs", "@second:hs")))

    assert all(users("op second") <= room.members for room in rooms.values())


@pytest.mark.parametrize(
    ("named", "admins"), [("@boss:hs", "boss"), ("@boss:other.org", "op"), ("@boss:s:hs2", "op"), ("@opsroom:hs", "op")]
)
def test_a_team_is_run_by_the_matrix_id_it_names_and_by_operators_where_nobody_can_be_that(
    named: str, admins: str
) -> None:
    rooms = rooms_of(team("dev", "lena", fields=f'admin: {{name: pm, matrixUserId: "{named}"}}'))

    assert rooms["leader-dm-lena"].members == users(f"{admins} *lena")
    assert all(f"@boss:{server}" not in room.members for room in rooms.values() for server in ("other.org", "s:hs2"))


def test_a_team_that_names_a_human_is_run_by_its_account() -> None:
    pm = human("pm", 3, "username: telegram_7")
    rooms = rooms_of(team("dev", "lena", fields="admin: {name: pm}") + pm)

    assert rooms["leader-dm-lena"].members == users("telegram_7 *lena")


# -- guests -----------------------------------------------------------------------------------------------------

LENAS = ("team-dev", "worker-lena")
BENS = ("team-dev", "worker-ben")


@pytest.mark.parametrize(
    ("text", "rooms", "guests"),
    [
        (worker("alice", "channelPolicy: {groupAllowExtra: [dora, eve]}"), ["worker-alice"], "dora eve"),
        (worker("alice", "channelPolicy: {dmAllowExtra: ['@d:other.org']}"), ["worker-alice"], "@d:other.org"),
        (team("dev", "lena, channelPolicy: {groupAllowExtra: [dora]}", "ben"), LENAS, "dora"),
        (team("dev", "lena", "ben, channelPolicy: {dmAllowExtra: [dora]}"), BENS, "dora"),
        (team("dev", "lena", "ben", fields="channelPolicy: {groupAllowExtra: [dora]}"), {*LENAS, *BENS}, "dora"),
        (worker("alice", "channelPolicy: {groupDenyExtra: [dora], dmDenyExtra: [dora]}"), [], ""),
    ],
)
def test_a_person_whom_a_policy_allows_may_stay_where_the_agent_is_asked(
    text: str, rooms: Iterable[str], guests: str
) -> None:
    found = rooms_of(text)

    assert {alias for alias, room in found.items() if room.guests} == set(rooms)
    assert all(found[alias].guests == users(guests) for alias in rooms)
    assert all(not room.members & users(guests) for room in found.values())


def test_a_human_whom_a_policy_allows_by_name_may_stay_under_its_account() -> None:
    found = rooms_of(worker("alice", "channelPolicy: {groupAllowExtra: [dora]}") + human("dora", 3, "username: tele"))

    assert found["worker-alice"].guests == users("tele")


def test_an_agent_whom_a_policy_allows_is_no_guest() -> None:
    policy = "channelPolicy: {groupAllowExtra: ['@agent-zoe:hs', '@agent-manager:hs', '@opsroom:hs']}"

    assert rooms_of(worker("alice", policy) + worker("zoe") + manager())["worker-alice"].guests == set()


# -- power ------------------------------------------------------------------------------------------------------

# Of all of it: team dev is run by pm, team web by the operators.
POWERS = {
    "space": "op=100",
    "space-dev": "pm=100 *lena=50",
    "team-dev": "pm=100 *lena=50",
    "leader-dm-lena": "pm=100 *lena=50",
    "worker-lena": "op=100 *lena=50",
    "worker-ben": "pm=100 *lena=50",
    "worker-carla": "pm=100 *lena=50",
    "space-web": "op=100 *wendy=50",
    "team-web": "op=100 *wendy=50",
    "leader-dm-wendy": "op=100 *wendy=50",
    "worker-wendy": "op=100 *wendy=50",
    "worker-alice": "op=100",
    "manager-manager": "op=100",
}
EVERY_ROOM = {
    **rooms_of(ALL),
    "ops": desired.ops_room(prefix=PREFIX, operators=frozenset({"@op:hs"}), bot=NAMES.bot),
}


@pytest.mark.parametrize(("alias", "powers"), POWERS.items())
def test_those_who_run_a_room_have_power_its_leader_some_and_nobody_else_any(alias: str, powers: str) -> None:
    pairs = [pair.split("=") for pair in powers.split()]
    expected = {user: int(level) for name, level in pairs for user in users([name])}

    found = desired.power_levels(EVERY_ROOM[alias])

    assert found["users"] == expected
    assert found["users_default"] == 0


@pytest.mark.parametrize("room", EVERY_ROOM.values(), ids=EVERY_ROOM)
def test_no_agent_can_change_the_state_of_a_room(room: DesiredRoom) -> None:
    levels = desired.power_levels(room)
    needed = [levels[what] for what in ("state_default", "ban", "kick", "invite")] + list(levels["events"].values())

    agents = [levels["users"].get(user, levels["users_default"]) for user in room.members if NAMES.is_ours(user)]

    assert all(power < min(needed) for power in agents)


@pytest.mark.parametrize("room", EVERY_ROOM.values(), ids=EVERY_ROOM)
def test_nobody_but_its_creator_can_end_or_encrypt_a_room(room: DesiredRoom) -> None:
    levels = desired.power_levels(room)

    assert {"m.room.tombstone", "m.room.encryption"} <= levels["events"].keys()
    for event in ("m.room.tombstone", "m.room.encryption"):
        assert levels["events"][event] > max(levels["users"].values())
    assert NAMES.bot not in levels["users"]  # a creator has all power and may not be listed


@pytest.mark.parametrize("alias", ["team-dev", "worker-ben", "leader-dm-lena"])
def test_a_leader_can_take_away_what_others_said_and_a_member_cannot(alias: str) -> None:
    levels = desired.power_levels(EVERY_ROOM[alias])

    assert levels["users_default"] < levels["redact"] <= levels["users"][NAMES.user("lena")]


@pytest.mark.parametrize("alias", EVERY_ROOM)
def test_everybody_may_speak_in_a_room_and_only_the_powerful_in_a_space(alias: str) -> None:
    levels = desired.power_levels(EVERY_ROOM[alias])

    assert (levels["events_default"] > levels["users_default"]) == alias.startswith("space")


# -- names and places -------------------------------------------------------------------------------------------

# Of all of it: purpose, name, whose it is, the space above, the space whose members may join.
PLACES = {
    "space": ("space", "Opsroom", "", "", ""),
    "space-dev": ("team-space", "Team dev", "dev", "space", ""),
    "team-dev": ("team", "dev (team)", "dev", "space-dev", "space-dev"),
    "leader-dm-lena": ("leader-dm", "lena (direct)", "dev", "space-dev", ""),
    "worker-lena": ("worker", "lena", "lena", "space-dev", ""),
    "worker-ben": ("worker", "ben", "ben", "space-dev", "space-dev"),
    "worker-carla": ("worker", "carla", "carla", "space-dev", "space-dev"),
    "space-web": ("team-space", "Team web", "web", "space", ""),
    "team-web": ("team", "web (team)", "web", "space-web", "space-web"),
    "leader-dm-wendy": ("leader-dm", "wendy (direct)", "web", "space-web", ""),
    "worker-wendy": ("worker", "wendy", "wendy", "space-web", ""),
    "worker-alice": ("worker", "alice", "alice", "space", ""),
    "manager-manager": ("manager", "manager", "manager", "space", ""),
    "ops": ("ops", "Ops room", "", "space", ""),
}


@pytest.mark.parametrize(("alias", "expected"), PLACES.items())
def test_a_room_has_its_name_and_its_place_below_a_space(alias: str, expected: tuple[str, ...]) -> None:
    room = EVERY_ROOM[alias]
    parent, open_to = room.parent.removeprefix(PREFIX), room.open_to.removeprefix(PREFIX)

    assert (room.purpose, room.name, room.owner, parent, open_to) == expected


def test_every_room_is_in_the_tables() -> None:
    assert set(POWERS) | {"ops"} == set(PLACES) == set(EVERY_ROOM) == set(MEMBERS["all of it"][1]) | {"ops"}


def test_a_teams_rooms_say_what_the_team_is_for() -> None:
    rooms = rooms_of(team("dev", "lena", "ben", fields="description: Builds the pages."))

    assert rooms["space-dev"].topic == "Builds the pages."
    assert rooms["team-dev"].topic == "Builds the pages. Ask lena by mentioning @lena."


def test_a_team_of_which_nothing_is_said_is_described_by_who_is_in_it() -> None:
    assert rooms_of(DEV)["space-dev"].topic == "Team dev: lena, ben, carla."


@pytest.mark.parametrize(
    ("alias", "said"),
    [
        ("worker-alice", "Ask alice by mentioning @alice."),
        ("worker-ben", "Ask ben by mentioning @ben."),
        ("manager-manager", "Alone with manager: no mention is needed."),
        ("leader-dm-lena", "Alone with lena, who leads dev: no mention is needed."),
        ("ops", "Begin with !help"),
    ],
)
def test_the_topic_of_a_room_says_how_to_ask_there(alias: str, said: str) -> None:
    assert said in EVERY_ROOM[alias].topic


@pytest.mark.parametrize(
    ("alias", "portrait"),
    [
        ("worker-ben", "@agent-ben:hs"),
        ("leader-dm-lena", "@agent-lena:hs"),
        ("manager-manager", "@agent-manager:hs"),
        ("space", "@opsroom:hs"),
        ("ops", "@opsroom:hs"),
        ("team-dev", ""),
    ],
)
def test_a_room_has_the_picture_of_whom_it_is_for(alias: str, portrait: str) -> None:
    assert EVERY_ROOM[alias].portrait == portrait


def test_the_operators_room_has_the_operators_alone() -> None:
    assert EVERY_ROOM["ops"].members == users("op")
