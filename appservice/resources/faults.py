"""What pydantic found wrong, in words for the person who wrote the file, with its place in it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from appservice.resources.compose import Tree
from appservice.resources.fields import field_names, model_at
from appservice.resources.kind import FAULT
from appservice.resources.source import Fault, FieldPath, Mark, field_text, shown
from appservice.resources.suggest import did_you_mean, nearest

_WANTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a map of fields",
    "model_type": "a map of fields",
    "literal_error": "one word",
}
_HOW: Final = {
    "a list": "Write each entry on a line of its own, beginning with `- `.",
    "a map of fields": "Write its fields on the lines below it, indented.",
    "true or false": "Write true or false, without quotes.",
    "a whole number": "Write digits only, without quotes.",
}


def faults_of(error: ValidationError, *, tree: Tree, model: type[BaseModel], at: FieldPath = ()) -> Iterator[Fault]:
    """Translate all errors of one model that was read from `tree` at a path. What was refused before is left out."""
    errors = [(found, (*at, *found["loc"])) for found in error.errors(include_url=False)]
    misspelt = {_meant(path, model, at) for found, path in errors if found["type"] == "extra_forbidden"}
    for found, path in errors:
        if tree.is_broken(path) or (found["type"] == "missing" and path in misspelt):
            continue
        what, fix = _words(found, path, tree, model, at)
        yield Fault(what=what, fix=fix, path=path, mark=_mark(found["type"], path, tree))


def _mark(kind: str, path: FieldPath, tree: Tree) -> Mark:
    if kind == "missing":
        return tree.mark(path[:-1], key=True)
    return tree.mark(path, key=kind == "extra_forbidden")


def _meant(path: FieldPath, model: type[BaseModel], at: FieldPath) -> FieldPath:
    """The field that a misspelt one stands for: it is not missing as well."""
    inner = model_at(model, path[len(at) : -1])
    return (*path[:-1], nearest(str(path[-1]), field_names(inner)) if inner else "")


def _words(
    found: Mapping[str, Any], path: FieldPath, tree: Tree, model: type[BaseModel], at: FieldPath
) -> tuple[str, str]:
    kind, value, context = found["type"], found["input"], found.get("ctx", {})
    name = _short(path)
    match kind:
        case "extra_forbidden":
            return unknown(path, model_at(model, path[len(at) : -1]))
        case "missing":
            return f"`{name}` is missing.", f"Add `{path[-1]}:` with a value."
        case "literal_error" if isinstance(value, str):
            allowed = [choice.strip("'") for choice in context["expected"].replace(" or ", ", ").split(", ")]
            return f"{shown(value)} is not allowed for `{name}`.", did_you_mean(value, allowed, otherwise="Use one of")
        case "greater_than_equal" | "less_than_equal":
            bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
            return f"{shown(value)} is out of range: `{name}` is {bound}.", "Choose another number."
        case "string_too_long":
            return f"`{name}` has {len(value)} characters; at most {context['max_length']} are allowed.", "Shorten it."
        case "too_long":
            return f"`{name}` has more than {context['max_length']} entries.", "Remove some."
        case _ if kind == FAULT:
            return context["what"], context["fix"]
        case _:
            return _wrong_type(_WANTED.get(kind, "something else"), name, value, tree.plain.get(path))


def _short(path: FieldPath) -> str:
    """The end of a path that is enough beside the whole one: `skills[2]`."""
    start = max((index for index, part in enumerate(path) if isinstance(part, str)), default=0)
    return field_text(path[start:])


def _wrong_type(wanted: str, name: str, value: object, plain: str | None) -> tuple[str, str]:
    if value is None:
        fix = "Write [] for an empty list, or remove the line." if wanted == "a list" else ""
        return f"`{name}` has no value.", fix or "Give it one, or remove the line."
    if wanted in ("text", "one word") and plain is not None:
        return f"`{name}` must be text, and YAML reads {plain} as {_kind_of(value)}.", f'Quote it: "{plain}".'
    if wanted == "a whole number" and isinstance(value, str):
        what = f"`{name}` must be a whole number, and {shown(value)} is text."
        if not re.fullmatch(r"[0-9]{1,9}", value):
            return what, _HOW[wanted]
        return what, f"Remove the {'leading zeros' if plain else 'quotes'}: {int(value)}."
    return f"`{name}` must be {wanted}, not {_kind_of(value)}.", _HOW.get(wanted, "Put text here.")


def _kind_of(value: object) -> str:
    match value:
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case dict():
            return "a map of fields"
        case _:
            return "a list"


def unknown(path: FieldPath, model: type[BaseModel] | None) -> tuple[str, str]:
    """What is wrong with a field that this model, which should have it, does not have; and how to mend it."""
    field = str(path[-1])
    known = field_names(model) if model else ()
    what = f"{shown(field)} is not a field {_of(path[:-1])}."
    if len(path) == 1 and not nearest(field, known):
        return what, "Move it below `spec:`, indented, or remove it."
    return what, did_you_mean(field, known, otherwise="Its fields are")


def _of(path: FieldPath) -> str:
    return f"of `{field_text(path)}`" if path else "of a document"
