"""Plan before a change, history after it, and the way back."""

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
    assert "Deleted" in (await stack.command("!delete worker/gone-once", 150)).text

    history = (await stack.command("!history worker/gone-once")).text
    assert "deleted by @op" in history
    answer = await stack.command("!rollback gone-once", 150)

    assert "created `worker/gone-once` — ready" in answer.text
    assert "soul: kept in mind" in (await stack.command("!get worker/gone-once -o yaml")).text


async def test_a_way_back_that_is_not_there_is_named(stack: Stack) -> None:
    await stack.worker("once")
    assert "has only one revision" in (await stack.command("!rollback once")).text
    assert "has no revision 999999" in (await stack.command("!rollback once 999999")).text
    assert "Nothing is known of" in (await stack.command("!rollback never-there")).text
    assert "no worker called" in (await stack.command("!history never-there")).text
