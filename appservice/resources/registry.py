"""All kinds, and the one way from bytes to documents.

A new kind is one module and one line in `KINDS`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from appservice.resources import access, human, manager, team, unique, worker
from appservice.resources.compose import Tree
from appservice.resources.document import Document, read
from appservice.resources.faults import faults_of
from appservice.resources.kind import Kind
from appservice.resources.metadata import WRITTEN_BY_SERVER, Envelope, Metadata
from appservice.resources.printing import to_yaml
from appservice.resources.source import Fault, FieldPath, Source, shown
from appservice.resources.suggest import did_you_mean, nearest

KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in (worker.KIND, team.KIND, human.KIND, manager.KIND)}

# Kinds that people have in files already and that Opsroom does not read yet.
NOT_YET: Final = ("ClawInstance", "AgentRun", "ClawPolicy", "SkillPack", "ClawSchedule")
_SUPPORTED: Final = "Supported kinds:"
_M = TypeVar("_M", bound=BaseModel)


def find_kind(word: str) -> Kind | None:
    """The kind people mean by `Worker`, `worker`, `workers` or `wk`."""
    return next((kind for kind in KINDS.values() if word.lower() in kind.words), None)


def parse(data: bytes, *, source: str) -> tuple[Document, ...]:
    """Read all documents of a file, or raise Invalid with everything that is wrong in it.

    `source` is the file's name as the person knows it.
    """
    reading = read(data, source=source)
    faults = list(reading.faults)
    documents: list[Document] = []
    names: dict[tuple[str, str], Tree] = {}
    for tree in reading.trees:
        found = _document(tree, reading.source)
        if isinstance(found, Document):
            documents.append(found)
        else:
            faults.extend(found)
        faults.extend(_second_of_a_name(tree, names))
    if not faults:
        faults.extend((*unique.faults(documents), *access.faults(documents)))
    if faults:
        raise reading.source.invalid(faults)
    return tuple(documents)


def canonical(document: Document) -> dict[str, Any]:
    """What a document declares, in one form: two documents that mean the same give the same.

    A field stated with its default equals one left out; so do both forms of `mcpServers`. `namespace` means nothing.
    """
    metadata: dict[str, Any] = {"name": document.name}
    if document.labels:
        metadata["labels"] = dict(document.labels)
    if document.annotations:
        metadata["annotations"] = dict(document.annotations)
    spec = document.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"apiVersion": document.api_version, "kind": document.kind, "metadata": metadata, "spec": spec}


def _document(tree: Tree, source: Source) -> Document | list[Fault]:
    declared = _declared(tree.value)
    if declared.get("kind") in NOT_YET:
        return [_not_yet(declared["kind"], tree)]
    faults: list[Fault] = []
    envelope = _validated(Envelope, declared, tree, (), faults)
    kind = _kind(declared, tree, faults)
    metadata = _part(Metadata, "metadata", declared, tree, faults)
    spec = _part(kind.spec, "spec", declared, tree, faults) if kind else None
    if faults or tree.broken or not (envelope and kind and metadata and spec):
        return faults
    return Document(
        api_version=envelope.apiVersion,
        kind=kind.name,
        name=metadata.name,
        spec=spec,
        labels=metadata.labels,
        annotations=metadata.annotations,
        data=declared,
        text=tree.text if declared == tree.value else to_yaml(declared),
        line=tree.first_line,
        source=source,
        tree=tree,
    )


def _declared(value: Mapping[str, Any]) -> dict[str, Any]:
    """The document without what is not its author's to declare."""
    declared = {key: part for key, part in value.items() if key != "status"}
    if isinstance(metadata := declared.get("metadata"), dict):
        declared["metadata"] = {key: part for key, part in metadata.items() if key not in WRITTEN_BY_SERVER}
    return declared


def _part(model: type[_M], name: str, declared: Mapping[str, Any], tree: Tree, faults: list[Fault]) -> _M | None:
    value = declared.get(name)
    return _validated(model, value, tree, (name,), faults) if isinstance(value, dict) else None


def _validated(model: type[_M], value: object, tree: Tree, at: FieldPath, faults: list[Fault]) -> _M | None:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults.extend(faults_of(error, tree=tree, model=model, at=at))
        return None


def _kind(declared: Mapping[str, Any], tree: Tree, faults: list[Fault]) -> Kind | None:
    """Find the kind of a document, or say what is known. What is missing or no text is the envelope's to report."""
    version, name = declared.get("apiVersion"), declared.get("kind")
    if not isinstance(name, str) or tree.is_broken(("kind",)):
        return None
    kind = KINDS.get(name)
    if kind is None:
        what, fix = _unknown_kind(name)
        faults.append(Fault(what=what, fix=fix, path=("kind",), mark=tree.mark(("kind",))))
    elif isinstance(version, str) and version not in kind.api_versions and not tree.is_broken(("apiVersion",)):
        what = f"{shown(version)} is not an apiVersion of {kind.name}."
        fix = f"Write `apiVersion: {kind.api_versions[0]}`."
        faults.append(Fault(what=what, fix=fix, path=("apiVersion",), mark=tree.mark(("apiVersion",))))
    return kind


def _unknown_kind(name: str) -> tuple[str, str]:
    near = nearest(name, (*KINDS, *NOT_YET))
    fix = f"{near} is meant? It is not supported yet." if near in NOT_YET else ""
    return f"{shown(name)} is not a kind that is known.", fix or did_you_mean(name, KINDS, otherwise=_SUPPORTED)


def _not_yet(kind: str, tree: Tree) -> Fault:
    fix = f"Remove the document for now. {_SUPPORTED} {', '.join(KINDS)}."
    return Fault(what=f"{kind} is not supported yet.", fix=fix, path=("kind",), mark=tree.mark(("kind",)))


def _second_of_a_name(tree: Tree, names: dict[tuple[str, str], Tree]) -> Iterator[Fault]:
    kind, metadata = tree.value.get("kind"), tree.value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(kind, str) or not isinstance(name, str):
        return
    path: FieldPath = ("metadata", "name")
    if first := names.get((kind, name)):
        what = f"{kind} {shown(name)} is declared twice; the first is on line {first.mark(path).line}."
        yield Fault(what=what, fix="Keep one of them, or rename it.", path=path, mark=tree.mark(path))
    names.setdefault((kind, name), tree)
