"""One declared resource, as it was written and as it was understood."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from appservice.errors import Problem
from appservice.resources.compose import Tree, compose
from appservice.resources.kind import Spec
from appservice.resources.source import Fault, FieldPath, Source, decode

_NO_MAP = "A document must be a map of fields (apiVersion, kind, metadata, spec)."
_AS_MAP = "Begin it with `apiVersion:`; several objects are separated by a line `---`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A valid document. `data` is what was declared, without defaults, `status` and what a server wrote;
    `text` is the source with its comments, printed anew where that says what is not its author's to declare; `line` is
    where its first field is."""

    api_version: str
    kind: str
    name: str
    spec: Spec
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    data: Mapping[str, Any]
    text: str
    line: int
    source: Source = field(repr=False, compare=False)
    tree: Tree = field(repr=False, compare=False)

    def problem(self, path: FieldPath, what: str, fix: str = "") -> Problem:
        """A problem that only somebody else could find (a skill that does not exist), located in this document."""
        return self.source.problem(Fault(what=what, fix=fix, path=path, mark=self.tree.mark(path)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A YAML stream before anybody asked what it means: all maps in it, and all that is wrong with it as YAML."""

    source: Source
    trees: tuple[Tree, ...]
    faults: tuple[Fault, ...]


def read(data: bytes, *, source: str) -> Reading:
    """Read a YAML stream. Raises Invalid only when the file as a whole cannot be read (size, encoding)."""
    decoded = decode(data, source=source)
    composed = compose(decoded)
    maps = tuple(tree for tree in composed.trees if isinstance(tree.value, dict))
    strays = (tree for tree in composed.trees if not isinstance(tree.value, dict) and not tree.broken)
    faults = [*composed.faults, *(Fault(what=_NO_MAP, fix=_AS_MAP, mark=tree.mark(())) for tree in strays)]
    if not composed.trees and not faults:
        faults.append(Fault(what="The file has no document in it.", fix="Begin one with `apiVersion:` and `kind:`."))
    return Reading(source=decoded, trees=maps, faults=tuple(faults))


def several(value: Any) -> list[Any]:
    """What JSON declares: an object, a list of them, or a List as Kubernetes prints it."""
    if isinstance(value, dict) and isinstance(value.get("items"), list) and str(value.get("kind")).endswith("List"):
        value = value["items"]
    return value if isinstance(value, list) else [value]
