"""Objects as the API shows them: the shape Kubernetes gives them. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

from appservice.policy.triggers import Decision
from appservice.reconcile.plan import Step
from appservice.resources import registry
from appservice.resources.difference import NOTHING, Change
from appservice.resources.source import field_text
from appservice.store.audit import Entry
from appservice.store.changes import Key, parse
from appservice.store.objects import Stored
from appservice.store.status import SETTLED, Condition, Happening, Status, first_trouble, is_current

_OWN: Final = ("restart",)  # facts that only Opsroom reads


def shown(stored: Stored, status: Status, version: int, owner: Stored | None = None) -> dict[str, Any]:
    """One object. `owner`: what it is part of."""
    metadata: dict[str, Any] = {
        **stored.document["metadata"],
        "uid": _uid(stored),
        "generation": stored.generation,
        "resourceVersion": str(version),
        "creationTimestamp": moment(stored.created_at),
    }
    if stored.deleting:
        metadata |= {"deletionTimestamp": moment(stored.changed_at), "finalizers": list(stored.finalizers)}
    if stored.owner:
        metadata["ownerReferences"] = [_owner(parse(stored.owner), owner, stored.api_version)]
    return {
        "apiVersion": stored.api_version,
        "kind": stored.kind,
        "metadata": metadata,
        "spec": dict(stored.document["spec"]),
        "status": status_of(stored, status),
    }


def status_of(stored: Stored, status: Status) -> dict[str, Any]:
    """The facts first, so that none of them can stand in the place of what is said of every object."""
    facts = {name: fact for name, fact in status.facts.items() if name not in _OWN}
    trouble = first_trouble(status)
    return {
        **facts,
        "phase": status.phase,
        "message": trouble.message or trouble.reason if trouble else "",
        "observedGeneration": status.observed_generation,
        "paused": bool(stored.held_by),
        "conditions": [_condition(one) for one in (*status.conditions, *_ready(stored, status))],
    }


def listed(kind: str, items: Sequence[Mapping[str, Any]], version: int, *, more: str, left: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if more:
        metadata |= {"continue": more, "remainingItemCount": left}
    version_of = registry.KINDS[kind].api_versions[0]
    return {"apiVersion": version_of, "kind": f"{kind}List", "metadata": metadata, "items": list(items)}


def step(one: Step) -> dict[str, Any]:
    """One line of a plan."""
    return {
        "kind": one.key.kind,
        "name": one.key.name,
        "action": one.action,
        "note": one.note,
        "changes": [_change(change, effect) for change, effect in one.changed],
    }


def happening(one: Happening) -> dict[str, Any]:
    return {"reason": one.reason, "message": one.message, "count": one.times, "lastTimestamp": moment(one.at)}


def entry(one: Entry) -> dict[str, Any]:
    return {
        "time": moment(one.at),
        "actor": one.actor,
        "action": one.action,
        "target": one.target,
        "room": one.room_id,
        "verdict": one.verdict,
        "rule": one.rule,
        "cause": one.cause,
    }


def decision(one: Decision, *, user: str, agent: str, room: str) -> dict[str, Any]:
    return {
        "user": user,
        "agent": agent,
        "room": room,
        "allowed": one.allowed,
        "verdict": one.verdict,
        "rule": one.rule,
        "document": one.document,
        "field": field_text(one.field),
        "reason": one.reason,
    }


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ready(stored: Stored, status: Status) -> tuple[Condition, ...]:
    """The sum of the others: whether it is as it was declared last."""
    if status.condition("Ready") is not None:
        return ()
    current = is_current(stored, status)
    well = current and not stored.deleting and status.phase in SETTLED
    reason = status.phase if current else "Paused" if stored.held_by else "Updating"
    since = max((one.since for one in status.conditions), default=stored.changed_at)
    return (Condition(type="Ready", status="True" if well else "False", reason=reason, since=since),)


def _condition(one: Condition) -> dict[str, Any]:
    return {
        "type": one.type,
        "status": one.status,
        "reason": one.reason,
        "message": one.message,
        "lastTransitionTime": moment(one.since),
    }


def _change(change: Change, effect: str) -> dict[str, Any]:
    told: dict[str, Any] = {"field": field_text(change.path), "effect": effect}
    if change.before is not NOTHING:
        told["before"] = change.before
    if change.after is not NOTHING:
        told["after"] = change.after
    return told


def _owner(key: Key, owner: Stored | None, api_version: str) -> dict[str, Any]:
    told: dict[str, Any] = {"apiVersion": api_version, "kind": key.kind, "name": key.name, "controller": True}
    return told | ({"uid": _uid(owner)} if owner else {})


def _uid(stored: Stored) -> str:
    """Another one for each object that ever had this name."""
    return str(uuid5(NAMESPACE_OID, f"{stored.key} {stored.created_at}"))
