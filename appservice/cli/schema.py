"""`opsroom schema`: what can be declared, for editors, and what of it does not take effect yet. Needs no server."""

import json

from appservice.cli import console
from appservice.errors import Invalid
from appservice.resources import registry
from appservice.resources import schema as schemas


def schema(word: str, *, pending: bool) -> int:
    """Print the JSON Schema, or the table of pending fields."""
    kind = _kind(word) if word else ""
    if pending:
        console.answer(_table([row for row in schemas.pending() if kind in ("", row[0])]))
    else:
        console.answer(json.dumps(schemas.schema(kind), indent=2, ensure_ascii=False))
    return 0


def _kind(word: str) -> str:
    found = registry.find_kind(word)
    if found is None:
        raise Invalid(f"{word} is not a kind.", fix=f"Known kinds: {', '.join(registry.KINDS)}.")
    return found.name


def _table(rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return "Every field takes effect."
    rows = [("KIND", "FIELD", "WHAT IS MISSING"), *((kind, f"spec.{field}", text) for kind, field, text in rows)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{kind:<{widths[0]}}  {field:<{widths[1]}}  {text}" for kind, field, text in rows)
