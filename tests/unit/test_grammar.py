"""From what was typed to a command, forgiving like a phone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appservice.errors import Invalid
from appservice.ops import grammar, render
from appservice.ops.commands import COMMANDS


@pytest.mark.parametrize(
    ("typed", "verb"),
    [("!help", "help"), ("Status", "status"), ("!HELP", "help"), ("!ls workers", "get"), ("!rm worker/a", "delete")],
)
def test_verbs_are_found_by_name_and_alias_in_any_case(typed: str, verb: str) -> None:
    assert grammar.parse(typed).command.name == verb


def test_quotes_dashes_and_spaces_of_phones_are_undone() -> None:
    request = grammar.parse("!logs\u00a0“alice” —lines 5")

    assert (request.arguments.object, request.arguments.lines) == ("alice", 5)


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("!set worker alice spec.model=x", "worker/alice"),
        ("!set Workers alice model=x soul=y", "Workers/alice"),
        ("!set manager model=x", "manager"),  # an agent may be called like a kind
        ("!rollback worker alice 17", "worker/alice"),
        ("!rollback team dev", "team/dev"),
        ("!rollback manager 17", "manager"),
        ("!rollback 17", "17"),
        ("!logs --lines 5 worker alice", "worker/alice"),
        ("!logs -n 5 alice", "alice"),
        ("!delete manager --yes", "manager"),
        ("!delete manager chief --yes", "manager/chief"),
        ("!adopt team dev #old", "team/dev"),
        ("!adopt dev #old", "dev"),
        ("!get workers -o yaml", "workers"),
        ("!get wrker alice", "wrker/alice"),
        ("!audit worker alice", "worker/alice"),
        *(
            (f"!{verb} worker alice", "worker/alice")
            for verb in ("restart", "pause", "resume", "stop", "sleep", "wake")
        ),
    ],
)
def test_a_kind_and_a_name_name_an_object_as_with_a_slash(typed: str, named: str) -> None:
    assert grammar.parse(typed).arguments.object == named


@pytest.mark.parametrize("text", ["!!!", "!?", "hello", "! ", "5!"])
def test_people_talking_is_no_command(text: str) -> None:
    assert not grammar.is_command(text)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("!aply", "`!apply`"),
        ("!xyzzy", "`!help`"),
        ("!logs", "`!logs alice`"),
        ("!logs alice --lines many", "invalid int"),
        ("!get 'workers", "closed"),
        ("!version now please", "does not know"),
    ],
)
def test_a_wrong_command_says_what_and_how(typed: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        grammar.parse(typed)

    assert words in render.problems(caught.value)


def test_one_message_has_one_command() -> None:
    with pytest.raises(Invalid, match="`!delete` is a second command"):
        grammar.parse("!status\n\n  !delete worker/alice --yes\nthanks")


@pytest.mark.parametrize(
    "below", ["thanks\n!!! hurry", "```yaml\nsoul: |\n  !help\n!tag x\n```\nbe quick", "```yaml\n```"]
)
def test_what_stands_below_a_command_is_no_second_one(below: str) -> None:
    assert grammar.parse(f"!apply\n{below}").command.name == "apply"


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        found = grammar.parse(text).command.name
    except Invalid as error:
        found = str(error)

    assert found in COMMANDS or len(found) > 10


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example_that_parses(name: str) -> None:
    command = COMMANDS[name]

    text = render.help_for(command)

    assert f"!{name}" in text
    for example in command.examples:
        assert grammar.parse(example).command is command
    assert f"`!{name}`" in render.help_text()


@pytest.mark.parametrize(
    ("words", "user", "agent", "room"),
    [
        ("@bob -> alice", "@bob", "alice", ""),
        ("bob may ask alice in #lounge", "bob", "alice", "#lounge"),
        ("bob -> may", "bob", "may", ""),
        ("to ask may", "to", "may", ""),
        ("bob to ask in #lounge", "bob", "ask", "#lounge"),
    ],
)
def test_who_asks_whom_is_read_whatever_they_are_called(words: str, user: str, agent: str, room: str) -> None:
    assert grammar.asks(words.split()) == grammar.Asks(user=user, agent=agent, room=room)
