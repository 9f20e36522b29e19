"""Parts of the documentation that are made from the code: `python -m tests.support.documentation` writes them again."""

import argparse
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from appservice.api import problems
from appservice.api.routing import Route
from appservice.api.table import Table
from appservice.cli.main import _parser
from appservice.config import Settings
from appservice.ops.commands import COMMANDS, Command
from appservice.resources import registry

ROOT = Path(__file__).resolve().parents[2]


def settings_table() -> str:
    """Every setting that a file or variable can name. Lists of sections (`providers`) are shown as `providers[]`."""
    lines = ["| Setting | Default | What it is |", "| --- | --- | --- |"]
    lines += [f"| `{path}` | {_default(field)} | {_meaning(field)} |" for path, field in _fields(Settings, "")]
    return "\n".join(lines)


def commands_table() -> str:
    """Each command of the ops room, as its own help tells it."""
    return "\n\n".join(_command(command) for command in COMMANDS.values())


def shell_table() -> str:
    """The commands of `opsroom` in a shell."""
    lines = ["| In a shell | What it does |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `opsroom {name}` | {text} |" for name, text in shell_commands().items())])


def shell_commands() -> dict[str, str]:
    [verbs] = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return {choice.dest: str(choice.help) for choice in verbs._choices_actions}


def shell_words() -> set[str]:
    """Commands with their other names."""
    [verbs] = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return set(verbs.choices)


def routes_table() -> str:
    """What the REST API can do. What is the same for each kind is told once."""
    world: Any = None  # nothing is called
    kinds = [kind.plural for kind in registry.KINDS.values()]
    told: dict[tuple[str, str], tuple[Route, list[str]]] = {}
    for route in Table(world).routes():
        plural = route.kind.plural if route.kind else ""
        path = route.path.replace(f"/{plural}", "/KIND", 1) if plural else route.path
        told.setdefault((route.method, path), (route, []))[1].append(plural)
    lines = ["| | Route | What it does | Parameters |", "| --- | --- | --- | --- |"]
    for (method, path), (route, plurals) in told.items():
        only = "" if plurals in ([""], kinds) else f" ({', '.join(plurals)})"
        summary = route.summary.replace(route.kind.plural, "objects") if route.kind else route.summary
        summary = re.sub(rf"\b{route.kind.name}\b", "object", summary) if route.kind else summary
        names = ", ".join(f"`{one.name}`" for one in route.parameters)
        lines.append(f"| {method} | `{path}` | {summary.replace('a object', 'an object')}{only} | {names} |")
    return "\n".join([*lines, "", f"`KIND` is one of {', '.join(f'`{kind}`' for kind in kinds)}."])


def statuses_table() -> str:
    lines = ["| Status | `type` | |", "| --- | --- | --- |"]
    found = sorted({(status, kind.code) for kind, status in problems.STATUS.items()})
    lines += [f"| {status} | `urn:opsroom:problem:{code}` | {problems.TITLES[code]} |" for status, code in found]
    return "\n".join(lines)


def shell_flags(verb: str) -> set[str]:
    [verbs] = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return {flag for action in verbs.choices[verb]._actions for flag in action.option_strings}


PARTS = {
    ("docs/operating.md", "settings"): settings_table,
    ("docs/commands.md", "commands"): commands_table,
    ("docs/cli.md", "shell"): shell_table,
    ("docs/api.md", "routes"): routes_table,
    ("docs/api.md", "statuses"): statuses_table,
}


def written(text: str, name: str) -> str:
    """What stands between the marks of a made part."""
    return text.partition(f"<!-- made: {name} -->\n")[2].partition(f"\n<!-- end: {name} -->")[0]


def _fields(model: type[BaseModel], before: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        section, many = _section(field.annotation)
        if section is None:
            yield before + name, field
        else:
            yield from _fields(section, f"{before}{name}{'[]' if many else ''}.")


def _section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    for inner in (annotation, *typing.get_args(annotation)):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner, inner is not annotation
    return None, False


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in ("", None, ()) else f"`{value}`"


def _meaning(field: FieldInfo) -> str:
    choices = [str(value) for value in typing.get_args(field.annotation) if isinstance(value, str)]
    listed = " or ".join(f"`{value}`" for value in choices)
    text = field.description or ""
    return f"{listed}{'; ' if listed and text else ''}{text}"


def _command(command: Command) -> str:
    examples = "\n".join(example for example in command.examples if "\n" not in example)
    parts = [f"## {command.name}", f"`{command.usage}`", f"{command.summary[0].upper()}{command.summary[1:]}."]
    parts += [command.detail] if command.detail else []
    parts += [f"Also: {', '.join(f'`!{alias}`' for alias in command.aliases)}."] if command.aliases else []
    return "\n\n".join([*parts, f"```text\n{examples}\n```"])


def main() -> None:
    for (path, name), made in PARTS.items():
        file = ROOT / path
        text = file.read_text()
        old, new = (f"<!-- made: {name} -->\n{part}\n<!-- end: {name} -->" for part in (written(text, name), made()))
        assert old in text, f"{path} has no marks for {name}"
        file.write_text(text.replace(old, new))


if __name__ == "__main__":
    main()
