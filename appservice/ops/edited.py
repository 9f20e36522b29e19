"""A file of `!edit` says in its first line which revision of which object it shows, so that it is not applied over what
somebody else has changed since."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from appservice.errors import Conflict
from appservice.resources.document import Document
from appservice.store import objects
from appservice.store.changes import Key
from appservice.store.database import Reader

_SAYS = "Opsroom refuses this file once there is a newer one; without this line it does not."
_LINE = re.compile(rf"# ([a-z]+/[a-z0-9-]+), revision (\d{{1,18}})\. {re.escape(_SAYS)}[ \t]*\n")


def told(text: str, key: Key, revision: int) -> str:
    """The text of an object as a file to edit."""
    return f"# {key}, revision {revision}. {_SAYS}\n{without(text)}"


def read(documents: Sequence[Document]) -> tuple[tuple[Document, ...], dict[Key, int]]:
    """The documents without that line, and which revisions their author has seen."""
    seen = {}
    for document in documents:
        key, found = Key(document.kind, document.name), _LINE.match(document.text)
        if found and found[1] == str(key):  # else the file was taken as a pattern for another object
            seen[key] = int(found[2])
    return tuple(replace(document, text=without(document.text)) for document in documents), seen


async def check_newest(seen: Mapping[Key, int], store: Reader) -> None:
    """Raises Conflict for an object of another revision than its author has seen."""
    for key, number in seen.items():
        if await objects.newest(store, key) != number:
            fix = f"Get it anew with `!edit {key}`, and write what you want then. `!history {key}` says what it was."
            raise Conflict(f"`{key}` has changed since you read it. Nothing was changed.", fix=fix)


def without(text: str) -> str:
    found = _LINE.match(text)
    return text[found.end() :] if found else text
