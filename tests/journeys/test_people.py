"""Humans: an account for who has none, rooms as the level says, and out again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.journeys.test_teams import TEAM, in_room
from tests.support.person import Message, Person, person
from tests.support.stack import Stack, document, worker_yaml


def passwords(stack: Stack, name: str) -> list[Message]:
    said = stack.op.messages.values()
    return [m for m in said if m.room == stack.ops_room and f"`human/{name}`" in m.text and "password" in m.text]


def secret_of(shown: Message) -> str:
    return shown.html.split("password <code>")[1].split("</code>")[0]


@asynccontextmanager
async def logged_in(stack: Stack, name: str, username: str) -> AsyncIterator[Person]:
    """Somebody who uses the password that the operator was shown."""
    await stack.op.until(lambda: passwords(stack, name), "a password")
    password = secret_of(passwords(stack, name)[0])
    async with person(stack.info["homeserver"], username, password) as someone:
        yield someone


def redacted(stack: Stack, event: str) -> bool:
    found = (e for e in stack.op.events if e["type"] == "m.room.redaction")
    return any(event in (e["content"].get("redacts"), e.get("redacts")) for e in found)


async def test_a_human_without_an_account_gets_one_and_the_password_is_shown_once(stack: Stack) -> None:
    await stack.worker("greeter")
    answer = await stack.apply(
        document(
            "Human",
            "newcomer",
            displayName="New Comer",
            username="new.comer_1",  # what no document can be called
            permissionLevel=3,
            accessibleWorkers="[greeter]",
        )
    )
    assert "created `human/newcomer` — ready" in answer.text
    assert "**ALLOW** @new.comer_1:" in (await stack.command("!explain newcomer -> greeter")).text
    async with logged_in(stack, "newcomer", "new.comer_1") as newcomer:
        room = await stack.joined(newcomer, "worker-greeter")
        question = await stack_ask(newcomer, stack, room, "greeter")
        assert "You said" in (await newcomer.answer_to(question, "You said")).text
    [shown] = passwords(stack, "newcomer")
    await stack.op.until(lambda: redacted(stack, shown.id), "the password gone from the room")
    secret = secret_of(shown)
    assert secret not in stack.log()
    for file in ("opsroom.db", "opsroom.db-wal"):
        assert secret.encode() not in (stack.data_dir / file).read_bytes()


async def stack_ask(someone: Person, stack: Stack, room: str, agent: str) -> str:
    return await someone.say(room, "hello there", mention=stack.agent(agent))


async def test_an_operator_removes_a_password_with_a_mark(stack: Stack) -> None:
    await stack.apply(document("Human", "later", displayName="Later", permissionLevel=3))
    await stack.op.until(lambda: passwords(stack, "later"), "a password")
    [shown] = passwords(stack, "later")
    await stack.op.react(stack.ops_room, shown.id, "✅")
    await stack.op.until(lambda: redacted(stack, shown.id), "the password gone from the room")


async def test_a_human_may_be_declared_before_the_team_it_names(stack: Stack) -> None:
    early = await stack.human("early", level=2, accessibleTeams="[late-team]")
    described = (await stack.command("!describe human/early")).text
    assert "no team late-team yet" in described

    await stack.apply(TEAM.format(team="late-team"))
    room = await stack.joined(early, "team-late-team")
    answer = await early.answer_to(await stack_ask(early, stack, room, "late-team-lead"), "You said")
    assert answer.sender == stack.agent("late-team-lead")
    assert early.user not in await in_room(stack, "leader-dm-late-team-lead")
    assert early.user not in await in_room(stack, "worker-late-team-lead")
    assert early.user in await in_room(stack, "worker-late-team-one")

    await stack.apply(document("Human", "early", displayName="early", permissionLevel=3, accessibleTeams="[late-team]"))
    await early.until(lambda: room in early.left, "being taken out")
    assert "Without effect at level 3" in (await stack.command("!describe human/early")).text
    assert "Deleted `human/early`" in (await stack.command("!delete human/early --yes")).text


async def test_a_name_belongs_to_one_thing_only(stack: Stack) -> None:
    await stack.worker("taken")
    refused = await stack.apply(document("Human", "taken", displayName="x", permissionLevel=1))
    assert "The name taken is taken by `worker/taken`" in refused.text
    team = await stack.apply(TEAM.format(team="solo").replace("solo-one", "taken"))
    assert "taken by `worker/taken`" in team.text
    assert "no object called" in (await stack.command("!describe solo")).text


async def test_what_belongs_to_a_team_is_changed_in_the_team(stack: Stack) -> None:
    await stack.apply(TEAM.format(team="owned"))
    refused = await stack.apply(worker_yaml("owned-one", soul="mine now"))
    assert "agent owned-one is part of `team/owned`" in refused.text
    assert "!edit team/owned" in (await stack.command("!set worker/owned-one model=other")).text
    assert "!edit team/owned" in (await stack.command("!delete worker/owned-one --yes")).text

    smaller = TEAM.format(team="owned").replace("    - name: owned-two\n      model: gpt-test\n", "")
    planned = await stack.op.command(stack.ops_room, f"!plan\n```yaml\n{smaller}```")
    assert "**delete** `worker/owned-two`" in planned.text
    assert "ready" in (await stack.command(f"!apply --yes\n```yaml\n{smaller}```", 120)).text
    assert set(await in_room(stack, "team-owned")) >= {stack.agent("owned-one")}
    assert "no worker called" in (await stack.command("!get worker/owned-two")).text
    assert stack.agent("owned-two") not in await in_room(stack, "team-owned")
