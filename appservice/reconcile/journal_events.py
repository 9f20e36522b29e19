"""An accepted change as a state event of the journal, and back. Pure; docs/journal.md describes the content.

What is read may be anything: it comes from a room. So types, sizes and sums are checked here, and the document by
whoever declares it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from appservice.errors import Invalid
from appservice.resources import registry
from appservice.resources.document import Document
from appservice.resources.names import NAME
from appservice.resources.source import MAX_BYTES
from appservice.store.changes import Key
from appservice.store.journal import Change

VERSION = 1
LIMIT = 60 * 1024  # bytes of content; an event has at most 64 KiB with all that the homeserver adds
DELETED = "deleted"
_LARGEST = 2**53 - 1  # the largest number in a Matrix event
_LONGEST = 255
_MXC = re.compile(r"mxc://[A-Za-z0-9.:\[\]-]{1,230}/[A-Za-z0-9_~-]{1,255}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_HOW = 'Write the YAML as text under "document", or {} to delete the object.'


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A document that is too large for an event: where it is, and what its bytes must sum up to."""

    url: str
    sha256: str

    def text(self, data: bytes) -> str:
        """The document, from the bytes that were found there. Raises Invalid when they are others."""
        if sha256(data).hexdigest() != self.sha256:
            raise Invalid(
                "the file under `document_url` is not the one that `sha256` says", fix="Upload it again and write both."
            )
        return _utf8(data)


# -- a change as content ---------------------------------------------------------------------------------------------


def content(change: Change, url: str = "") -> dict[str, Any]:
    """What the event says; `url`: where the document was put, for one that does not fit."""
    said: dict[str, Any] = {
        "version": VERSION,
        "kind": change.key.kind,
        "name": change.key.name,
        "generation": change.generation,
        "revision": change.revision,
        "action": change.action,
        "author": change.author,
        "cause": change.cause,
        "at": round(change.at * 1000),  # Matrix has no fractions
    }
    if not change.text:
        return said
    if not url:
        return said | {"document": change.text}
    return said | {"document_url": url, "sha256": sha256(change.text.encode()).hexdigest()}


def fits(change: Change) -> bool:
    """Whether the document can stand in the event itself."""
    said = json.dumps(content(change), ensure_ascii=False, separators=(",", ":"))
    return len(said.encode()) <= LIMIT


def mark(said: Mapping[str, Any]) -> str:
    """A sum of all that content says, the same wherever its document is kept."""
    facts = {name: value for name, value in said.items() if name not in ("document", "document_url")}
    if isinstance(text := said.get("document"), str):
        facts["sha256"] = sha256(text.encode()).hexdigest()
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


# -- content as a change ---------------------------------------------------------------------------------------------


def key_of(state_key: str) -> Key:
    """`worker/alice` as a key. Raises Invalid."""
    word, _, name = state_key.partition("/")
    kind = registry.find_kind(word)
    if kind is None or state_key != str(Key(kind.name, name)) or not NAME.fullmatch(name):
        known = ", ".join(f"`{kind.name.lower()}/NAME`" for kind in registry.KINDS.values())
        raise Invalid("the state key names no object", fix=f"Use one of {known}.")
    return Key(kind.name, name)


def is_live(said: Mapping[str, Any]) -> bool:
    """Whether this content declares its object."""
    return "document" in said or "document_url" in said


def read(state_key: str, said: Mapping[str, Any]) -> tuple[Change, Media | None]:
    """A change that Opsroom published; with Media when its text has still to be fetched. Raises Invalid."""
    key = key_of(state_key)
    _is_known(said)
    if said.get("kind") != key.kind or said.get("name") != key.name:
        raise Invalid("`kind` and `name` are not those of the state key")
    found = _document(said)
    action = _text(said, "action")
    if (found is None) != (action == DELETED):
        raise Invalid("a deletion has no document, and everything else has one")
    change = Change(
        key=key,
        revision=_number(said, "revision", 1),
        action=action,
        generation=_number(said, "generation", 1),
        text=found if isinstance(found, str) else "",
        author=_text(said, "author"),
        cause=_text(said, "cause"),
        at=_number(said, "at", 0) / 1000,
    )
    return change, found if isinstance(found, Media) else None


def wish(said: Mapping[str, Any]) -> str | Media | None:
    """What somebody wants who wrote this by hand: a document, or None for a deletion. Raises Invalid."""
    if not said or (said.get("action") == DELETED and not is_live(said)):
        return None
    if "version" in said:
        _is_known(said)
    found = _document(said)
    if found is None:
        raise Invalid("there is no document in it", fix=_HOW)
    return found


def only(key: Key, documents: Sequence[Document]) -> Document:
    """The one document that stands under this key. Raises Invalid."""
    if len(documents) != 1:
        raise Invalid(f"`{key}` has {len(documents)} documents in it; one is allowed", fix="Write one under each key.")
    [document] = documents
    if (document.kind, document.name) != key:
        what = f"`{key}` declares `{Key(document.kind, document.name)}`"
        raise Invalid(what, fix="Let `kind` and `metadata.name` be those of the state key.")
    return document


def _is_known(said: Mapping[str, Any]) -> None:
    version = said.get("version")
    if version != VERSION or isinstance(version, bool):
        raise Invalid(f"`version` is not {VERSION}, which is all that this program reads")


def _document(said: Mapping[str, Any]) -> str | Media | None:
    if "document_url" in said:
        url, digest = said["document_url"], said.get("sha256")
        if "document" in said:
            raise Invalid("there are both a `document` and a `document_url`", fix="Write one of them.")
        if not isinstance(url, str) or not _MXC.fullmatch(url):
            raise Invalid("`document_url` is no mxc:// address", fix="Upload the YAML, and write its address there.")
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise Invalid("`sha256` is not the sum of a file", fix="Write the SHA-256 of the YAML in 64 hex digits.")
        return Media(url=url, sha256=digest)
    if "document" not in said:
        return None
    text = said["document"]
    if not isinstance(text, str) or not text.strip():
        raise Invalid("`document` is no text", fix=_HOW)
    return text


def _utf8(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise Invalid(f"the document is larger than {MAX_BYTES // 2**20} MiB", fix="Split it.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Invalid("the document is not UTF-8", fix="Save it as UTF-8.") from error


def _number(said: Mapping[str, Any], name: str, least: int) -> int:
    value = said.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _LARGEST:
        raise Invalid(f"`{name}` is no whole number")
    return value


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise Invalid(f"`{name}` is no text of {_LONGEST} characters at most")
    return value
