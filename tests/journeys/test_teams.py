"""A Team, its people and its Manager: declared in one file, real in Matrix, and gone again without a trace."""

from urllib.parse import quote

from tests.support.person import Message, Person
from tests.support.stack import Stack, document, worker_yaml

TEAM = """\
apiVersion: hiclaw.io/v1beta1
kind: Team
metadata:
  name: {team}
spec:
  description: Builds the pages.
  leader:
    name: {team}-lead
    model: gpt-test
  workers:
    - name: {team}-one
      model: gpt-test
    - name: {team}-two
      model: gpt-test
"""

HUMAN = """\
apiVersion: hiclaw.io/v1beta1
kind: Human
metadata:
  name: {name}
spec:
  displayName: {name}
  permissionLevel: {level}
"""


async def in_room(stack: Stack, alias: str) -> dict[str, str]:
    """Members of a room as the operator's client reads them: Matrix id -> membership."""
    room = await stack.op.resolve(f"#opsroom-{alias}:{stack.info['server_name']}")
    await stack.op.until(lambda: room in stack.op.rooms, f"the operator in {alias}")
    state = await stack.op.call("GET", f"rooms/{quote(room)}/state")
    members = {
        event["state_key"]: event["content"]["membership"] for event in state if event["type"] == "m.room.member"
    }
    return {user: membership for user, membership in members.items() if membership in ("join", "invite")}


async def join_all(person: Person) -> None:
    for room in sorted(person.invited):
        await person.call("POST", f"join/{quote(room)}", {})


async def test_a_team_is_made_answers_in_its_room_and_goes_whole(stack: Stack) -> None:
    answer = await stack.apply(TEAM.format(team="crew"))
    assert "created `team/crew` — ready" in answer.text
    listed = (await stack.command("!get teams")).text
    assert "crew-lead" in listed
    assert "2 of 2 ready" in listed
    assert "team/crew" in (await stack.command("!get workers")).text

    agents = {stack.agent(f"crew-{name}") for name in ("lead", "one", "two")}
    bot = f"@opsroom:{stack.info['server_name']}"
    assert set(await in_room(stack, "team-crew")) == {stack.op.user, bot, *agents}
    assert set(await in_room(stack, "leader-dm-crew-lead")) == {stack.op.user, bot, stack.agent("crew-lead")}
    room = await stack.op.resolve(f"#opsroom-team-crew:{stack.info['server_name']}")
    await stack.op.until(lambda: room in stack.op.invited or room in stack.op.rooms, "the team's room")
    await stack.op.call("POST", f"join/{quote(room)}", {})
    question = await stack.ask(room, "crew-one", "are you there?")
    assert (await stack.op.answer_to(question, "You said")).sender == stack.agent("crew-one")

    assert "Deleted `team/crew`" in (await stack.command("!delete team/crew --yes")).text
    assert "crew" not in (await stack.command("!get all")).text
    assert not (stack.data_dir / "sandboxes" / "crew-one").exists()


async def test_agents_of_a_team_that_name_no_model_use_the_one_of_the_settings(stack: Stack) -> None:
    plain = "".join(line for line in TEAM.format(team="plain").splitlines(keepends=True) if "model" not in line)
    assert "created `team/plain` — ready" in (await stack.apply(plain)).text
    assert "Model: gpt-test" in (await stack.command("!describe worker/plain-one")).text
    room = await stack.joined(stack.op, "worker-plain-one")
    question = await stack.ask(room, "plain-one", "are you there?")
    assert "You said" in (await stack.op.answer_to(question, "You said")).text
    assert "No changes" in (await stack.apply(plain)).text


async def test_an_agent_of_a_team_sleeps_and_wakes_where_it_is_declared(stack: Stack) -> None:
    assert "ready" in (await stack.apply(TEAM.format(team="shifts"))).text
    assert "changed `team/shifts` — ready" in (await stack.command("!sleep shifts-two")).text
    assert "Sleeping" in (await stack.command("!get worker/shifts-two")).text
    assert "2 of 2 ready" in (await stack.command("!get teams")).text, "asleep as declared is ready"
    assert "state: Sleeping" in (await stack.command("!get team/shifts -o yaml")).text
    await stack.command("!wake shifts-two")
    assert "Running" in (await stack.command("!get worker/shifts-two")).text


async def test_a_manager_says_hello_once_and_is_ready_again_after_a_restart(stack: Stack) -> None:
    def hellos() -> list[Message]:
        said = (one for one in stack.op.messages.values() if one.sender == stack.agent("manager"))
        return [one for one in said if "In this room every message is for me" in one.text]

    manager = document("Manager", "default", model="gpt-test")
    assert "ready" in (await stack.apply(manager)).text
    [hello] = await stack.op.until(hellos, "a word from the Manager")
    assert hello.room == await stack.id("manager-manager")
    assert "ready" in (await stack.command("!restart manager/default", 120)).text
    while "manager/default" in (await stack.command("!status")).text:
        pass
    assert hellos() == [hello]
    assert "Deleted" in (await stack.command("!delete manager/default --files delete --yes")).text


async def test_an_agent_that_left_its_team_goes_back_into_it_with_a_rollback(stack: Stack) -> None:
    whole = TEAM.format(team="homely")
    await stack.apply(whole)
    smaller = whole.replace("    - name: homely-two\n      model: gpt-test\n", "")
    assert "ready" in (await stack.apply(f"{smaller}---\n{worker_yaml('homely-two')}")).text
    assert stack.agent("homely-two") not in await in_room(stack, "team-homely")

    assert "changed `team/homely` — ready" in (await stack.command("!rollback", 150)).text
    assert stack.agent("homely-two") in await in_room(stack, "team-homely")
    assert "Running" in (await stack.command("!get worker/homely-two")).text
    await stack.op.call("POST", f"join/{quote(await stack.id('team-homely'))}", {})
    question = await stack.ask(await stack.id("team-homely"), "homely-two", "are you there?")
    assert (await stack.op.answer_to(question, "You said")).sender == stack.agent("homely-two")
