"""From what an operator typed to a verb and its arguments: quoting like a shell, forgiving like a phone. Pure."""

import argparse
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from appservice.errors import Invalid
from appservice.ops import blocks
from appservice.ops.commands import COMMANDS, Argument, Command
from appservice.resources import registry

PREFIX = "!"
_PHONE = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "\u00a0": " ", "\u202f": " "})
BETWEEN = ("->", "→", "to", "may", "ask")  # who asks and whom; an agent may be called like one of them
_NAME = re.compile(r"@?[A-Za-z0-9][^=]*")
_DASHES = re.compile(r"(^|\s)[—–](?=\w)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A command that can be run: its verb's entry and parsed arguments."""

    command: Command
    arguments: argparse.Namespace

    @property
    def changes(self) -> bool:
        """Whether something is another thing after it."""
        return self.command.group == "change" and not getattr(self.arguments, "dry_run", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asks:
    """A question about who may ask whom, as typed. `room`: an alias, an id, `dm`, or '' for any room with others."""

    user: str
    agent: str
    room: str = ""


def asks(words: list[str]) -> Asks:
    """Read `@bob -> alice in #lounge`; the arrow, @ and server may be left out. Raises Invalid."""
    first, rest = words[:1], words[1:]
    while rest[1:] and rest[0] in BETWEEN and rest[1] != "in":
        rest = rest[1:]
    match [*first, *rest]:
        case [user, agent]:
            room = ""
        case [user, agent, "in", room]:
            pass
        case _:
            raise Invalid("this does not say who asks whom.", fix="Use it like this: `!explain @bob -> alice`")
    return Asks(user=user, agent=agent, room=room)


def is_command(text: str) -> bool:
    """`!` and a letter. `!!!` and `!?` are people talking."""
    return re.match(rf"\s*{PREFIX}[A-Za-z]", text) is not None


def parse(text: str) -> Request:
    """Read a command with or without its prefix. Raises Invalid: what is wrong, the nearest word, an example."""
    first, _, rest = text.strip().removeprefix(PREFIX).partition("\n")
    first = _DASHES.sub(r"\1--", first.translate(_PHONE))
    try:
        words = shlex.split(first)
    except ValueError as error:
        raise Invalid("a quote is opened and not closed", fix="Close it, or leave it out.") from error
    if not words:
        raise Invalid("there is no command here", fix="Try `!help`.")
    _check_alone(rest)
    return request(words)


def _check_alone(rest: str) -> None:
    """Lines below a command are what it is about, or people talking. Raises Invalid for a command among them."""
    second = next(filter(is_command, blocks.outside(rest)), None)
    if second is not None:
        verb = re.match(r"\w+", second.strip().removeprefix(PREFIX))
        what = f"`!{verb.group() if verb else ''}` is a second command in one message. Nothing was done."
        raise Invalid(what, fix="Send each as a message of its own.")


def request(words: Sequence[str]) -> Request:
    """A command whose words are apart already, as a shell gives them. Raises Invalid."""
    command = find(words[0])
    return Request(command=command, arguments=_arguments(command, words[1:]))


def find(verb: str) -> Command:
    """The command of that name. Raises Invalid with the nearest ones."""
    word = verb.lower().removeprefix(PREFIX)
    for command in COMMANDS.values():
        if word == command.name or word in command.aliases:
            return command
    near = get_close_matches(word, list(COMMANDS), n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(f'`!{name}`' for name in near)}?" if near else "`!help` lists them."
    raise Invalid(f"`!{word}` is not a command.", fix=hint)


def _arguments(command: Command, words: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog=f"!{command.name}", add_help=False, allow_abbrev=False)
    for argument in command.arguments:
        parser.add_argument(*argument.names, **argument.options)
    try:
        return parser.parse_args(folded(command, words))
    except _WrongError as error:
        raise Invalid(f"{error}.", fix=f"Use it like this: `{command.examples[0]}`") from error


def folded(command: Command, words: Sequence[str]) -> list[str]:
    """`worker alice` as `worker/alice`, where an object is named."""
    plain = [argument for argument in command.arguments if not argument.names[0].startswith("-")]
    if not plain or plain[0].names != ("object",):
        return list(words)
    at = next((at for at, word in enumerate(words) if registry.find_kind(word)), 0)
    kind, name = (*words[at : at + 2], "", "")[:2]
    is_number = name.isdecimal() and any(argument.options.get("type") is int for argument in plain)
    if is_number or not _NAME.fullmatch(name) or not (registry.find_kind(kind) or _is_alone(plain, kind)):
        return list(words)
    return [*words[:at], f"{kind}/{name}", *words[at + 2 :]]


def _is_alone(plain: Sequence[Argument], word: str) -> bool:
    """Whether nothing but an object is named: then a first word can only be meant as its kind."""
    return len(plain) == 1 and re.fullmatch(r"[A-Za-z]+", word) is not None


class _WrongError(Exception):
    """What argparse found wrong, in its words."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = message.replace("the following arguments are required:", "it needs")
        raise _WrongError(message.replace("unrecognized arguments:", "it does not know"))
