"""`opsroom wait`: until an object is as somebody wants it."""

import argparse
from collections.abc import Mapping
from typing import Any

from appservice.cli import console, lists, typed
from appservice.cli.client import Client
from appservice.errors import Conflict, Invalid, NotFound, Unavailable


def wait(client: Client, options: argparse.Namespace) -> int:
    wanted = _wanted(options.what)
    seconds = typed.seconds(options.timeout)
    for word in options.objects:
        if not _comes(client, word, wanted, seconds):
            what = "gone" if wanted == ("delete", "", "") else options.what.partition("=")[2]
            console.complain(f"{word} is not {what} after {options.timeout}. See why: opsroom describe {word}")
            return 1
        console.answer(f"{word}: {options.what}")
    return 0


def _comes(client: Client, word: str, wanted: tuple[str, str, str], seconds: float) -> bool:
    """Whether an object becomes what is wanted of it in time. Raises Conflict when it is paused: nothing comes then."""
    start = client.ask("GET", "workers", limit=1)["metadata"]["resourceVersion"]  # of everything
    try:
        plural, item = lists.find(client, word)
    except NotFound:
        if wanted[0] == "delete":
            return True
        raise
    if _is(item, wanted):
        return True
    name = item["metadata"]["name"]
    query = {"watch": "true", "fieldSelector": f"metadata.name={name}", "resourceVersion": start}
    try:
        for event, data in client.follow("GET", plural, timeout_s=seconds, **query):
            if data.get("object", {}).get("metadata", {}).get("name") != name:
                continue
            if event == "DELETED":
                return wanted[0] == "delete"
            if event in ("ADDED", "MODIFIED") and _is(data["object"], wanted):
                return True
    except TimeoutError:
        return False
    raise Unavailable("Opsroom ended before that.", fix="Wait again.")


def _wanted(what: str) -> tuple[str, str, str]:
    """`condition=Ready`, `condition=Room=False`, `phase=Active` or `delete`, taken apart."""
    kind, _, rest = what.partition("=")
    if kind == "condition" and rest:
        name, _, status = rest.partition("=")
        return kind, name.lower(), (status or "true").lower()
    if kind == "phase" and rest:
        return kind, "", rest.lower()
    if what == "delete":
        return what, "", ""
    raise Invalid(f"nothing can be waited for as {what}.", fix="Use condition=Ready, phase=Active or delete.")


def _is(item: Mapping[str, Any], wanted: tuple[str, str, str]) -> bool:
    """Whether it fits; raises Conflict when it does not and is left as it is."""
    if _fits(item, wanted):
        return True
    if item["status"]["paused"] and wanted[0] != "delete":
        owner = lists.owner(item) or lists.reference(item)
        raise Conflict(f"{lists.reference(item)} is paused.", fix=f"`opsroom resume {owner}` goes on.")
    return False


def _fits(item: Mapping[str, Any], wanted: tuple[str, str, str]) -> bool:
    kind, name, value = wanted
    if kind == "condition":
        return any(
            (one["type"].lower(), one["status"].lower()) == (name, value) for one in item["status"]["conditions"]
        )
    return kind == "phase" and lists.state(item).lower() == value
