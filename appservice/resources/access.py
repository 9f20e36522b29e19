"""`accessEntries`: what an agent may do with the files of the bucket, beyond its usual access. Pure.

A prefix is a folder: `shared/reports/`, `shared/reports/*` and `shared/reports` mean the same, all that is in it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from appservice.resources.document import Document
from appservice.resources.kind import Spec, Text, fault
from appservice.resources.source import Fault, shown
from appservice.resources.suggest import did_you_mean

Permission = Literal["read", "write", "list", "delete"]
PERMISSIONS: Final[tuple[Permission, ...]] = ("read", "list", "write", "delete")
DEFAULT_PERMISSIONS: Final[tuple[Permission, ...]] = ("read", "list")
NAMESPACE: Final = "default"  # what `${self.namespace}` is: namespaces mean nothing here
VARIABLES: Final = ("self.name", "self.kind", "self.namespace", "self.team")
ALL_AGENTS: Final = "agents/"  # whoever may change all that is in it owns every agent

_READING: Final = frozenset(DEFAULT_PERMISSIONS)
_GATEWAY = "ai-gateway"
_BUCKETS = ("", "hiclaw-storage", "hiclaw", "opsroom")
_BUCKET_REFS = (*_BUCKETS, "workspace")
_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_PLAIN_PART = re.compile(r"[^*?$\\\x00-\x1f\x7f]+")


def _permissions(values: tuple[Permission, ...]) -> tuple[Permission, ...]:
    """In one order, each once: what means the same is the same."""
    return tuple(each for each in PERMISSIONS if each in values) or DEFAULT_PERMISSIONS


def _bucket(value: str) -> str:
    return _ours(value, _BUCKETS)


def _bucket_ref(value: str) -> str:
    return _ours(value, _BUCKET_REFS)


def _ours(value: str, names: tuple[str, ...]) -> str:
    if value not in names:
        raise fault(
            f"There is no bucket {shown(value)} for agents: all their files are in Opsroom's own.",
            "Remove the line, and name folders of that bucket in `prefixes`.",
        )
    return value


def _prefix(value: str) -> str:
    for name in _VARIABLE.findall(value):
        if name not in VARIABLES:
            fix = did_you_mean(name, VARIABLES, otherwise="Variables are")
            raise fault(f"{shown(name)} is not a variable.", fix)
    folder = value.removesuffix("/*").removesuffix("/")
    parts = _VARIABLE.sub("x", folder).split("/")
    if not all(_PLAIN_PART.fullmatch(part) and part not in (".", "..") for part in parts):
        raise fault(f"{shown(value)} is not a folder of the bucket.", "Write it like `shared/reports/`.")
    return f"{folder}/"


class Scope(Spec):
    """Folders of the bucket. `bucket` and `bucketRef` are read because files for HiClaw have them: there is one."""

    bucket: Annotated[Text, Field(max_length=200), AfterValidator(_bucket)] = ""
    bucket_ref: Annotated[Text, Field(max_length=200), AfterValidator(_bucket_ref)] = ""
    prefixes: Annotated[
        tuple[Annotated[Text, Field(max_length=500), AfterValidator(_prefix)], ...],
        Field(max_length=64),
    ]


def _scope(value: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Scope:
    """What a service that is refused calls a scope is not read."""
    if "service" not in info.data:
        return Scope(prefixes=())
    scope: Scope = read(value)
    if not scope.prefixes:
        error = fault("`prefixes` names no folder.", "Name one, such as `shared/reports/`, or remove the entry.")
        raise _located(error, "prefixes")
    if ALL_AGENTS in scope.prefixes and not _READING.issuperset(info.data.get("permissions", ())):
        error = fault(
            f"Who may write or delete in all of `{ALL_AGENTS}` has every agent in its hands.",
            "Name the agents one by one, such as `agents/ben/`, or only read and list.",
        )
        raise _located(error, "prefixes", scope.prefixes.index(ALL_AGENTS))
    return scope


def _located(error: PydanticCustomError, *place: str | int) -> ValidationError:
    return ValidationError.from_exception_data("entry", [InitErrorDetails(type=error, loc=place, input=None)])


class AccessEntry(Spec):
    """What the agent may do with some files, on top of what it may do anyway."""

    service: Literal["object-storage"]
    permissions: Annotated[tuple[Permission, ...], Field(max_length=4), AfterValidator(_permissions)] = (
        DEFAULT_PERMISSIONS
    )
    scope: Annotated[Scope, WrapValidator(_scope)]


def _for_storage(value: Any) -> Any:
    """Nothing else of an entry for the gateway is read, nor found fault with."""
    if isinstance(value, Mapping) and value.get("service") == _GATEWAY:
        error = fault("An agent's access at the gateway follows from its `model`.", "Remove this entry.")
        raise _located(error, "service")
    return value


AccessEntries = Annotated[
    tuple[Annotated[AccessEntry, BeforeValidator(_for_storage, json_schema_input_type=AccessEntry)], ...],
    Field(max_length=64),
]


def expanded(prefix: str, variables: Mapping[str, str]) -> str:
    """A prefix of an entry for one agent."""
    return _VARIABLE.sub(lambda found: variables[found[1]], prefix)


def faults(documents: Iterable[Document]) -> Iterator[Fault]:
    """A fault for each prefix that speaks of a team where there is none: it would mean another folder."""
    for document in documents:
        entries: tuple[AccessEntry, ...] = getattr(document.spec, "access_entries", ())  # of agents outside of a Team
        for index, entry in enumerate(entries):
            for place, prefix in enumerate(entry.scope.prefixes):
                if "self.team" in _VARIABLE.findall(prefix):
                    path = ("spec", "accessEntries", index, "scope", "prefixes", place)
                    what = f"{document.kind} {shown(document.name)} belongs to no team: `${{self.team}}` is nothing."
                    yield Fault(what=what, fix="Name the folder.", path=path, mark=document.tree.mark(path))
