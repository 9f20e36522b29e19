"""The commands of the room as `opsroom` offers them in a shell: the same table, and what only a shell has beside it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from appservice.ops import commands
from appservice.ops.commands import Argument, Command

# `opsroom` has these of its own, or its parser has.
_NOT_HERE: Final = ("help", "doctor", "version")

_FILES = Argument(
    ("-f", "--filename"),
    {
        "action": "append",
        "default": [],
        "metavar": "FILE",
        "dest": "files_given",
        "help": "a file, a folder of them, or - for standard input; can be repeated",
    },
)
_SELECTOR = Argument(
    ("-l", "--selector"), {"default": "", "metavar": "LABELS", "help": "only these: app=web,tier!=test,owner"}
)

_A_NAME = re.compile(r"@?[A-Za-z0-9][^=/]*")

# What an argument of the room is in a shell, by its name.
_INSTEAD: Final[Mapping[tuple[str, str], Mapping[str, Any]]] = {
    ("get", "--output"): {"choices": ["table", "wide", "yaml", "json", "name"]},
    ("explain", "words"): {"nargs": "+", "metavar": "WORD", "help": "@USER AGENT [in ROOM]"},
}

_MORE: Final[Mapping[str, tuple[Argument, ...]]] = {
    "apply": (
        _FILES,
        Argument(("--no-wait",), {"action": "store_true", "help": "return once it is declared, not once it is so"}),
    ),
    "plan": (_FILES,),
    "edit": (Argument(("--yes",), {"action": "store_true", "help": "also when the change destroys something"}),),
    "get": (_SELECTOR, Argument(("-w", "--watch"), {"action": "store_true", "help": "go on with what changes"})),
    "logs": (Argument(("-f", "--follow"), {"action": "store_true", "help": "go on with what is written from now on"}),),
}

_EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "apply": ("opsroom apply -f team.yaml", "opsroom apply -f agents/ --dry-run"),
    "plan": ("opsroom diff -f team.yaml",),
    "get": (
        "opsroom get workers",
        "opsroom get team/dev -o yaml",
        "opsroom get all -o wide -l app=web",
        "opsroom get workers -w",
    ),
    "explain": ("opsroom explain @bob alice", "opsroom explain @bob alice in dm"),
    "logs": ("opsroom logs alice -f",),
}

_ONLY: Final = (
    Command(
        name="events",
        summary="what happened to an object, newest first",
        examples=("opsroom events worker/alice",),
        arguments=(
            Argument(("object",), {"metavar": "worker/NAME"}),
            Argument(("--last",), {"type": int, "default": 20, "metavar": "N", "help": "how many"}),
        ),
    ),
    Command(
        name="wait",
        summary="wait until objects are as they should be, or gone",
        examples=(
            "opsroom wait worker/alice --for condition=Ready",
            "opsroom wait team/dev --for phase=Active --timeout 5m",
            "opsroom wait worker/alice --for delete",
        ),
        arguments=(
            Argument(("objects",), {"metavar": "worker/NAME", "nargs": "+"}),
            Argument(
                ("--for",),
                {
                    "default": "condition=Ready",
                    "metavar": "WHAT",
                    "dest": "what",
                    "help": "condition=TYPE[=STATUS], phase=PHASE or delete; default: condition=Ready",
                },
            ),
            Argument(("--timeout",), {"default": "2m", "metavar": "TIME", "help": "30, 90s, 5m or 1h; default: 2m"}),
        ),
    ),
)


def _here(command: Command) -> Command:
    arguments = [
        replace(argument, options={**argument.options, **_INSTEAD.get((command.name, argument.names[-1]), {})})
        for argument in command.arguments
    ]
    examples = _EXAMPLES.get(command.name) or tuple(
        example.replace("!", "opsroom ", 1) for example in command.examples if "\n" not in example
    )
    words = tuple(alias for alias in command.aliases if alias.isalpha())
    return replace(command, arguments=(*arguments, *_MORE.get(command.name, ())), examples=examples, aliases=words)


COMMANDS: Final[Mapping[str, Command]] = {
    command.name: command
    for command in (*(_here(one) for one in commands.COMMANDS.values() if one.name not in _NOT_HERE), *_ONLY)
}


def folded(given: Sequence[str]) -> list[str]:
    """What was typed, with `worker alice` as `worker/alice`."""
    command = next((one for one in COMMANDS.values() if given and given[0] in (one.name, *one.aliases)), None)
    if command is None:
        return list(given)
    from appservice.ops import grammar

    if any(argument.names == ("objects",) for argument in command.arguments):
        return [given[0], *_all_folded(given[1:])]
    return [given[0], *grammar.folded(command, given[1:])]


def _all_folded(given: Sequence[str]) -> list[str]:
    """As `folded`, where several objects can be named."""
    from appservice.resources import registry

    found: list[str] = []
    for word in given:
        if found and registry.find_kind(found[-1]) and _A_NAME.fullmatch(word):
            found[-1] += f"/{word}"
        else:
            found.append(word)
    return found


def words(name: str, given: Mapping[str, Any]) -> list[str]:
    """What was parsed in a shell, as the words of the room's command."""
    found = [name]
    for argument in commands.COMMANDS[name].arguments:
        flag, value = argument.names[-1], given[_name(argument)]
        if not flag.startswith("-"):
            found += [str(one) for one in value] if isinstance(value, list) else [str(value)] * bool(value)
        elif value is True:
            found.append(flag)
        elif value not in (False, argument.options.get("default")):
            found += [flag, str(value)]
    return found


def _name(argument: Argument) -> str:
    return argument.names[-1].lstrip("-").replace("-", "_")
