"""JSON Schema of what can be declared, for editors and for OpenAPI; and what of it does not take effect yet.

It is made from the models that read the files, so it says what they accept, as far as a schema can say it. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from appservice.resources import registry
from appservice.resources.kind import Kind
from appservice.resources.metadata import WRITTEN_BY_SERVER, Metadata

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DEFS: Final = "#/$defs/"


def schema(kind: str = "") -> dict[str, Any]:
    """The schema of one document: of a kind, or of any."""
    names = [kind] if kind else list(registry.KINDS)
    found = definitions(DEFS, names)
    top: dict[str, Any] = {"$schema": DIALECT, "title": kind or "Opsroom"}
    if kind:
        top |= found.pop(kind)
    else:
        top |= {"oneOf": [{"$ref": DEFS + name} for name in names]}
    return top | {"$defs": found}


def definitions(base: str, names: Sequence[str] = tuple(registry.KINDS)) -> dict[str, dict[str, Any]]:
    """A definition for each kind, and for all that they are made of; references begin with `base`."""
    kinds = [registry.KINDS[name] for name in names]
    models = [(model, "validation") for model in (Metadata, *(kind.spec for kind in kinds))]
    _, made = models_json_schema(models, by_alias=True, ref_template=base + "{model}")  # type: ignore[arg-type]
    found: dict[str, dict[str, Any]] = made["$defs"]
    for part in found.values():
        part["properties"] = {name: _without_title(field) for name, field in part["properties"].items()}
    found["Metadata"]["patternProperties"] = {f"^({'|'.join(sorted(WRITTEN_BY_SERVER))})$": {}}
    for kind in kinds:
        for path, sentence in kind.pending_fields.items():
            _note(found, kind.spec.__name__, path.split("."), sentence, base)
        found[kind.name] = _document(kind, base)
    return found


def pending() -> Iterator[tuple[str, str, str]]:
    """Every field that is read and kept, and does not take effect yet: kind, field, what is missing."""
    for kind in registry.KINDS.values():
        for field, sentence in kind.pending_fields.items():
            yield kind.name, field, sentence


def _document(kind: Kind, base: str) -> dict[str, Any]:
    return {
        "title": kind.name,
        "description": (kind.spec.__doc__ or "").strip(),
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"enum": list(kind.api_versions)},
            "kind": {"const": kind.name},
            "metadata": {"$ref": f"{base}Metadata"},
            "spec": {"$ref": f"{base}{kind.spec.__name__}"},
            "status": {"description": "What was observed: never read."},
        },
    }


def _without_title(field: Mapping[str, Any]) -> dict[str, Any]:
    """Titles that pydantic makes of names say nothing new."""
    return {key: value for key, value in field.items() if key != "title"}


def _note(found: dict[str, dict[str, Any]], model: str, path: Sequence[str], sentence: str, base: str) -> None:
    """Say at a field that it does not take effect yet; inside of lists, too."""
    field = found[model]["properties"][path[0]]
    if len(path) == 1:
        text = f"{field.get('description', '')} [pending] {sentence}".lstrip()
        found[model]["properties"][path[0]] = {**field, "description": text}
        return
    inner = field.get("items", field)
    _note(found, str(inner["$ref"]).removeprefix(base), path[1:], sentence, base)
