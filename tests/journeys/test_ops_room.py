"""The ops room as an operator lives in it: commands, uploads, refusals, and what people who are no operators get."""

import re

import pytest

from appservice.ops.commands import COMMANDS
from tests.support.stack import Stack, worker_yaml


async def test_help_lists_every_command_in_a_thread_on_the_command(stack: Stack) -> None:
    event = await stack.op.say(stack.ops_room, "!help")

    answer = await stack.op.ended(event)

    for verb in COMMANDS:
        assert f"`!{verb}`" in answer.text
    assert stack.op.reaction_keys(event) == {"👀", "✅"}
    assert answer.raw["m.mentions"] == {}
    assert "<code>!status</code>" in answer.html


@pytest.mark.parametrize("typed", ["!HELP apply", "!help “apply”", "! help apply", "@opsroom help apply"])
async def test_a_command_is_understood_as_phones_and_people_write_it(stack: Stack, typed: str) -> None:
    answer = await stack.command(typed.replace("! ", "!"))

    assert "Upload a `.yaml` file" in answer.text


async def test_an_unknown_command_gets_the_nearest_one_and_is_not_run(stack: Stack) -> None:
    event = await stack.op.say(stack.ops_room, "!statsu")

    answer = await stack.op.ended(event)

    assert "Did you mean `!status`" in answer.text
    assert "❌" in stack.op.reaction_keys(event)


async def test_a_wrong_argument_shows_an_example(stack: Stack) -> None:
    assert "`!logs alice`" in (await stack.command("!logs")).text
    assert "closed" in (await stack.command('!get "workers')).text


async def test_the_greeting_is_pinned_and_its_example_can_be_applied_by_a_reply(stack: Stack) -> None:
    pinned = await stack.op.until(lambda: stack.op.seen(stack.ops_room, "m.room.pinned_events"), "a pinned message")
    [greeting] = pinned["pinned"]

    answer = await stack.op.ended(await stack.op.reply(stack.ops_room, greeting, "!apply"))

    assert "`worker/alice` — ready" in answer.text
    assert "No changes" in (await stack.op.ended(await stack.op.reply(stack.ops_room, greeting, "!apply"))).text


async def test_a_fenced_block_is_applied_and_progress_is_one_edited_message(stack: Stack) -> None:
    event = await stack.op.say(stack.ops_room, f"!apply\n```yaml\n{worker_yaml('fenced')}```")

    answer = await stack.op.ended(event)

    assert "created `worker/fenced` — ready" in answer.text
    assert len(stack.op.answers(event)) == 1


async def test_one_wrong_document_keeps_the_whole_file_out(stack: Stack) -> None:
    good, bad = worker_yaml("good-one"), worker_yaml("bad-one", modle="x", state="Asleep")

    answer = await stack.apply(f"{good}---\n{bad}", name="team.yaml")

    assert "team.yaml has 2 problems. Nothing was changed." in answer.text
    assert "line 14, `spec.modle`" in answer.text
    assert "Did you mean `model`?" in answer.text
    assert "There is no worker" in (await stack.command("!get worker/good-one")).text


async def test_an_unknown_skill_is_refused_before_anything_changes(stack: Stack) -> None:
    answer = await stack.apply(worker_yaml("skilled", skills="[notse]"))

    assert "notes" in answer.text
    assert "There is no worker" in (await stack.command("!get worker/skilled")).text


async def test_fields_that_do_nothing_yet_are_kept_and_named(stack: Stack) -> None:
    answer = await stack.apply(worker_yaml("waiting", expose="[{port: 3000}]"))

    assert "not yet effective: expose" in answer.text
    assert "port: 3000" in (await stack.command("!get worker/waiting -o yaml")).text


async def test_people_who_are_no_operators_get_one_polite_line(stack: Stack) -> None:
    guest = await stack.somebody("guest")
    await stack.op.call("POST", f"rooms/{stack.ops_room}/invite", {"user_id": guest.user})
    await guest.until(lambda: stack.ops_room in guest.rooms, "the ops room")

    first = await guest.say(stack.ops_room, "!delete worker/alice")
    answer = await guest.answer_to(first)
    second = await guest.say(stack.ops_room, "!delete worker/alice")
    audit = await stack.command("!audit")  # by now the second one was handled too

    assert "Only operators" in answer.text
    assert "@guest → worker/alice (delete, rule: not an operator)" in audit.text
    assert guest.answers(second) == []
    assert not guest.reaction_keys(first) | guest.reaction_keys(second)


async def test_the_bot_obeys_an_operator_in_a_direct_room(stack: Stack) -> None:
    bot = f"@opsroom:{stack.info['server_name']}"
    room = await stack.op.create_direct(bot)
    await stack.op.until(
        lambda: stack.op.seen(room, "m.room.member", bot).get("membership") == "join", "the bot in the room"
    )

    answer = await stack.op.command(room, "version")

    assert answer.text.startswith("Opsroom ")


async def test_doctor_checks_every_component(stack: Stack) -> None:
    answer = await stack.command("!doctor")

    for part in ("homeserver", "clock", "agents", "storage", "gateway", "model", "disk", "journal", "rooms"):
        assert f"** {part}: " in answer.text
    assert "All is well" in answer.text


async def test_status_begins_with_whether_somebody_must_get_up(stack: Stack) -> None:
    await stack.worker("statused")

    answer = await stack.command("!status")

    assert answer.text.splitlines()[0].startswith("**")
    [(well, of_all)] = re.findall(r"(\d+) of (\d+) objects are well", answer.text)
    assert well == of_all
    assert "process" in answer.text


async def test_a_long_answer_becomes_a_file(stack: Stack) -> None:
    await stack.worker("chatty-log")
    event = await stack.op.say(stack.ops_room, "!get workers -o json")
    await stack.op.ended(event)
    many = "---\n".join(worker_yaml(f"stopped-{n}", state="Stopped", soul="x" * 600) for n in range(12))
    await stack.apply(many)

    event = await stack.op.say(stack.ops_room, "!get workers -o yaml")
    answer = await stack.op.ended(event)
    file = await stack.op.until(
        lambda: next((m for m in stack.op.answers(event) if m.raw["msgtype"] == "m.file"), None), "the file"
    )

    assert "attached file" in answer.text
    assert file.raw["info"]["size"] > 8_000
