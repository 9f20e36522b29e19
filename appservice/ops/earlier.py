"""What a `!rollback` declares again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from appservice.errors import Conflict, Invalid, NotFound
from appservice.ops.hands import HISTORY, Hands, checked
from appservice.resources import registry
from appservice.resources.document import Document
from appservice.store import declaring, objects
from appservice.store.changes import Key
from appservice.store.database import Reader
from appservice.store.objects import Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """`newest`: number of the newest revision of each object that is to change, when this was chosen. `joining`: agents
    that are declared by themselves and become again what they were, part of one of these."""

    documents: tuple[Document, ...]
    newest: Mapping[Key, int]
    joining: frozenset[Key]


async def wanted(hands: Hands, text: str, number: int) -> Earlier:
    """The revision of that number, which alone says of what; without one the last before the newest that declared
    something; without anything, how all was that the newest change has changed. Raises OpsroomError."""
    if not text:
        return await hands.store.look(_before_newest)
    if text.isdecimal() and not number:
        return await hands.store.look(partial(_numbered, int(text)))
    return await hands.store.look(partial(_of, await hands.called(text), number))


async def _before_newest(db: Reader) -> Earlier:
    changed = await objects.newest_change(db)
    first = {key: one.revision for key, one in reversed(changed)}
    found = {key: await objects.revision_before(db, key, number) for key, number in first.items()}
    parts = {key for key, before in found.items() if before and before.owner in map(str, found)}
    whole = {key: before for key, before in found.items() if key not in parts}
    for key, before in whole.items():
        if before is None or not before.text:
            what = f"the newest change made `{key}`; nothing was there before."
            raise Invalid(what, fix=f"`!delete {key}` removes it. Name an object to take back what was done to it.")
    if not found:
        raise NotFound("nothing was changed yet", fix="`!history worker/NAME` lists what was.")
    return await _earlier(db, [(key, before) for key, before in whole.items() if before])


async def _numbered(number: int, db: Reader) -> Earlier:
    found = await objects.revision(db, number)
    if found is None:
        raise NotFound(f"there is no revision {number}", fix="`!history worker/NAME` lists those of an object.")
    return await _earlier(db, [found])


async def _of(key: Key, number: int, db: Reader) -> Earlier:
    hint = f"`!history {key}` lists them."
    if number:
        found = await objects.revision(db, number)
        if found is None or found[0] != key:
            raise NotFound(f"`{key}` has no revision {number}", fix=hint)
        return await _earlier(db, [found])
    for one in (await objects.history(db, key, HISTORY))[1:]:
        if one.text:
            return await _earlier(db, [(key, one)])
    raise NotFound(f"`{key}` has only one revision", fix=hint)


async def _earlier(db: Reader, found: Sequence[tuple[Key, Revision]]) -> Earlier:
    documents: list[Document] = []
    for key, one in found:
        if not one.text:
            what = f"revision {one.revision} of `{key}` deleted it."
            raise Invalid(what, fix=f"Use `!delete {key}` for that. `!history {key}` lists the others.")
        documents += checked(one.text.encode(), f"revision {one.revision}")
    joining = frozenset([key for document in documents for key in await _joining(db, document)])
    keys = {*(key for key, _ in found), *joining}
    newest = {key: await objects.newest(db, key) for key in keys}
    return Earlier(documents=tuple(documents), newest=newest, joining=joining)


async def _joining(db: Reader, document: Document) -> list[Key]:
    """Agents that were part of this, and that somebody has declared by themselves since. Raises Conflict for one that
    is no more what it became then: that is not this rollback's to take back."""
    whole, found = Key(document.kind, document.name), []
    for part in declaring.parts(document):
        key = Key("Worker", part.name)
        stored, left = await objects.get(db, key), await objects.left(db, key)
        if stored is None or stored.owner or left is None or left[0] != str(whole):
            continue
        [moved] = registry.parse(left[1].text.encode(), source=f"revision {left[1].revision}")
        if stored.deleting or stored.document != registry.canonical(moved):
            what = f"`{key}` was part of `{whole}` then. It is declared by itself since, and was changed after that."
            fix = f"First take back what was done to it: `!rollback {key} {left[1].revision}`"
            raise Conflict(f"{what} Nothing was changed.", fix=fix)
        found.append(key)
    return found
