"""The registration: the one file that introduces the application service and its homeserver to each other."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from appservice.config import Settings
from appservice.errors import Invalid, NotFound, Problem

ID = "opsroom"
_TEXTS = ("id", "url", "as_token", "hs_token", "sender_localpart")
_HOW_TO_MEND = "Delete the file and run `opsroom up`, which writes a new one; then restart the homeserver."


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A registration as the homeserver reads it. `namespaces`: users, aliases, rooms -> list of {exclusive, regex}."""

    id: str
    url: str
    as_token: str = field(repr=False)
    hs_token: str = field(repr=False)
    sender_localpart: str
    namespaces: Mapping[str, list[dict[str, Any]]]


def registration_document(
    settings: Settings, *, url: str, as_token: str, hs_token: str, sender_localpart: str
) -> dict[str, Any]:
    """Write down what the homeserver must know of us.

    `sender_localpart` should be random: it is who speaks when a call forgets to say as whom, so such a call fails
    instead of speaking as the bot. `receive_ephemeral` is left out: our own typing notices would come back.
    """
    server = re.escape(settings.server_name)
    return {
        "id": ID,
        "url": url,
        "as_token": as_token,
        "hs_token": hs_token,
        "sender_localpart": sender_localpart,
        "rate_limited": False,
        "namespaces": {
            "users": [
                {"exclusive": True, "regex": f"@{re.escape(settings.user_prefix)}[a-z0-9._=/-]+:{server}"},
                {"exclusive": True, "regex": f"@{re.escape(settings.bot)}:{server}"},
            ],
            "aliases": [{"exclusive": True, "regex": f"#{re.escape(settings.alias_prefix)}.*:{server}"}],
            "rooms": [],
        },
    }


def load(path: Path) -> Registration:
    """Read a registration file. Raises `NotFound` without one, `Invalid` with every fault in it."""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no registration at {path}.", fix="`opsroom up` writes it.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}.", fix=_HOW_TO_MEND) from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Invalid(
            f"the file is not valid YAML: {error.problem}.", where=f"{path} {line}", fix=_HOW_TO_MEND
        ) from None
    if not isinstance(document, dict):
        raise Invalid("a registration is a map of fields.", where=str(path), fix=_HOW_TO_MEND)
    if problems := _problems(document, path):
        raise Invalid(f"{path} is not a registration", problems=problems)
    return Registration(**{name: document[name] for name in _TEXTS}, namespaces=document["namespaces"])


def _problems(document: Mapping[str, Any], path: Path) -> list[Problem]:
    problems = [
        Problem(what=f"`{name}` must be a text that is not empty.", where=str(path), fix=_HOW_TO_MEND)
        for name in _TEXTS
        if not isinstance(document.get(name), str) or not document[name]
    ]
    if not problems and document["as_token"] == document["hs_token"]:
        problems.append(Problem(what="`as_token` and `hs_token` are the same.", where=str(path), fix=_HOW_TO_MEND))
    return problems + _namespace_problems(document.get("namespaces"), path)


def _namespace_problems(namespaces: object, path: Path) -> list[Problem]:
    if not isinstance(namespaces, dict):
        return [Problem(what="`namespaces` must be a map.", where=str(path), fix=_HOW_TO_MEND)]
    problems = []
    for kind, entries in namespaces.items():
        where = f"{path} namespaces.{kind}"
        if kind not in {"users", "aliases", "rooms"} or not isinstance(entries, list):
            problems.append(Problem(what="only lists named users, aliases and rooms belong here.", where=where))
            continue
        problems += [
            Problem(what=fault, where=f"{where}[{index}]")
            for index, one in enumerate(entries)
            if (fault := _fault(one))
        ]
    return problems


def _fault(entry: object) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("regex"), str):
        return "an entry needs `exclusive` and `regex`."
    try:
        re.compile(entry["regex"])
    except re.error as error:
        return f"`regex` is not a regular expression: {error}."
    return ""
