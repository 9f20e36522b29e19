"""Change single fields of a declared document, as `spec.model=gpt-5` says it. Pure."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from appservice.errors import Invalid
from appservice.resources.document import read
from appservice.resources.scalars import Refused, resolve


def with_fields(declared: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """The document with these fields set; an empty value unsets one. Fields without a first word are of `spec`.

    Raises Invalid for what is no assignment; whether the fields exist is for whoever reads the result.
    """
    changed = deepcopy(dict(declared))
    for assignment in assignments:
        path, sign, value = assignment.partition("=")
        names = path.split(".")
        if not sign or not all(names):
            raise Invalid(f"`{assignment}` sets nothing.", fix="Write FIELD=VALUE, for example `spec.model=gpt-5`.")
        if names[0] not in ("spec", "metadata"):
            names.insert(0, "spec")
        _set(changed, names, _read(value))
    return changed


def _read(value: str) -> Any:
    """Lists, maps and quoted texts as YAML reads them, numbers and truth values as its scalars; all else is the text
    that it is, colons and all. None unsets."""
    if not value:
        return None
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
    inner = document
    for name in parents:
        if not isinstance(inner.setdefault(name, {}), dict):
            raise Invalid(f"`{'.'.join(names)}` is inside of something that has no fields.", fix="Set that as a whole.")
        inner = inner[name]
    if value is None:
        inner.pop(last, None)
    else:
        inner[last] = value
