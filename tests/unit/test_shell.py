"""The commands of the room as a shell has them: the same table, and how answers look on a terminal."""

import argparse
from typing import Any

import pytest

from appservice.cli import terminal, typed
from appservice.cli.client import Client
from appservice.cli.main import _parser, main
from appservice.errors import Invalid
from appservice.ops import grammar, shell
from appservice.ops.commands import COMMANDS


def parsed(*words: str) -> argparse.Namespace:
    return _parser().parse_args(shell.folded(words))


def test_every_command_of_the_room_is_one_of_the_shell() -> None:
    verbs: Any = next(action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert COMMANDS.keys() - {"help"} <= verbs.choices.keys()
    for command in shell.COMMANDS.values():
        for example in command.examples:
            assert example.startswith("opsroom "), example


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (
            ("set", "worker/a", "soul=Be brief: always.", "model=x"),
            ["set", "worker/a", "soul=Be brief: always.", "model=x"],
        ),
        (("set", "worker/a", "soul=two\nlines", "--yes"), ["set", "worker/a", "soul=two\nlines", "--yes"]),
        (("delete", "worker", "a", "--files", "keep"), ["delete", "worker/a", "--files", "keep"]),
        (("set", "worker", "a", "model=x"), ["set", "worker/a", "model=x"]),
        (("rollback", "team", "dev", "17"), ["rollback", "team/dev", "17"]),
        (("logs", "--lines", "5", "worker", "a"), ["logs", "worker/a", "--lines", "5"]),
        (("rollback", "17"), ["rollback", "17"]),
        (("explain", "@bob", "alice", "in", "dm"), ["explain", "@bob", "alice", "in", "dm"]),
        (("history", "a"), ["history", "a"]),
        (("rollback", "a", "17"), ["rollback", "a", "17"]),
        (("audit",), ["audit"]),
        (("audit", "a", "--last", "50"), ["audit", "a", "--last", "50"]),
        (("apply", "-f", "x.yaml", "--prune"), ["apply", "--prune"]),
        (("diff", "-f", "x.yaml"), ["plan"]),
    ],
)
def test_what_is_typed_reaches_the_verb_of_the_room(typed: tuple[str, ...], words: list[str]) -> None:
    options = parsed(*typed)
    command = next(one for one in shell.COMMANDS.values() if typed[0] in (one.name, *one.aliases))
    assert shell.words(command.name, vars(options)) == words
    request = grammar.request(words)
    assert request.command.name == command.name


def test_tables_are_aligned() -> None:
    assert terminal.table(("A", "BB"), [("long one", "x"), ("", "y\nz")]) == "A         BB\nlong one  x\n          y z"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("**All is well.** 2 of 2", "All is well. 2 of 2"),
        ("*Sandbox: docker*", "Sandbox: docker"),
        ("See `!describe worker/a` or `!help`", "See opsroom describe worker/a or !help"),
        ("`a*b*c` and `**x**`", "a*b*c and **x**"),
        ("its room: [a](https://matrix.to/#/!x:y)", "its room: a"),
        ("before\n\n```yaml\n| a | **b** |\n```\nafter", "before\n\n| a | **b** |\nafter"),
        ("| A | B |\n| --- | --- |\n| x\\|y | `z` |\n\nend", "A    B\nx|y  z\n\nend"),
    ],
)
def test_the_rooms_words_are_plain_here(text: str, shown: str) -> None:
    assert terminal.plain(text) == shown


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("90s", 90), ("5m", 300), ("1h", 3600)])
def test_times(text: str, seconds: float) -> None:
    assert typed.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "5d", "1m30s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(Invalid):
        typed.seconds(text)


def test_a_token_does_not_go_over_the_network_in_the_clear(tmp_path: Any) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    assert Client.at("https://ops.example.org/x", token).where == "https://ops.example.org/x"
    assert Client.at("http://localhost:8700", token)
    for server in ("http://ops.example.org", "ops.example.org", "ftp://ops.example.org"):
        with pytest.raises(Invalid):
            Client.at(server, token)
    with pytest.raises(Invalid):
        Client.at("https://ops.example.org", None)


def test_a_wrong_command_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["frobnicate"])
    assert ended.value.code == 2
