"""Declared documents as the store has them, without a store."""

from collections.abc import Mapping

from appservice.policy import roster
from appservice.policy.roster import Roster
from appservice.resources import registry
from appservice.resources.document import Document
from appservice.store import declaring
from appservice.store.changes import Key
from appservice.store.objects import Declared, Stored
from tests.support.rosters import NAMES, OPERATORS


class Company:
    """What the documents of a file are, once they are accepted."""

    def __init__(self, text: str) -> None:
        documents = registry.parse(text.encode(), source="all.yaml")
        found = [declared for document in documents for declared in (_declared(document), *declaring.made_of(document))]
        self.documents = documents
        self.stored: Mapping[Key, Stored] = {Key(one.kind, one.name): _stored(one) for one in found}

    @property
    def roster(self) -> Roster:
        declared = [(one.kind, one.name, one.document["spec"]) for one in self.stored.values() if not one.owner]
        return roster.build(declared, names=NAMES, operators=frozenset(OPERATORS))


def _declared(document: Document) -> Declared:
    return Declared(
        kind=document.kind,
        name=document.name,
        api_version=document.api_version,
        document=registry.canonical(document),
        text=document.text,
    )


def _stored(declared: Declared) -> Stored:
    return Stored(
        kind=declared.kind,
        name=declared.name,
        api_version=declared.api_version,
        document=declared.document,
        text=declared.text,
        generation=1,
        restart="",
        author="@op:hs",
        cause="$e",
        created_at=0,
        changed_at=0,
        deleting=False,
        finalizers=(),
        owner=declared.owner,
        paused=False,
    )
