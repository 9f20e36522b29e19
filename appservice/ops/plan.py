"""What an apply would do, before it is done. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appservice.errors import OpsroomError
from appservice.resources import registry
from appservice.resources.difference import NOTHING, Change, changes
from appservice.resources.document import Document
from appservice.store.changes import Key
from appservice.store.objects import Revision, Stored

SHOWN = 80  # characters of a value


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What becomes of one object: each field that changes, with what that does to what runs, in words."""

    key: Key
    action: str  # create, change, none
    changed: tuple[tuple[Change, str], ...] = ()
    note: str = ""


def plan(documents: Sequence[Document], known: Mapping[Key, Stored]) -> list[Step]:
    return [_step(document, known.get(Key(document.kind, document.name))) for document in documents]


def _step(document: Document, stored: Stored | None) -> Step:
    key = Key(document.kind, document.name)
    if stored is None:
        return Step(key=key, action="create")
    found = changes(stored.document, registry.canonical(document))
    changed = tuple((change, _effect(document, change)) for change in found)
    if stored.deleting:
        return Step(key=key, action="change", changed=changed, note="its deletion is taken back")
    return Step(key=key, action="change" if found else "none", changed=changed)


def _effect(document: Document, change: Change) -> str:
    if change.path[0] != "spec":
        return ""
    effects, field = registry.KINDS[document.kind].effects, str(change.path[1])
    return effects.get(f"{field}={_stated(document, field)}") or effects.get(field, "")


def _stated(document: Document, field: str) -> object:
    return document.spec.model_dump(mode="json", by_alias=True).get(field)


def told(steps: Sequence[Step]) -> str:
    """As Markdown; the last line says that nothing was done."""
    if all(step.action == "none" for step in steps):
        return "No changes: everything is declared like this already."
    return "\n".join([*(line for step in steps for line in _lines(step)), "", "Nothing was changed. `!apply` does it."])


def _lines(step: Step) -> list[str]:
    if step.action == "none":
        return [f"- unchanged `{step.key}`"]
    head = f"- **{step.action}** `{step.key}`" + (f": {step.note}" if step.note else "")
    return [head, *(f"  - {_changed(change)}{f'; {effect}' if effect else ''}" for change, effect in step.changed)]


def with_fields(found: Sequence[Revision]) -> list[tuple[Revision, list[str]]]:
    """Each revision, newest first, with the fields in which it differs from the one before it."""
    documents = [_canonical(revision) for revision in found]
    pairs = zip(found, documents, [*documents[1:], None], strict=True)
    return [
        (revision, [_name(change) for change in changes(before, after)] if before and after else [])
        for revision, after, before in pairs
    ]


def _canonical(revision: Revision) -> Mapping[str, Any] | None:
    """None for a deletion, and for what this program does not read any more."""
    try:
        [document] = registry.parse(revision.text.encode(), source=str(revision.revision))
    except (OpsroomError, ValueError):
        return None
    return registry.canonical(document)


def _name(change: Change) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in change.path).lstrip(".")


def _changed(change: Change) -> str:
    field = _name(change)
    if change.before is NOTHING:
        return f"`{field}`: + {_value(change.after)}"
    if change.after is NOTHING:
        return f"`{field}`: − {_value(change.before)}"
    return f"`{field}`: {_value(change.before)} → {_value(change.after)}"


def _value(value: Any) -> str:
    """Short enough for a phone; of a long text its size."""
    if isinstance(value, str) and (len(value) > SHOWN or "\n" in value.strip()):
        lines = len(value.splitlines())
        return f"text of {lines} line{'s' if lines > 1 else ''}, {len(value)} characters"
    text = value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{text.replace('`', '’')}`" if len(text) <= SHOWN else f"`{text[:SHOWN].replace('`', '’')}…`"
