"""Rooms of companies of any shape: who is where, told a second time and in other words."""

from collections.abc import Iterable, Mapping
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from appservice.policy.roster import Roster
from appservice.rooms import desired, live
from appservice.rooms.desired import SPACES, DesiredRoom, topology
from tests.support.rosters import NAMES, Document, companies, roster_of, text_of
from tests.unit.test_room_differences import made, member, state_of
from tests.unit.test_rooms import ALL, PREFIX, plain

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
