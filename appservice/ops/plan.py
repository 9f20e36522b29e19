"""Plans and histories as people read them. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from appservice.errors import OpsroomError
from appservice.reconcile.plan import Step
from appservice.resources import registry
from appservice.resources.difference import NOTHING, Change, changes
from appservice.resources.source import Item
from appservice.store.objects import Revision

SHOWN = 80  # characters of a value


def told(steps: Sequence[Step]) -> str:
    """As Markdown; the last line says that nothing was done."""
    if all(step.action == "none" for step in steps):
        return "No changes: everything is declared like this already."
    return "\n".join([*(line for step in steps for line in _lines(step)), "", "Nothing was changed. `!apply` does it."])


def to_agree(steps: Sequence[Step]) -> str:
    """A plan that somebody is asked to agree to."""
    return "\n".join(line for step in steps if step.action != "none" for line in _lines(step))


def _lines(step: Step) -> list[str]:
    action = "unchanged" if step.action == "none" else f"**{step.action}**"
    head = f"- {action} `{step.key}`" + (f": {step.note}" if step.note else "")
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
    return "".join(f"[{part}]" if isinstance(part, int | Item) else f".{part}" for part in change.path).lstrip(".")


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
