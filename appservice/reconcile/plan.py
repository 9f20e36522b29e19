"""What an apply would do, before it is done. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from appservice.resources import registry
from appservice.resources.difference import Change, changes
from appservice.resources.document import Document
from appservice.resources.metadata import is_ours
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


_GOES = {
    "Worker": "its sandbox, token, storage user and room go; its files {files}",
    "Team": "its rooms go, and its agents; the team's common files stay",
    "Manager": "its agent goes",
    "Human": "out of all rooms that follow from it; the account stays",
}


def plan(documents: Sequence[Document], known: Mapping[Key, Stored], *, prune: bool = False) -> list[Step]:
    """What becomes of each document, and of the agents that are part of it; with `prune` of the rest of its set, too.
    Raises Invalid when that is not to be told."""
    steps = [step for document in documents for step in (_step(document, known), *_parts(document, known))]
    gone = declaring.dropped(documents, known)
    steps += [Step(key=stored.key, action="delete", note=_agent_goes(keep_files=True)) for stored in gone]
    for stored in declaring.pruned(documents, known) if prune else ():
        steps += deletion(stored, known, keep_files=True)
    return steps


def deletion(stored: Stored, known: Mapping[Key, Stored], *, keep_files: bool) -> list[Step]:
    """What goes with an object."""
    parts = [other for other in known.values() if other.owner == str(stored.key)]
    note = _GOES[stored.kind].format(files="stay" if keep_files else "go, too")
    return [
        Step(key=stored.key, action="delete", note=note),
        *(Step(key=part.key, action="delete", note=_agent_goes(keep_files=keep_files)) for part in parts),
    ]


def destroys(steps: Sequence[Step]) -> list[Step]:
    """Those after which something is gone for good."""
    return [step for step in steps if step.action == "delete"]


def digest(steps: Sequence[Step], known: Mapping[Key, Stored]) -> str:
    """Names a plan and the state it was made on: another one as soon as either differs."""
    facts = [
        (step.key, step.action, step.changed, known[step.key].generation if step.key in known else 0) for step in steps
    ]
    return sha256(repr(facts).encode()).hexdigest()[:12]


def _parts(document: Document, known: Mapping[Key, Stored]) -> Iterator[Step]:
    for part in declaring.parts(document):
        if (key := Key("Worker", part.name)) not in known:
            yield Step(key=key, action="create", note=f"part of `{Key(document.kind, document.name)}`")


def _agent_goes(*, keep_files: bool) -> str:
    return _GOES["Worker"].format(files="stay" if keep_files else "go, too")


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


_LABELLED = {
    "Worker": "its sandbox is made anew, its files stay",
    "Manager": "its sandbox is made anew, its files stay",
    "Team": "the sandboxes of its agents are made anew, their files stay",
}


def _labels(change: Change) -> Iterator[str]:
    """Names of the labels in `metadata` that change."""
    if len(change.path) > 2:
        yield str(change.path[2])
        return
    for side in (change.before, change.after):
        yield from side if isinstance(side, Mapping) else ()


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
        case ("metadata", "labels", *_) if kind in _LABELLED and not all(map(is_ours, _labels(change))):
            return _LABELLED[kind]
        case _:
            return ""
    effects, field = registry.KINDS[kind].effects, str(path[1])
    return effects.get(f"{field}={stated.get(field)}") or effects.get(field, "")
