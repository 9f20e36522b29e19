"""What an apply would do, before it is done. Pure."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from appservice.resources import registry
from appservice.resources.difference import NOTHING, Change, changes
from appservice.resources.document import Document
from appservice.resources.human import HumanSpec, missing
from appservice.resources.kind import Spec
from appservice.resources.metadata import is_ours
from appservice.resources.source import Item
from appservice.resources.team import TeamAdmin, TeamSpec
from appservice.resources.worker import WorkerSpec
from appservice.store import declaring
from appservice.store.changes import Key, parse
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
    return list(_with_references(steps, documents, known))


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


def _with_references(
    steps: Sequence[Step], documents: Sequence[Document], known: Mapping[Key, Stored]
) -> Iterator[Step]:
    """The steps, with what their documents name and nobody will have declared then."""
    there = {key for key, stored in known.items() if not stored.deleting} | {step.key for step in steps}
    there -= {step.key for step in destroys(steps)}
    names = {kind: {key.name for key in there if key.kind == kind} for kind in registry.KINDS}
    specs = {Key(document.kind, document.name): document.spec for document in documents}
    for step in steps:
        spec = specs.get(step.key)
        note = "; ".join(filter(None, (step.note, _missing(spec, names), _no_agents(spec, names["Worker"]))))
        yield replace(step, note=note)


def _missing(spec: Spec | None, names: Mapping[str, Container[str]]) -> str:
    match spec:
        case HumanSpec(accessible_teams=teams, accessible_workers=workers):
            return missing(teams, workers, known_teams=names["Team"], known_agents=names["Worker"])
        case TeamSpec(admin=TeamAdmin() as admin):
            name = (admin.matrix_user_id or admin.name).removeprefix("@").split(":")[0]
            if name not in names["Human"]:
                return f"Its admin {name} is not declared as a Human; the rooms wait until there is such an account."
    return ""


def _no_agents(spec: Spec | None, agents: Container[str]) -> str:
    """Matrix ids in a channelPolicy that were agents' in HiClaw: here these are people's."""
    holders: Sequence[WorkerSpec | TeamSpec] = ()
    match spec:
        case WorkerSpec():
            holders = (spec,)
        case TeamSpec():
            holders = (spec, spec.leader, *spec.workers)
    policies = [holder.channel_policy for holder in holders]
    users = {user for policy in policies for names in dict(policy).values() for user in names if user.startswith("@")}
    meant = [(user, name) for user in sorted(users) if (name := user[1:].partition(":")[0]) in agents]
    return "; ".join(f"`{user}` in a channelPolicy is a person; the agent is `{name}`" for user, name in meant)


def _parts(document: Document, known: Mapping[Key, Stored]) -> Iterator[Step]:
    """Agents that are new, come back, or stand elsewhere; what else changes of one is told with the whole."""
    for part, made in zip(declaring.parts(document), declaring.made_of(document), strict=True):
        key = Key(made.kind, made.name)
        if (stored := known.get(key)) is None:
            yield Step(key=key, action="create", note=f"part of `{made.owner}`")
        elif note := _note(stored, _stands(made.name, made.owner, registry.canonical(document)), known):
            changed = _told("Worker", part.spec, stored.document, made.document)
            yield Step(key=key, action="change", changed=changed, note=note)


def _agent_goes(*, keep_files: bool) -> str:
    return _GOES["Worker"].format(files="stay" if keep_files else "go, too")


def _step(document: Document, known: Mapping[Key, Stored]) -> Step:
    key = Key(document.kind, document.name)
    stored = known.get(key)
    if stored is None:
        return Step(key=key, action="create")
    changed = _told(document.kind, document.spec, stored.document, registry.canonical(document))
    note = _note(stored, "", known)
    if not changed and not note and declaring.reworded(document, stored):
        note = "only its remarks; nothing restarts"
    return Step(key=key, action="change" if changed or note else "none", changed=changed, note=note)


def _note(stored: Stored, place: str, known: Mapping[Key, Stored]) -> str:
    """What happens to an object besides changes of its fields: it is not deleted any more, it stands elsewhere."""
    owner = known.get(parse(stored.owner)) if stored.owner else None
    before = _stands(stored.name, stored.owner, owner.document) if owner else ""
    notes = ["its deletion is taken back"] if stored.deleting else []
    if before != place:
        notes.append(f"{before or 'on its own'} → {place or 'on its own'}; {_ANEW}")
    return "; ".join(notes)


def _stands(agent: str, owner: str, document: Mapping[str, Any]) -> str:
    """Its place in its team, which its sandbox has as labels; '' for an agent that is in none."""
    if document["kind"] != "Team":
        return ""
    return f"{'leader' if document['spec']['leader']['name'] == agent else 'member'} of `{owner}`"


_ANEW = "its sandbox is made anew, its files stay"
_LABELLED = {
    "Worker": _ANEW,
    "Manager": _ANEW,
    "Team": "the sandboxes of its agents are made anew, their files stay",
}


def _labels(change: Change) -> Iterator[str]:
    """Names of the labels in `metadata` that change."""
    if len(change.path) > 2:
        yield str(change.path[2])
        return
    for side in (change.before, change.after):
        yield from side if isinstance(side, Mapping) else ()


def _told(kind: str, spec: Spec, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[tuple[Change, str], ...]:
    """Each field that changes, with its effect."""
    found, stated = changes(before, after), spec.model_dump(mode="json", by_alias=True)
    replaced = any(change.path == ("spec", "leader", "name") for change in found)  # nobody changes: see the agents
    return tuple(
        (change, "" if replaced and change.path[:2] == ("spec", "leader") else _effect(kind, stated, change))
        for change in found
    )


def _effect(kind: str, stated: Mapping[str, Any], change: Change) -> str:
    """What a change of a field does to what runs; a field of a team's agent does what it does in a Worker."""
    path = change.path
    match path:
        case ("spec", "leader", _, *_):
            kind, path, stated = "Worker", path[1:], stated["leader"]
        case ("spec", "workers", Item() as name, _, *_):
            kind, path = "Worker", path[2:]
            stated = next(worker for worker in stated["workers"] if worker["name"] == name)
        case ("spec", "workers") if NOTHING not in (change.before, change.after):
            return "only their order: nothing restarts"
        case ("spec", *_):
            pass
        case ("metadata", "labels", *_) if kind in _LABELLED and not all(map(is_ours, _labels(change))):
            return _LABELLED[kind]
        case _:
            return ""
    effects, field = registry.KINDS[kind].effects, str(path[1])
    return effects.get(f"{field}={stated.get(field)}") or effects.get(field, "")
