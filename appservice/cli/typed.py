"""What was typed in a shell: which objects, which files, how long."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appservice.errors import Invalid
from appservice.resources import registry
from appservice.resources.document import several
from appservice.resources.printing import to_yaml

_YAML: Final = (".yaml", ".yml", ".json")


_EVERY: Final = tuple(kind.plural for kind in registry.KINDS.values())  # agents first, as in the room


def kinds(text: str) -> tuple[Sequence[str], str]:
    """`workers`, `all`, `worker/alice` or `alice` as kinds in the plural, and a name; '' when a list is meant. A name
    alone can be of every kind. Raises Invalid."""
    if text.lower() == "all":
        return _EVERY, ""
    word, _, rest = text.partition("/")
    kind = registry.find_kind(word)
    if kind is not None:
        return [kind.plural], rest
    if rest:
        raise Invalid(f"{word} is not a kind.", fix=f"Known kinds: {', '.join(registry.KINDS)}.")
    return _EVERY, text.removeprefix("@").split(":")[0]


def named(text: str) -> tuple[Sequence[str], str]:
    """As `kinds`, where one object is meant: it may be called like a kind. Raises Invalid."""
    found, name = kinds(text)
    return (found, name) if name else (_EVERY, text)


def is_user(text: str) -> bool:
    """Whether this is a Matrix id, as of `@agent-alice:example.org`."""
    return text.startswith("@") and ":" in text


def seconds(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    if not number.isdecimal():
        raise Invalid(f"{text} is not a time.", fix="Write 30, 90s, 5m or 1h.")
    return float(number) * unit


def documents(given: Sequence[str]) -> tuple[str, str]:
    """The YAML of all files as one, and what to call it. Raises Invalid; a fault in one of several files is found here,
    where its own lines can be named."""
    if not given:
        raise Invalid("there is nothing to apply.", fix="Name a file, a folder or - for standard input: -f team.yaml.")
    texts = [text for word in given for text in _texts(word)]
    if len(texts) > 1:
        for name, text in texts:
            registry.parse(text.encode(), source=name)
    name = texts[0][0] if len(texts) == 1 else f"{len(texts)} files"
    return "\n---\n".join(text.removeprefix("---\n").rstrip("\n") for _, text in texts) + "\n", name


def _texts(word: str) -> list[tuple[str, str]]:
    if word == "-":
        return [("standard input", _documents(sys.stdin.read()))]
    path = Path(word).expanduser()
    files = sorted(one for one in path.iterdir() if one.suffix in _YAML) if path.is_dir() else [path]
    if not files:
        raise Invalid(f"{path} has no .yaml file.", fix="Name the file itself.")
    try:
        return [(file.name, _documents(file.read_text("utf-8"))) for file in files]
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8 text.", fix="Save it as UTF-8.") from error


def _documents(text: str) -> str:
    """A list in JSON, as `get -o json` prints it, as the documents in it; anything else is left to who reads YAML."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        value = json.loads(text)
        found = several(value)
        if found == [value] or not all(isinstance(one, dict) for one in found):
            return text
        return "---\n".join(to_yaml(one) for one in found)
    except (ValueError, RecursionError):
        return text
