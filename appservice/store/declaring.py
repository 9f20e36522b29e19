"""Declare documents with all that follows from them: an accepted file is one unit, whole or not at all."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from appservice.errors import Conflict, Invalid, Problem
from appservice.resources import manager, registry, team, unique
from appservice.resources.document import Document
from appservice.resources.human import HumanSpec
from appservice.resources.manager import ManagerSpec
from appservice.resources.metadata import is_ours
from appservice.resources.printing import to_yaml
from appservice.resources.source import FieldPath
from appservice.resources.team import TeamSpec
from appservice.resources.worker import WorkerSpec
from appservice.store import meta, objects
from appservice.store.changes import Key
from appservice.store.database import Connection
from appservice.store.objects import Declared, Stored

SET_LABEL = "opsroom.io/set"  # documents that are applied, and pruned, together


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An agent that another object is made of; `path` is where it stands there."""

    name: str
    spec: WorkerSpec
    path: FieldPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who declares, by which event, when."""

    user: str
    cause: str
    now: float


def parts(document: Document) -> tuple[Part, ...]:
    """The agents that a Team or a Manager is made of."""
    if isinstance(document.spec, TeamSpec):
        found = team.members(document.name, document.spec)
        return tuple(Part(name=member.name, spec=member.spec, path=member.path) for member in found)
    if isinstance(document.spec, ManagerSpec):
        name, spec = manager.agent(document.name, document.spec)
        return (Part(name=name, spec=spec, path=("metadata",)),)
    return ()


def made_of(document: Document) -> Iterator[Declared]:
    """Those agents as they are stored: Workers that belong to the whole. They have its labels, for they have no
    metadata of their own; labels that are for Opsroom stay with the whole."""
    labels = {key: value for key, value in document.labels.items() if not is_ours(key)}
    for part in parts(document):
        metadata = {"name": part.name} | ({"labels": labels} if labels else {})
        spec = part.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        worker = {"apiVersion": document.api_version, "kind": "Worker", "metadata": metadata, "spec": spec}
        yield Declared(
            kind="Worker",
            name=part.name,
            api_version=document.api_version,
            document=worker,
            text=to_yaml(worker),
            owner=str(Key(document.kind, document.name)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of each document, and of the agents they are made of: created, changed, deleted, unchanged."""

    documents: tuple[tuple[Key, str], ...]
    parts: tuple[tuple[Key, str], ...]


async def declare(
    db: Connection,
    documents: Sequence[Document],
    author: Author,
    *,
    is_ours: Callable[[str], bool],
    server_name: str = "",
    prune: bool = False,
    joining: Collection[Key] = (),
) -> Accepted:
    """Store documents and the agents they are made of. `is_ours`: whether a localpart or Matrix id is the bot's or an
    agent's; `server_name`: whose people it may name, '' for anybody's; `prune`: delete what else is in the documents'
    set, files kept; `joining`: agents declared by themselves that may become part of the documents.

    Raises what `check` does: then nothing may be kept.
    """
    known = {stored.key: stored for stored in await objects.every(db)}
    check(documents, known, is_ours, server_name, joining=joining)
    results, made = [], []
    for key in joining:
        await objects.let_go(db, key, author=author.user, cause=author.cause, now=author.now)
    for document in documents:
        key = Key(document.kind, document.name)
        result = await _store(db, _declared(document), author)
        if result == "unchanged" and reworded(document, known[key]):
            await objects.reword(db, key, document.text, author=author.user, cause=author.cause, now=author.now)
            result = "changed"
        results.append((key, result))
        made += [(Key("Worker", part.name), await _store(db, part, author)) for part in made_of(document)]
    for stored in dropped(documents, known):
        await delete(db, stored, author, keep_files=True)
        made.append((stored.key, "deleted"))
    for stored in pruned(documents, known) if prune else ():
        for one in (stored, *await objects.owned_by(db, str(stored.key))):
            (results if one is stored else made).append((one.key, "deleted"))
        await delete(db, stored, author, keep_files=True)
    return Accepted(documents=tuple(results), parts=tuple(made))


def check(
    documents: Sequence[Document],
    known: Mapping[Key, Stored],
    is_ours: Callable[[str], bool],
    server_name: str,
    *,
    joining: Collection[Key] = (),
) -> None:
    """Raises Conflict, with every place, when a name belongs to something else that is declared; Invalid when it is
    Opsroom's own, or that of somebody of another server."""
    taken, ours = list(_conflicts(documents, known, joining)), list(_impostors(documents, is_ours))
    if taken or ours:
        raise (Invalid if ours else Conflict)("some names are taken", problems=[*taken, *ours])
    if problems := list(_foreigners(documents, server_name)):
        raise Invalid("somebody is of another server", problems=problems)


def check_stays(*found: Stored) -> None:
    """What is declared as a whole comes back to life; who changes a field of it means what is there. Raises Conflict
    for what is on its way out."""
    for stored in found:
        if stored.deleting:
            fix = "To have it back, declare it as a whole: PUT or apply."
            raise Conflict(f"`{stored.key}` is being deleted.", fix=fix)


