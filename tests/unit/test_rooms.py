"""Who is in which room, with which power, below which space; and when a room is as it should be."""

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appservice.policy.roster import Roster
from appservice.rooms import desired, live
from appservice.rooms.desired import SPACES, DesiredRoom, topology
from tests.support.rosters import NAMES, Document, companies, human, manager, roster_of, team, text_of, worker

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
        ("manager-manager", "Ask manager by mentioning @manager."),
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


# -- how a room is made -----------------------------------------------------------------------------------------


def made(room: DesiredRoom, *, parent: str = "", open_to: str = "", avatar: str = "") -> dict[str, Any]:
    return desired.creation(room, server_name="hs", parent=parent, open_to=open_to, avatar=avatar)


def initial(body: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    return {(event["type"], event["state_key"]): event["content"] for event in body["initial_state"]}


def test_a_room_that_is_open_to_a_space_can_be_joined_by_its_members() -> None:
    assert desired.join_rules("!team") == {
        "join_rule": "restricted",
        "allow": [{"type": "m.room_membership", "room_id": "!team"}],
    }


def test_any_other_room_is_for_those_who_are_invited() -> None:
    assert desired.join_rules("") == {"join_rule": "invite"}


@pytest.mark.parametrize("room", EVERY_ROOM.values(), ids=EVERY_ROOM)
def test_a_room_is_made_private_of_this_server_only_and_readable_for_who_comes_later(room: DesiredRoom) -> None:
    body = made(room, open_to="!team")

    assert (body["room_alias_name"], body["preset"], body["visibility"]) == (room.alias, "private_chat", "private")
    assert (body["room_version"], body["creation_content"]["m.federate"]) == ("12", False)
    assert body["power_level_content_override"] == desired.power_levels(room)
    assert initial(body)["m.room.join_rules", ""] == desired.join_rules("!team")
    assert initial(body)["m.room.history_visibility", ""] == {"history_visibility": "shared"}
    assert initial(body)["m.room.guest_access", ""] == {"guest_access": "forbidden"}


@pytest.mark.parametrize("alias", EVERY_ROOM)
def test_only_spaces_are_made_as_spaces(alias: str) -> None:
    kind = made(EVERY_ROOM[alias])["creation_content"].get("type", "")

    assert kind == ("m.space" if alias in ("space", "space-dev", "space-web") else "")


def test_a_room_is_made_with_its_place_and_its_picture() -> None:
    found = initial(made(EVERY_ROOM["worker-alice"], parent="!space", avatar="mxc://hs/a"))

    assert found["m.space.parent", "!space"] == {"via": ["hs"], "canonical": True}
    assert found["m.room.avatar", ""] == {"url": "mxc://hs/a"}


def test_a_room_without_place_and_picture_is_made_without() -> None:
    kinds = {kind for kind, _ in initial(made(EVERY_ROOM["space"]))}

    assert kinds == {"m.room.history_visibility", "m.room.guest_access", "m.room.join_rules"}


# -- how it differs ---------------------------------------------------------------------------------------------


def state_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a homeserver has after it made this room, with what it adds by itself."""
    levels = {"notifications": {"room": 50}} | body["power_level_content_override"]
    whole = [
        ("m.room.create", {"room_version": "12"} | body["creation_content"]),
        ("m.room.name", {"name": body["name"]}),
        ("m.room.topic", {"topic": body["topic"], "m.topic": {"m.text": [{"body": body["topic"]}]}}),
        ("m.room.power_levels", levels),
        ("m.room.canonical_alias", {"alias": f"#{body['room_alias_name']}:hs"}),
    ]
    return [*({"type": kind, "state_key": "", "content": content} for kind, content in whole), *body["initial_state"]]


def member(user: str, membership: str) -> dict[str, Any]:
    return {"type": "m.room.member", "state_key": user, "content": {"membership": membership}}


BEN = EVERY_ROOM["worker-ben"]
LEVELS = desired.power_levels(BEN)


@pytest.mark.parametrize(
    ("kind", "drifted"),
    [
        ("m.room.name", {"name": "mine now"}),
        ("m.room.topic", {}),
        ("m.room.join_rules", {"join_rule": "public"}),
        ("m.room.join_rules", desired.join_rules("!other")),
        ("m.room.history_visibility", {"history_visibility": "joined"}),
        ("m.room.power_levels", LEVELS | {"users": LEVELS["users"] | {"@agent-ben:hs": 100}}),
        ("m.room.power_levels", LEVELS | {"users": {}}),
        ("m.room.power_levels", LEVELS | {"state_default": 0}),
        ("m.room.power_levels", LEVELS | {"events": LEVELS["events"] | {"m.room.name": 0}}),
        ("m.room.power_levels", LEVELS | {"events": {}}),
    ],
)
def test_what_has_drifted_is_sent_again_and_nothing_else(kind: str, drifted: dict[str, Any]) -> None:
    state = [event for event in state_of(made(BEN, open_to="!team")) if event["type"] != kind]
    state.append({"type": kind, "state_key": "", "content": drifted})
    whole = {
        "m.room.name": {"name": "ben"},
        "m.room.topic": {"topic": BEN.topic},
        "m.room.join_rules": desired.join_rules("!team"),
        "m.room.history_visibility": {"history_visibility": "shared"},
        "m.room.power_levels": LEVELS,
    }

    assert live.differences(BEN, state, open_to="!team") == [(kind, whole[kind])]


@pytest.mark.parametrize(
    ("user", "membership", "stranger"),
    [
        ("@dora:hs", "join", True),
        ("@dora:hs", "invite", True),
        ("@dora:hs", "knock", True),
        ("@dora:hs", "leave", False),
        ("@dora:hs", "ban", False),
        ("@agent-carla:hs", "join", True),
        ("@agent-ben:hs", "join", False),
        ("@pm:hs", "join", False),
        ("@op:hs", "join", True),  # the team is run by its admin
        ("@opsroom:hs", "join", False),
    ],
)
def test_who_is_in_a_room_without_a_place_there_is_a_stranger(user: str, membership: str, stranger: bool) -> None:
    assert live.strangers(BEN, [member(user, membership)], bot=NAMES.bot) == [user] * stranger


def test_a_guest_is_no_stranger() -> None:
    room = rooms_of(worker("alice", "channelPolicy: {groupAllowExtra: [dora]}"))["worker-alice"]

    assert live.strangers(room, [member("@dora:hs", "join"), member("@eve:hs", "join")], bot=NAMES.bot) == ["@eve:hs"]


@pytest.mark.parametrize(("membership", "complete"), [("join", True), ("invite", True), ("leave", True), ("", False)])
def test_a_room_is_complete_once_all_were_asked_in_whatever_they_did_then(membership: str, complete: bool) -> None:
    last, *others = sorted(BEN.members)
    state = [member(user, "join") for user in others] + ([member(last, membership)] if membership else [])

    assert live.is_complete(BEN, state) is complete


# -- companies of any shape -------------------------------------------------------------------------------------

OPERATORS = ("@op:hs", "@h1:hs")  # one of the people operates, too
SOME = settings(deadline=None, max_examples=50)
PERSONS = (*OPERATORS, "@h0:hs", "@h2:hs", "@h3:hs", "@pm:hs", "@far:other.org")


def company(documents: list[Document]) -> Roster:
    return roster_of(text_of(documents), operators=OPERATORS)


class Said:
    """Who belongs where, said a second time: from the documents, by person and by agent."""

    def __init__(self, documents: list[Document]) -> None:
        specs: dict[str, dict[str, Document]] = {"Team": {}, "Worker": {}, "Manager": {}, "Human": {}}
        for document in documents:
            specs[document["kind"]][document["metadata"]["name"]] = document["spec"]
        self.teams, self.humans = specs["Team"], specs["Human"]
        self.workers = list(specs["Worker"])
        self.managers = ["manager" if name == "default" else name for name in specs["Manager"]]
        self.leaders = {name: spec["leader"]["name"] for name, spec in self.teams.items()}
        self.members = {name: [each["name"] for each in spec["workers"]] for name, spec in self.teams.items()}

    def without_managers(self, name: str) -> set[str]:
        """The rooms of a team in which its admin is."""
        return {f"leader-dm-{self.leaders[name]}", *self.common(name), *own(self.members[name])}

    def common(self, name: str) -> set[str]:
        return {f"space-{name}", f"team-{name}"}

    def rooms_of_person(self, user: str) -> set[str]:
        found = {room for name in self.teams if user in self._run_by(name) for room in self.without_managers(name)}
        found |= {"space"} if found else set()
        if user in OPERATORS:
            found |= {"space", *own(self.workers), *own(self.leaders.values())}
            found |= {f"manager-{name}" for name in self.managers}
        spec = self.humans.get(user[1:].partition(":")[0])
        return found | self._opened(spec) if spec else found

    def rooms_of_agents(self) -> dict[str, set[str]]:
        found = {name: own([name]) for name in self.workers}
        for each, leader in self.leaders.items():
            found |= {name: own([name]) | self.common(each) for name in self.members[each]}
            found[leader] = self.without_managers(each) | own([leader])
        for name in self.managers:
            found[name] = {f"manager-{name}", *own(self.workers), *own(self.leaders.values())}
        return {NAMES.user(name): rooms for name, rooms in found.items()}

    def _run_by(self, name: str) -> Iterable[str]:
        admin = self.teams[name].get("admin")
        return [admin.get("matrixUserId") or f"@{admin['name']}:hs"] if admin else OPERATORS

    def _opened(self, spec: Document) -> set[str]:
        """What a Human's level opens."""
        level, teams = spec["permissionLevel"], set(spec["accessibleTeams"])
        workers = {*self.workers, *(name for names in self.members.values() for name in names)}
        found = {"space", *own(workers & set(spec["accessibleWorkers"]))}
        if level == 1:
            found |= own([*self.workers, *self.leaders.values()])
        for name in self.teams:
            if level == 1 or (level == 2 and name in teams):
                found |= self.common(name) | own(self.members[name])
        return found


def own(names: Iterable[str]) -> set[str]:
    return {f"worker-{name}" for name in names}


def where(user: str, rooms: Mapping[str, DesiredRoom]) -> set[str]:
    return {alias for alias, room in rooms.items() if user in room.members}


@given(companies())
@SOME
def test_people_are_exactly_where_they_belong(documents: list[Document]) -> None:
    rooms, said = plain(company(documents)), Said(documents)

    assert {user: where(user, rooms) for user in PERSONS} == {user: said.rooms_of_person(user) for user in PERSONS}


@given(companies())
@SOME
def test_agents_are_exactly_where_they_belong(documents: list[Document]) -> None:
    rooms = plain(company(documents))
    there = {user for room in rooms.values() for user in room.members if NAMES.is_ours(user)}

    assert {user: where(user, rooms) for user in there} == Said(documents).rooms_of_agents()


@given(companies())
@SOME
def test_no_manager_has_a_place_in_a_room_of_a_team(documents: list[Document]) -> None:
    roster, said = company(documents), Said(documents)
    rooms, managers = plain(roster), {agent.user for agent in roster.managers}

    for name in said.teams:
        for alias in said.without_managers(name):
            assert not managers & (rooms[alias].members | rooms[alias].guests)


@given(companies())
@SOME
def test_power_is_with_members_and_of_agents_only_with_leaders(documents: list[Document]) -> None:
    leaders = {NAMES.user(name) for name in Said(documents).leaders.values()}

    for room in plain(company(documents)).values():
        assert room.powers.keys() <= room.members
        assert {user for user, power in room.powers.items() if power != 100} == set(room.powers) & leaders
        assert {user for user in room.powers if NAMES.is_ours(user)} <= leaders


@given(companies())
@SOME
def test_no_guest_is_an_agent(documents: list[Document]) -> None:
    assert not [user for room in plain(company(documents)).values() for user in room.guests if NAMES.is_ours(user)]


@given(companies())
@SOME
def test_a_space_comes_before_what_is_below_it(documents: list[Document]) -> None:
    seen: list[str] = []

    for room in topology(company(documents), prefix=PREFIX).values():
        assert (room.parent in seen) == (room.alias != f"{PREFIX}space")
        assert room.open_to in ("", room.parent)
        if room.purpose in SPACES:
            seen.append(room.alias)


@given(companies())
@SOME
def test_no_two_rooms_have_one_alias_and_every_agent_has_its_own(documents: list[Document]) -> None:
    roster = company(documents)
    rooms = topology(roster, prefix=PREFIX)
    owned = {desired.own_room(agent, prefix=PREFIX): agent for agent in roster.agents.values()}

    assert len(rooms) == 1 + 3 * len(roster.teams) + len(roster.agents)
    assert len(owned) == len(roster.agents)
    assert all(alias == room.alias for alias, room in rooms.items())
    assert all(
        rooms[alias].owner == agent.name and agent.user in rooms[alias].members for alias, agent in owned.items()
    )


@given(companies(), st.randoms(use_true_random=False))
@SOME
def test_the_order_of_documents_changes_nothing(documents: list[Document], random: Random) -> None:
    shuffled = random.sample(documents, len(documents))

    assert plain(company(shuffled)) == plain(company(documents))


@given(companies(), st.sampled_from(["", "!team"]))
@SOME
def test_a_room_that_was_just_made_does_not_differ(documents: list[Document], open_to: str) -> None:
    for room in plain(company(documents)).values():
        assert live.differences(room, state_of(made(room, open_to=open_to)), open_to=open_to) == []


@given(companies(), st.randoms(use_true_random=False))
@SOME
def test_neither_the_bot_nor_a_member_nor_a_guest_is_a_stranger(documents: list[Document], random: Random) -> None:
    for room in plain(company(documents)).values():
        welcome = {NAMES.bot, *room.members, *room.guests}
        state = [member(user, random.choice(["join", "invite", "knock"])) for user in sorted(welcome)]
        state += [member(user, "join") for user in ("@dora:hs", "@agent-dora:hs")]

        assert live.strangers(room, state, bot=NAMES.bot) == ["@agent-dora:hs", "@dora:hs"]


def test_the_room_of_an_object_is_known_by_its_alias_and_no_other_room_is() -> None:
    roster = roster_of(ALL)
    for room in topology(roster, prefix=PREFIX, journals=2).values():
        purpose, name = desired.labelled(room.alias, prefix=PREFIX)
        if room.purpose in ("space", "journal"):
            assert purpose is None
        else:
            assert purpose == room.purpose
            assert name in (room.owner, *roster.agents)
    assert desired.labelled("y-worker-alice", prefix=PREFIX) == (None, "")
    assert desired.labelled(f"{PREFIX}ops", prefix=PREFIX) == (None, "")
