"""Objects in a shell: found by name, as lists, as documents, and followed as they change."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from appservice.cli import console, terminal, typed
from appservice.cli.client import Client
from appservice.errors import NotFound
from appservice.resources.printing import to_yaml


def get(client: Client, options: argparse.Namespace) -> int:
    kinds, name = typed.kinds(options.object)
    if options.watch:
        return _watch(client, kinds, name, options)
    if name:
        found = [find(client, options.object)[1]]
    else:
        found = [item for kind in kinds for item in _listed(client, kind, options.selector)]
    match options.output:
        case "yaml":
            console.answer("---\n".join(to_yaml(item) for item in found).rstrip("\n"))
        case "json":
            many = {"apiVersion": "v1", "kind": "List", "items": found}
            console.answer(json.dumps(found[0] if name else many, indent=2, ensure_ascii=False))
        case "name":
            console.answer("\n".join(reference(item) for item in found))
        case _ if found:
            console.answer(_tables(found, wide=options.output == "wide"))
        case _:
            console.say("There is nothing of that kind yet." if not options.selector else "Nothing has these labels.")
    return 0


def _watch(client: Client, kinds: Sequence[str], name: str, options: argparse.Namespace) -> int:
    """What there is, then each change in a line, until it is interrupted."""
    if typed.is_user(options.object):
        kind, item = find(client, options.object)
        kinds, name = [kind], item["metadata"]["name"]
    query = {"kind": kinds[0] if len(kinds) == 1 else "", "labelSelector": options.selector}
    for event, data in client.follow("GET", "watch", **query, fieldSelector=f"metadata.name={name}" if name else ""):
        item = data.get("object", {})
        match options.output:
            case _ if event == "BOOKMARK":
                continue
            case "yaml":
                console.answer(f"---\n{to_yaml(item)}".rstrip("\n"))
            case "json":
                console.answer(json.dumps(data, ensure_ascii=False))
            case _ if event == "DELETED":
                console.answer(f"{reference(item)}  Deleted")
            case _:
                row = _row(item, wide=options.output == "wide")
                del row["NAME"], row["AGE"]
                console.answer("  ".join([reference(item), *(text for text in row.values() if text)]))
    return 0


def _listed(client: Client, plural: str, selector: str) -> Iterator[dict[str, Any]]:
    more = ""
    while True:
        page = client.ask("GET", plural, labelSelector=selector, **{"continue": more})
        yield from page["items"]
        more = page["metadata"].get("continue", "")
        if not more:
            return


def _tables(found: Sequence[Mapping[str, Any]], *, wide: bool) -> str:
    kinds = list(dict.fromkeys(item["kind"] for item in found))
    tables = []
    for kind in kinds:
        rows = [_row(item, wide=wide) for item in found if item["kind"] == kind]
        columns = [name for name in rows[0] if any(row[name] for row in rows)]
        made = terminal.table(columns, [[row[column] for column in columns] for row in rows])
        tables.append(f"{kind}s\n{made}" if len(kinds) > 1 else made)
    return "\n\n".join(tables)


def _row(item: Mapping[str, Any], *, wide: bool) -> dict[str, str]:
    """One object; columns that are empty in every row are left out."""
    spec, status, metadata = item["spec"], item["status"], item["metadata"]
    model = status.get("model") or spec.get("model", "")
    row = {"NAME": metadata["name"], "STATE": state(item), "MODEL": model}
    if item["kind"] == "Worker":
        row |= {"RUNTIME": spec.get("runtime", "native"), "PART OF": owner(item)}
    if item["kind"] == "Team":
        ready = f"{status.get('readyWorkers', 0)} of {status.get('totalWorkers', len(spec.get('workers', ())))} ready"
        row |= {"LEADER": spec["leader"]["name"], "WORKERS": ready}
    if item["kind"] == "Human":
        row |= {"DISPLAY NAME": spec["displayName"], "LEVEL": str(spec["permissionLevel"])}
        row["MATRIX USER"] = status.get("matrixUserID", "")
    row["AGE"] = age(metadata["creationTimestamp"])
    if wide:
        row |= {
            "MATRIX USER": status.get("matrixUserID", ""),
            "ROOM": status.get("roomID", ""),
            "SANDBOX": str(status.get("container", ""))[:12],
            "GENERATION": str(metadata["generation"]),
            "LABELS": ",".join(f"{name}={value}" for name, value in metadata.get("labels", {}).items()),
        }
    return row


def state(item: Mapping[str, Any]) -> str:
    if "deletionTimestamp" in item["metadata"]:
        return "Deleting"
    if item["status"]["paused"]:
        return "Paused"
    current = item["status"]["observedGeneration"] == item["metadata"]["generation"]
    return str(item["status"]["phase"] if current else "Updating")


def find(client: Client, text: str) -> tuple[str, dict[str, Any]]:
    """The kind in the plural, and the object that `worker/alice`, `alice` or a Matrix id means. Raises NotFound."""
    if typed.is_user(text) and (found := _of_user(client, text)) is not None:
        return found
    kinds, name = typed.named(text)
    for kind in kinds:
        try:
            return kind, client.ask("GET", _path(kind, name))
        except NotFound:
            if len(kinds) == 1:
                raise
    raise NotFound(f"there is no object called {name}.", fix="`opsroom get all` lists what there is.")


def address(client: Client, text: str) -> str:
    """Where the object is that was named. Raises NotFound."""
    kind, item = find(client, text)
    return _path(kind, item["metadata"]["name"])


def _of_user(client: Client, user: str) -> tuple[str, dict[str, Any]] | None:
    """What has this Matrix account: which prefix agents' names have there is known only to the server."""
    every = ((kind, item) for kind in typed.kinds("all")[0] for item in _listed(client, kind, ""))
    return next((found for found in every if found[1]["status"].get("matrixUserID") == user), None)


def _path(kind: str, name: str) -> str:
    return f"{kind}/{quote(name, safe='')}"


def reference(item: Mapping[str, Any]) -> str:
    return f"{item['kind'].lower()}/{item['metadata']['name']}"


def owner(item: Mapping[str, Any]) -> str:
    """What it is part of, '' for nothing."""
    return next((f"{one['kind'].lower()}/{one['name']}" for one in item["metadata"].get("ownerReferences", ())), "")


def age(moment: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for limit, unit, size in ((90, "s", 1), (90 * 60, "min", 60), (36 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{max(seconds, 0) / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