def reworded(document: Document, stored: Stored) -> bool:
    """Whether a document that declares the same as before has other remarks. One that was printed from data, as `!set`
    and REST do it, has none, and leaves those that are there."""
    text = document.text.strip()
    if text == stored.text.strip() or "#" not in text + stored.text:
        return False
    return text != to_yaml(document.data).strip()


def dropped(documents: Sequence[Document], known: Mapping[Key, Stored]) -> list[Stored]:
    """Agents that were part of these objects, and that none of the documents has now: not as a part, nor by itself."""
    owners = {str(Key(document.kind, document.name)) for document in documents}
    kept = {document.name for document in documents if document.kind == "Worker"}
    kept |= {part.name for document in documents for part in parts(document)}
    return [
        stored
        for stored in known.values()
        if stored.owner in owners and stored.name not in kept and not stored.deleting
    ]


def pruned(documents: Sequence[Document], known: Mapping[Key, Stored]) -> list[Stored]:
    """Objects of the documents' set that are not among them. Raises Invalid for documents that are of no one set."""
    sets = {document.labels.get(SET_LABEL, "") for document in documents}
    if len(sets) != 1 or sets == {""}:
        raise Invalid(
            "these documents are not of one set.",
            fix=f"To prune, give all of them the same label: `metadata: {{labels: {{{SET_LABEL}: NAME}}}}`.",
        )
    here = {Key(document.kind, document.name) for document in documents}
    return [
        stored
        for stored in known.values()
        if {stored.document["metadata"].get("labels", {}).get(SET_LABEL)} == sets
        and not (stored.key in here or stored.owner or stored.deleting)
    ]


async def delete(db: Connection, stored: Stored, author: Author, *, keep_files: bool) -> None:
    """Begin the end of an object and of the agents it is made of."""
    for one in (stored, *await objects.owned_by(db, str(stored.key))):
        await objects.begin_delete(db, one.key, author=author.user, cause=author.cause, now=author.now)
        if one.kind == "Worker":
            await meta.put(db, meta.KEEP_FILES + one.name, "yes" if keep_files else "")


async def _store(db: Connection, wanted: Declared, author: Author) -> str:
    if wanted.kind == "Worker":
        await meta.drop(db, meta.KEEP_FILES + wanted.name)  # what a deletion before this one said holds no more
    return await objects.declare(db, wanted, author=author.user, cause=author.cause, now=author.now)


def _declared(document: Document) -> Declared:
    return Declared(
        kind=document.kind,
        name=document.name,
        api_version=document.api_version,
        document=registry.canonical(document),
        text=document.text,
    )


def _impostors(documents: Sequence[Document], is_ours: Callable[[str], bool]) -> Iterator[Problem]:
    """People who would be users of Opsroom's own."""
    for document in documents:
        fix = "Choose another name: agents' users and the bot's are no people."
        if isinstance(document.spec, HumanSpec) and is_ours(name := document.spec.username or document.name):
            path: FieldPath = ("spec", "username") if document.spec.username else ("metadata", "name")
            yield document.problem(path, f"The user @{name} is Opsroom's own.", fix)
        if isinstance(document.spec, TeamSpec) and (admin := document.spec.admin):
            for field, name in (("name", admin.name), ("matrixUserId", admin.matrix_user_id)):
                if name and is_ours(name):
                    yield document.problem(("spec", "admin", field), f"The user {name} is Opsroom's own.", fix)


def _foreigners(documents: Sequence[Document], server_name: str) -> Iterator[Problem]:
    """People of other servers, to whom our rooms are closed."""
    for document in documents:
        admin = document.spec.admin if isinstance(document.spec, TeamSpec) else None
        user, _, server = (admin.matrix_user_id if admin else "").partition(":")
        if server and server_name not in ("", server):
            what = f"{user}:{server} is of another server than Opsroom's rooms, which only {server_name} can enter."
            fix = f'Write "{user}:{server_name}", or leave the field out: the `name` is enough.'
            yield document.problem(("spec", "admin", "matrixUserId"), what, fix)


def _conflicts(
    documents: Sequence[Document], known: Mapping[Key, Stored], joining: Collection[Key]
) -> Iterator[Problem]:
    """Names that would mean two users. What this file itself lets go of is free, and what joins it."""
    fresh = {str(Key(document.kind, document.name)) for document in documents}
    holders = {
        stored.name: stored.owner or str(stored.key)
        for stored in known.values()
        if stored.kind in ("Worker", "Human") and stored.owner not in fresh and stored.key not in joining
    }
    for stored in known.values():
        username = stored.document["spec"].get("username") if stored.kind == "Human" else ""
        if username and str(stored.key) not in fresh:
            holders.setdefault(username, str(stored.key))
    for document in documents:
        for name, _, path in unique.users(document):
            holder = holders.get(name, "")
            if holder in ("", str(Key(document.kind, document.name))):
                continue
            if document.kind == "Worker" and holder.startswith(("team/", "manager/")):
                yield document.problem(
                    path, f"The agent {name} is part of `{holder}`.", f"Change it there: `!edit {holder}`."
                )
            else:
                fix = "Choose another name, or delete that one first."
                yield document.problem(path, f"The name {name} is taken by `{holder}`.", fix)
