"""Change single fields of a declared document, as `spec.model=gpt-5` says it. Pure."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from appservice.errors import Invalid
from appservice.resources.document import read
from appservice.resources.faults import unknown
from appservice.resources.fields import field_names, model_at, takes_text
from appservice.resources.kind import Spec
from appservice.resources.metadata import Metadata
from appservice.resources.registry import KINDS
from appservice.resources.scalars import Refused, resolve
from appservice.resources.source import FieldPath

_GONE: Final = object()  # in the place of an item that is unset


def with_fields(declared: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """The document with these fields set; an empty value unsets one. Fields without a first word are of `spec`.

    Raises Invalid for what is no assignment, and for unsetting what cannot be set; whether fields that are set exist
    is for whoever reads the result.
    """
    changed = deepcopy(dict(declared))
    for assignment in assignments:
        path, sign, value = assignment.partition("=")
        names = _names(path)
        if not sign or not all(names):
            raise Invalid(f"`{assignment}` sets nothing.", fix="Write FIELD=VALUE, for example `spec.model=gpt-5`.")
        if names[0] not in ("spec", "metadata"):
            names.insert(0, "spec")
        model = Metadata if names[0] == "metadata" else KINDS[declared["kind"]].spec
        field = tuple(int(name) if name.isdecimal() else name for name in names[1:])
        if not value:
            _check_known(model, names[0], field)
        _set(changed, names, _read(value, text=takes_text(model, field)))
    kept: dict[str, Any] = _without_gone(changed)
    return kept


def _without_gone(value: Any) -> Any:
    """Unset items leave their list last, so that all assignments count its items alike."""
    if isinstance(value, dict):
        return {key: _without_gone(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_gone(inner) for inner in value if inner is not _GONE]
    return value


def _names(path: str) -> list[str]:
    """What is after `labels.` is one key, for there are dots in those."""
    names = path.split(".")
    start = next((at for at, name in enumerate(names, 1) if name in ("labels", "annotations")), len(names))
    return names[:start] + [".".join(names[start:])] * (start < len(names))


def _check_known(model: type[Spec], root: str, field: FieldPath) -> None:
    """Raises Invalid for a name that is no field: once it is unset, nobody who reads the result would notice."""
    for at, name in enumerate(field):
        here = model_at(model, field[:at])
        if here is not None and isinstance(name, str) and name not in field_names(here):
            what, fix = unknown((root, *field[: at + 1]), here)
            raise Invalid(what, fix=fix)


def _read(value: str, *, text: bool) -> Any:
    """Lists, maps and quoted texts as YAML reads them, numbers and truth values as its scalars; all else is the text
    that it is, colons and all. `text`: nothing else can be meant, unless it is quoted. None unsets."""
    if not value:
        return None
    if text and value[0] not in "\"'":
        return value
    if value[0] not in "[{\"'":
        found = resolve(value)
        if isinstance(found, Refused):
            raise Invalid(found.what, fix=found.fix)
        return found
    reading = read(f"value: {value}\n".encode(), source="the value")
    if reading.faults or len(reading.trees) != 1:
        raise reading.source.invalid(reading.faults)
    return reading.trees[0].value.get("value")


def _set(document: dict[str, Any], names: Sequence[str], value: Any) -> None:
    *parents, last = names
    inner: Any = document
    for name in parents:
        inner = _inside(inner, name, names)
    if isinstance(inner, list):
        index = _index(inner, last, names)
        inner[index] = _GONE if value is None else value
    elif not isinstance(inner, dict):
        raise _no_fields(names)
    elif value is None:
        inner.pop(last, None)
    else:
        inner[last] = value


def _inside(container: Any, name: str, names: Sequence[str]) -> Any:
    if isinstance(container, list):
        return container[_index(container, name, names)]
    if not isinstance(container, dict):
        raise _no_fields(names)
    return container.setdefault(name, {})


def _index(items: Sequence[Any], name: str, names: Sequence[str]) -> int:
    if not name.isdecimal() or int(name) >= len(items):
        many = f"0 to {len(items) - 1}" if items else "none: it is empty"
        raise Invalid(f"`{'.'.join(names)}` names no item of its list.", fix=f"Items are counted from 0; here {many}.")
    return int(name)


def _no_fields(names: Sequence[str]) -> Invalid:
    return Invalid(f"`{'.'.join(names)}` is inside of something that has no fields.", fix="Set that as a whole.")
