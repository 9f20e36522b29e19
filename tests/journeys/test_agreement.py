"""What destroys something waits for an operator's ✅, and is done as it was shown or not at all."""

from tests.journeys.test_teams import TEAM
from tests.support.person import Message
from tests.support.stack import Stack, worker_yaml

HUMAN = """\
apiVersion: hiclaw.io/v1beta1
kind: Human
metadata: {{name: {name}}}
spec: {{displayName: Somebody, permissionLevel: 1}}
"""


async def asked(stack: Stack, command: str) -> tuple[str, Message]:
    """Type a command that asks back; the command's event and the question."""
    event = await stack.op.say(stack.ops_room, command)
    return event, await stack.op.answer_to(event, "React with ✅")


async def test_a_deletion_is_shown_and_waits_for_a_mark(stack: Stack) -> None:
    await stack.worker("doomed")
    event, question = await asked(stack, "!delete worker/doomed")
    assert "**delete** `worker/doomed`" in question.text
    assert "doomed" in (await stack.command("!get workers")).text

    await stack.op.react(stack.ops_room, question.id, "✅")
    assert "Deleted `worker/doomed`" in (await stack.op.ended(event)).text


async def test_a_no_leaves_everything_as_it_is(stack: Stack) -> None:
    await stack.worker("spared")
    event, question = await asked(stack, "!delete worker/spared")
    await stack.op.react(stack.ops_room, question.id, "❌")
    assert "@op said no. Nothing was done." in (await stack.op.ended(event)).text
    assert "spared" in (await stack.command("!get workers")).text


async def test_a_plan_is_not_carried_out_when_the_state_it_was_made_on_is_another_one(stack: Stack) -> None:
    await stack.worker("moved-on")
    event, question = await asked(stack, "!delete worker/moved-on")
    await stack.command("!set worker/moved-on soul=new")

    await stack.op.react(stack.ops_room, question.id, "✅")
    assert "something has changed meanwhile" in (await stack.op.ended(event)).text
    assert "moved-on" in (await stack.command("!get workers")).text


async def test_a_question_is_answered_in_whichever_room_it_was_asked(stack: Stack) -> None:
    await stack.worker("doomed-from-afar", state="Stopped")
    room = await stack.worker("bystander", state="Stopped")
    bot = f"@opsroom:{stack.info['server_name']}"
    event = await stack.op.say(room, "delete worker/doomed-from-afar", mention=bot)
    question = await stack.op.answer_to(event, "React with ✅")
    assert question.room == room

    await stack.op.react(room, question.id, "✅")
    assert "Deleted `worker/doomed-from-afar`" in (await stack.op.ended(event)).text


async def test_somebody_elses_mark_counts_for_nothing(stack: Stack) -> None:
    await stack.worker("guarded-well")
    onlooker = await stack.somebody("onlooker")
    await stack.op.call("POST", f"rooms/{stack.ops_room}/invite", {"user_id": onlooker.user})
    await onlooker.until(lambda: stack.ops_room in onlooker.rooms, "the ops room")
    event, question = await asked(stack, "!delete worker/guarded-well")

    await onlooker.react(stack.ops_room, question.id, "✅")
    assert "guarded-well" in (await stack.command("!get workers")).text
    await stack.op.react(stack.ops_room, question.id, "❌")
    assert "said no" in (await stack.op.ended(event)).text


async def test_a_question_outlives_the_control_plane(stack: Stack) -> None:
    await stack.apply(TEAM.format(team="patient"))
    smaller = TEAM.format(team="patient").replace("    - name: patient-two\n      model: gpt-test\n", "")
    labelled = smaller.replace("metadata:\n", "metadata:\n  labels: {new: label}\n")
    event, question = await asked(stack, f"!apply\n```yaml\n{labelled}```")
    await stack.kill_control_plane()
    await stack.op.react(stack.ops_room, question.id, "✅")
    assert "ready" in (await stack.op.ended(event, 120)).text
    assert "no worker called" in (await stack.command("!get worker/patient-two")).text


async def test_after_a_restart_a_mark_agrees_to_nothing_but_what_was_shown(stack: Stack) -> None:
    await stack.apply(TEAM.format(team="narrowing"))
    smaller = TEAM.format(team="narrowing").replace("    - name: narrowing-two\n      model: gpt-test\n", "")
    event, question = await asked(stack, f"!apply\n```yaml\n{smaller}```")
    await stack.command("!set team/narrowing metadata.labels.tier=one")

    await stack.kill_control_plane()
    await stack.op.react(stack.ops_room, question.id, "✅")
    assert "something has changed meanwhile" in (await stack.op.ended(event, 120)).text
    assert "narrowing-two" in (await stack.command("!get workers")).text
    offered = {
        found["event_id"]
        for found in stack.op.events
        if found["sender"] != stack.op.user
        and found["type"] == "m.reaction"
        and found["content"].get("m.relates_to", {}).get("event_id") == question.id
    }
    assert len(offered) == 2

    def taken_back() -> bool:
        found = {event["content"].get("redacts") or event.get("redacts") for event in stack.op.events}
        return offered <= found

    await stack.op.until(taken_back, "the marks to choose from taken back")


async def test_an_apply_that_takes_an_agent_from_a_team_asks_first(stack: Stack) -> None:
    await stack.apply(TEAM.format(team="shrinking"))
    smaller = TEAM.format(team="shrinking").replace("    - name: shrinking-two\n      model: gpt-test\n", "")

    impostor = smaller + "---\n" + HUMAN.format(name="agent-shrinking-one")
    for command in ("!plan", "!apply"):  # what is refused is neither promised nor asked about
        refused = await stack.command(f"{command}\n```yaml\n{impostor}```")
        assert "@agent-shrinking-one is Opsroom's own" in refused.text

    event, question = await asked(stack, f"!apply\n```yaml\n{smaller}```")
    assert "**delete** `worker/shrinking-two`" in question.text
    await stack.op.react(stack.ops_room, question.id, "✅")
    assert "ready" in (await stack.op.ended(event, 120)).text
    assert "no worker called" in (await stack.command("!get worker/shrinking-two")).text


def of_set(name: str, mark: str) -> str:
    return worker_yaml(name).replace(f"  name: {name}\n", f"  name: {name}\n  labels: {{opsroom.io/set: {mark}}}\n")


async def test_a_pruning_apply_deletes_what_else_is_in_its_set(stack: Stack) -> None:
    await stack.apply(f"{of_set('kept-one', 'shop')}---\n{of_set('pruned-one', 'shop')}")
    await stack.apply(of_set("other-set", "bakery"))

    refused = await stack.command(f"!apply --prune\n```yaml\n{worker_yaml('kept-one')}```")
    assert "not of one set" in refused.text
    event, question = await asked(stack, f"!apply --prune\n```yaml\n{of_set('kept-one', 'shop')}```")
    assert "**delete** `worker/pruned-one`" in question.text
    await stack.op.react(stack.ops_room, question.id, "✅")
    await stack.op.ended(event, 120)
    listed = (await stack.command("!get workers")).text
    assert "kept-one" in listed
    assert "other-set" in listed
    assert "pruned-one" not in listed
