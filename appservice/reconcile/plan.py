"""What an apply would do, before it is done. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from appservice.resources import registry
from appservice.resources.difference import Change, changes
from appservice.resources.document import Document
from appservice.store import declaring
from appservice.store.changes import Key
from appservice.store.objects import Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What becomes of one object: each field that changes, with what that does to what runs, in words."""

    key: Key
    action: str  # create, change, delete, none
    changed: tuple[tuple[Change, str], ...] = ()
    note: str = ""


def plan(documents: Sequence[Document], known: Mapping[Key, Stored]) -> list[Step]:
    """What becomes of each document, and of the agents that are part of it."""
    return [step for document in documents for step in (_step(document, known), *_parts(document, documents, known))]


def _parts(document: Document, documents: Sequence[Document], known: Mapping[Key, Stored]) -> Iterator[Step]:
    owner = str(Key(document.kind, document.name))
    wanted = [Key("Worker", part.name) for part in declaring.parts(document)]
    moved = {part.name for other in documents for part in declaring.parts(other)}
    for key in wanted:
        if key not in known:
            yield Step(key=key, action="create", note=f"part of `{owner}`")
    for stored in known.values():
        if stored.owner == owner and stored.name not in moved and not stored.deleting:
            note = "its sandbox, token, storage user and room go, its files stay"
            yield Step(key=stored.key, action="delete", note=note)


def _step(document: Document, known: Mapping[Key, Stored]) -> Step:
    key = Key(document.kind, document.name)
    stored = known.get(key)
    if stored is None:
        return Step(key=key, action="create")
    found = changes(stored.document, registry.canonical(document))
    changed = tuple((change, _effect(document, change)) for change in found)
    if stored.deleting:
        return Step(key=key, action="change", changed=changed, note="its deletion is taken back")
    return Step(key=key, action="change" if found else "none", changed=changed)


def _effect(document: Document, change: Change) -> str:
    """What a change of a field does to what runs; a field of a team's agent does what it does in a Worker."""
    kind, path, stated = document.kind, change.path, document.spec.model_dump(mode="json", by_alias=True)
    match path:
        case ("spec", "leader", _, *_):
            kind, path, stated = "Worker", path[1:], stated["leader"]
        case ("spec", "workers", int(index), _, *_):
            kind, path, stated = "Worker", path[2:], stated["workers"][index]
        case ("spec", *_):
            pass
        case _:
            return ""
    effects, field = registry.KINDS[kind].effects, str(path[1])
    return effects.get(f"{field}={stated.get(field)}") or effects.get(field, "")
