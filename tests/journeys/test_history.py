"""Plan before a change, history after it, and the way back."""

import asyncio

import pytest

from tests.support.stack import Stack, worker_yaml


def block(verb: str, text: str) -> str:
    return f"{verb}\n```yaml\n{text}```"


async def test_a_plan_shows_each_field_and_changes_nothing(stack: Stack) -> None:
    await stack.worker("planned", soul="be brief")
    before = (await stack.command("!get worker/planned -o yaml")).text
    wanted = worker_yaml("planned", model="other", soul="be kind") + "---\n" + worker_yaml("new-one")

    for verb in ("!plan", "!diff", "!apply --dry-run"):
        answer = await stack.command(block(verb, wanted))
        assert "change `worker/planned`" in answer.text.replace("**", "")
        assert "`spec.model`: `gpt-test` → `other`; from its next turn on" in answer.text
        assert "create `worker/new-one`" in answer.text.replace("**", "")
        assert "Nothing was changed" in answer.text

    assert (await stack.command("!get worker/planned -o yaml")).text == before
    assert "no worker called" in (await stack.command("!get worker/new-one")).text
    assert "No changes" in (await stack.command(block("!plan", worker_yaml("planned", soul="be brief")))).text


async def test_a_wrong_document_is_refused_by_a_plan_as_by_an_apply(stack: Stack) -> None:
    answer = await stack.command(block("!plan", worker_yaml("wrong", sole="x")))
    assert "Did you mean `soul`?" in answer.text


async def test_history_says_who_changed_what_and_rollback_goes_back(stack: Stack) -> None:
    await stack.worker("changing", soul="first")
    await stack.apply(worker_yaml("changing", soul="second"))

    history = (await stack.command("!history worker/changing")).text
    newest, oldest = [line for line in history.splitlines() if line.startswith("- ")]
    assert "changed by @op" in newest
    assert "`spec.soul`" in newest
    assert "created by @op" in oldest

    assert "changed `worker/changing` — ready" in (await stack.command("!rollback changing")).text
    assert "soul: first" in (await stack.command("!get worker/changing -o yaml")).text
    assert len((await stack.command("!history changing")).text.split("- **")) == 4


async def test_what_was_deleted_comes_back_by_its_revision(stack: Stack) -> None:
    await stack.worker("gone-once", soul="kept in mind")
    assert "Deleted" in (await stack.command("!delete worker/gone-once --yes", 150)).text

    history = (await stack.command("!history worker/gone-once")).text
    assert "deleted by @op" in history
    answer = await stack.command("!rollback gone-once", 150)

    assert "created `worker/gone-once` — ready" in answer.text
    assert "soul: kept in mind" in (await stack.command("!get worker/gone-once -o yaml")).text


async def test_a_way_back_that_is_not_there_is_named(stack: Stack) -> None:
    await stack.worker("once")
    assert "has only one revision" in (await stack.command("!rollback once")).text
    assert "has no revision 999999" in (await stack.command("!rollback once 999999")).text
    assert "no object called" in (await stack.command("!rollback never-there")).text
    assert "no object called" in (await stack.command("!history never-there")).text


async def test_single_fields_are_set_and_unset(stack: Stack) -> None:
    await stack.worker("tuned", soul="first")

    answer = await stack.command('!set worker/tuned "soul=Be brief: always." model=other spec.skills=[notes]')
    assert "changed `worker/tuned` — ready" in answer.text
    shown = (await stack.command("!get worker/tuned -o yaml")).text
    assert 'soul: "Be brief: always."' in shown or "soul: 'Be brief: always.'" in shown
    assert "model: other" in shown
    assert "- notes" in shown

    assert "changed" in (await stack.command("!set tuned soul=")).text
    assert "soul" not in (await stack.command("!get worker/tuned -o yaml")).text
    assert "No changes" in (await stack.command("!set tuned soul=")).text
    assert "Did you mean `soul`?" in (await stack.command("!set tuned sole=")).text
    assert "No changes" in (await stack.command("!set tuned model=other")).text


async def test_fields_that_are_set_at_the_same_time_are_all_kept(stack: Stack) -> None:
    await stack.worker("hurried", state="Stopped")
    fields = {"model": "other", "soul": "brief", "identity": "somebody", "agents": "none"}
    await asyncio.gather(*(stack.command(f"!set hurried {field}={value}") for field, value in fields.items()))
    shown = (await stack.command("!get worker/hurried -o yaml")).text
    assert {field for field, value in fields.items() if f"{field}: {value}" in shown} == fields.keys()


async def test_of_commands_on_one_field_the_last_one_that_was_given_holds(stack: Stack) -> None:
    await stack.worker("restless", state="Stopped")
    given = [await stack.op.say(stack.ops_room, f"!set restless soul=word{number}") for number in range(6)]
    for event in given:
        assert "changed" in (await stack.op.ended(event)).text
    assert "soul: word5" in (await stack.command("!get worker/restless -o yaml")).text


async def test_a_wrong_field_is_refused_and_nothing_is_set(stack: Stack) -> None:
    await stack.worker("kept-as-is")
    before = (await stack.command("!get worker/kept-as-is -o yaml")).text
    for fields, words in (
        ("modle=x", "Did you mean `model`?"),
        ("model=", "model"),
        ("state=Asleep model=x", "Sleeping"),
        ("model", "sets nothing"),
        ("metadata.name=other", "renamed"),
        ("model.size=3", "has no fields"),
    ):
        answer = await stack.command(f"!set worker/kept-as-is {fields}")
        assert words in answer.text
        assert "❌" in stack.op.reaction_keys(answer.raw["m.relates_to"]["event_id"])
    assert (await stack.command("!get worker/kept-as-is -o yaml")).text == before


@pytest.mark.parametrize(("verb", "name"), [("!edit worker/written", "written.yaml"), ("!export", "opsroom.yaml")])
async def test_an_object_comes_back_as_the_file_it_was(stack: Stack, verb: str, name: str) -> None:
    text = worker_yaml("written") + "# a remark\n"
    await stack.apply(text)

    found, data = await stack.op.file(await stack.op.say(stack.ops_room, verb))

    assert found == name
    assert text in data.decode()
    assert "No changes" in (await stack.apply(data)).text
