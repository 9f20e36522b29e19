"""What is different between two declared documents, field by field. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appservice.resources.source import FieldPath

NOTHING = object()  # a side on which the field is not stated


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field; `before` or `after` is NOTHING where it is not stated."""

    path: FieldPath
    before: Any
    after: Any


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Maps are compared key by key, lists of the same length item by item, everything else as a whole."""
    return list(_changes((), before, after))


def _changes(path: FieldPath, before: Any, after: Any) -> Iterator[Change]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _changes((*path, key), before.get(key, NOTHING), after.get(key, NOTHING))
    elif _lists(before, after) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changes((*path, index), one, other)
    elif before != after:
        yield Change(path=path, before=before, after=after)


def _lists(*values: Any) -> bool:
    return all(isinstance(value, Sequence) and not isinstance(value, str) for value in values)
