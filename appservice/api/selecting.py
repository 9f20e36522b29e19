"""Which objects of a list are meant: label and field selectors as Kubernetes writes them. Pure."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from appservice.api.problems import Malformed

Object = Mapping[str, Any]
Test = Callable[[Object], bool]

FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "metadata.name": ("metadata", "name"),
    "status.phase": ("status", "phase"),
}
_TERM = re.compile(r"\s*([^\s=!,]+)\s*(?:(==|=|!=)\s*([^\s=!,]*)\s*)?")


def by_labels(text: str) -> Test:
    """`team=web,tier!=test,owner`: equal, not equal (or not there), there. Raises Malformed."""
    terms = [_term(part, "labelSelector", "app=web,tier!=test,owner") for part in text.split(",")] if text else []

    def test(item: Object) -> bool:
        labels = item["metadata"].get("labels", {})
        return all(_holds(labels.get(key), sign, value) for key, sign, value in terms)

    return test


def by_fields(text: str) -> Test:
    """As by labels, of the fields that can be selected by. Raises Malformed."""
    terms = _fields(text)

    def test(item: Object) -> bool:
        return all(_holds(str(item[FIELDS[key][0]][FIELDS[key][1]]), sign, value) for key, sign, value in terms)

    return test


def by_name(text: str) -> Callable[[str], bool]:
    """What a field selector says of names: they alone never change. Raises Malformed."""
    terms = [(sign, value) for key, sign, value in _fields(text) if key == "metadata.name"]
    return lambda name: all(_holds(name, sign, value) for sign, value in terms)


def _fields(text: str) -> list[tuple[str, str, str]]:
    terms = [_term(part, "fieldSelector", "status.phase=Running") for part in text.split(",")] if text else []
    for key, sign, _ in terms:
        if key not in FIELDS or not sign:
            raise Malformed(
                f"fieldSelector: objects cannot be selected by {key}.",
                fix=f"Write FIELD=VALUE or FIELD!=VALUE with one of {', '.join(FIELDS)}.",
            )
    return terms


def _term(text: str, name: str, example: str) -> tuple[str, str, str]:
    found = _TERM.fullmatch(text)
    if found is None:
        raise Malformed(f"{name}: a part of it is no selector.", fix=f"Write it like {example}.")
    return found[1], (found[2] or "").replace("==", "="), found[3] or ""


def _holds(actual: str | None, sign: str, value: str) -> bool:
    match sign:
        case "=":
            return actual == value
        case "!=":
            return actual != value
    return actual is not None
