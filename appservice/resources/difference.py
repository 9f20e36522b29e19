"""What is different between two declared documents, field by field. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appservice.resources.source import FieldPath, Item


class _Nothing:
    def __repr__(self) -> str:
        return "NOTHING"  # the same in every process: plans are told apart by it


NOTHING = _Nothing()  # a side on which the field is not stated


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field; `before` or `after` is NOTHING where it is not stated."""

    path: FieldPath
    before: Any
    after: Any


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Maps are compared key by key, lists by the names of their items where all have one, other lists of the same
    length item by item, everything else as a whole. Of named items in another order their names are a change, too."""
    return list(_changes((), before, after))


def _changes(path: FieldPath, before: Any, after: Any) -> Iterator[Change]:
    named, named_after = _by_name(before), _by_name(after)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _keys(path, before, after)
    elif named is not None and named_after is not None:
        yield from _keys(path, named, named_after)
        both = [name for name in named if name in named_after]
        if both != (order := [name for name in named_after if name in named]):
            yield Change(path=path, before=both, after=order)
    elif _lists(before, after) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changes((*path, index), one, other)
    elif before != after:
        yield Change(path=path, before=before, after=after)


def _keys(path: FieldPath, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for key in [*before, *(key for key in after if key not in before)]:
        yield from _changes((*path, key), before.get(key, NOTHING), after.get(key, NOTHING))


def _by_name(values: Any) -> Mapping[str, Any] | None:
    """The items of a list by their names; None where that is no list, or not every item has a name of its own."""
    if not _lists(values) or not all(isinstance(one, Mapping) and isinstance(one.get("name"), str) for one in values):
        return None
    found: dict[str, Any] = {Item(one["name"]): one for one in values}
    return found if len(found) == len(values) else None


def _lists(*values: Any) -> bool:
    return all(isinstance(value, Sequence) and not isinstance(value, str) for value in values)
