"""HiClaw's own acceptance scenarios, as far as they are about resources, rooms and policy; the numbers are theirs.

docs/scenarios.md says which test stands for which, and which wait for later work.
"""

from tests.journeys.test_teams import in_room
from tests.support import faults
from tests.support.provider import Hang
from tests.support.stack import Stack, worker_yaml

TEAM = """\
apiVersion: hiclaw.io/v1beta1
kind: Manager
metadata:
  name: default
spec:
  model: gpt-test
---
apiVersion: hiclaw.io/v1beta1
kind: Team
metadata:
  name: alpha
spec:
  description: Ships the release.
  admin:
    name: alpha-admin
  channelPolicy:
    groupAllowExtra: ["@robot:elsewhere.org"]
  leader:
    name: alpha-lead
    model: gpt-test
  workers:
    - name: alpha-w1
      model: gpt-test
      channelPolicy:
        groupDenyExtra: [alpha-w2]
    - name: alpha-w2
      model: gpt-test
"""


async def agents_file(stack: Stack, name: str) -> str:
    return (await stack.files(f"agents/{name}/AGENTS.md"))[f"agents/{name}/AGENTS.md"].decode()


async def verdict(stack: Stack, user: str, agent: str) -> str:
    return (await stack.command(f"!explain {user} -> {agent}")).text.split("**")[1]


async def test_scenario_02_a_worker_is_made_with_its_consumer_files_and_sandbox(stack: Stack) -> None:
    await stack.worker("alice-02", soul="You do the frontend.")
    made = await faults.traces(stack)
    assert all("alice-02" in made[kind] for kind in ("consumers", "storage users", "sandboxes", "processes"))
    assert b"frontend" in (await stack.files("agents/alice-02/SOUL.md"))["agents/alice-02/SOUL.md"]


async def test_scenario_04_a_person_who_steps_in_during_a_task_is_heard(stack: Stack) -> None:
    room = await stack.worker("busy-04")
    stack.provider.when("the long task of 04", Hang())
    first = await stack.ask(room, "busy-04", "the long task of 04")
    await stack.provider.until(lambda: any("long task of 04" in call.prompt for call in stack.provider.calls))
    await stack.ask(room, "busy-04", "use the blue one, please", thread=first)
    stack.provider.release()
    assert "use the blue one" in (await stack.op.answer_to(first, "use the blue one")).text


async def test_scenario_10_access_that_is_taken_away_is_refused_and_works_again_once_restored(stack: Stack) -> None:
    room = await stack.worker("alice-10")
    person = await stack.human("visitor-10", level=3, accessibleWorkers="[alice-10]")
    await stack.joined(person, "worker-alice-10")
    await person.answer_to(await person.say(room, "one", mention=stack.agent("alice-10")), "one")

    await stack.apply(worker_yaml("alice-10", channelPolicy="{groupDenyExtra: [visitor-10]}"))
    await person.answer_to(await person.say(room, "two", mention=stack.agent("alice-10")), "You may not ask")
    await stack.apply(worker_yaml("alice-10"))
    await person.answer_to(await person.say(room, "three", mention=stack.agent("alice-10")), "three")


async def test_scenario_17_the_agents_file_keeps_what_people_wrote_and_their_files_stay(stack: Stack) -> None:
    await stack.worker("carol-17", agents="Always answer in verse.", skills="[notes]")
    text = await agents_file(stack, "carol-17")
    assert "<!-- opsroom-builtin-start -->" in text
    assert "Always answer in verse." in text
    assert await stack.files("agents/carol-17/skills/notes/SKILL.md")
    await stack.worker("carol-17", agents="Always answer in prose.", skills="[notes]")
    again = await agents_file(stack, "carol-17")
    assert again.count("<!-- opsroom-builtin-start -->") == 1
    assert "prose" in again
    assert "verse" not in again


async def test_scenarios_18_19_and_21_a_team_with_its_admin_manager_rules_rooms_and_files(stack: Stack) -> None:
    admin = await stack.human("alpha-admin", level=2, accessibleTeams="[alpha]")  # before the team that it names
    applied = (await stack.apply(TEAM)).text
    assert "created `team/alpha` — ready" in applied
    described = (await stack.command("!describe team/alpha")).text
    assert "alpha-lead (leader) ready" in described
    assert "alpha-w1 ready" in described

    # 18: who may wake whom
    assert await verdict(stack, "manager", "alpha-lead") == "ALLOW"
    assert await verdict(stack, "alpha-w1", "alpha-lead") == "ALLOW"
    assert await verdict(stack, "@robot:elsewhere.org", "alpha-lead") == "ALLOW"
    assert await verdict(stack, "@robot:elsewhere.org", "alpha-w1") == "ALLOW"
    assert await verdict(stack, "manager", "alpha-w1") == "DENY"
    assert await verdict(stack, "alpha-w2", "alpha-w1") == "DENY"
    assert await verdict(stack, "alpha-w1", "alpha-w2") == "ALLOW"
    assert await verdict(stack, "alpha-w1", "manager") == "DENY"

    # 18: what each is told
    leader, member = await agents_file(stack, "alpha-lead"), await agents_file(stack, "alpha-w1")
    assert "You lead the team **alpha**" in leader
    assert stack.agent("manager") in leader
    assert f"Team admin: `{admin.user}`" in leader
    assert stack.agent("alpha-lead") in member
    assert stack.agent("manager") not in member
    assert "Do not mention the Manager" in member

    # 19: the admin is in the team's rooms, and stays there
    for alias in ("team-alpha", "worker-alpha-w1", "worker-alpha-w2", "leader-dm-alpha-lead"):
        await stack.joined(admin, alias)
        found = await admin.call("GET", f"rooms/{await stack.id(alias)}/joined_members")
        assert admin.user in found["joined"]
        assert stack.op.user not in found["joined"]
        assert stack.agent("manager") not in found["joined"]

    # 21: the Manager is in the leader's room, and in none of the team's
    assert stack.agent("manager") in await in_room(stack, "worker-alpha-lead")
    kept = await stack.files("teams/alpha/")
    assert set(kept) == {f"teams/alpha/shared/{folder}/.keep" for folder in ("tasks", "projects", "knowledge")}

    # 100: nothing is left
    assert "Deleted" in (await stack.command("!delete team/alpha --yes", faults.PATIENCE_S)).text
    assert "Deleted" in (await stack.command("!delete manager/default --yes", faults.PATIENCE_S)).text
    left = await faults.traces(stack)
    assert not any(name.startswith("alpha-") or name == "manager" for names in left.values() for name in names)


async def test_scenario_20_texts_of_the_document_win_over_what_was_there(stack: Stack) -> None:
    await stack.worker("dave-20", soul="First soul.", agents="First rules.")
    assert "Deleted" in (await stack.command("!delete worker/dave-20 --yes")).text
    await stack.worker("dave-20", soul="Second soul.", agents="Second rules.")
    soul = (await stack.files("agents/dave-20/SOUL.md"))["agents/dave-20/SOUL.md"].decode()
    assert "Second soul." in soul
    assert "First" not in soul + await agents_file(stack, "dave-20")


async def test_scenario_100_a_human_that_is_gone_is_in_no_room(stack: Stack) -> None:
    await stack.worker("erin-100")
    person = await stack.human("leaver-100", level=1)
    room = await stack.joined(person, "worker-erin-100")
    assert "Deleted" in (await stack.command("!delete human/leaver-100 --yes")).text
    await person.until(lambda: room in person.left, "being taken out")
    assert "no human called" in (await stack.command("!get human/leaver-100")).text
