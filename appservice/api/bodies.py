"""What is sent: read, bounded, and made into YAML where it is JSON, because one reader checks all documents."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from appservice.api.problems import Malformed, WrongType
from appservice.api.routing import Route
from appservice.resources import document
from appservice.resources.kind import Kind
from appservice.resources.metadata import WRITTEN_BY_SERVER
from appservice.resources.printing import to_yaml

LIMIT: Final = 2**20
SOURCE: Final = "the body"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A document as YAML. `version`: the resourceVersion that its author has seen, '' when they do not say."""

    data: bytes
    version: str = ""


async def received(request: web.Request, route: Route) -> tuple[bytes, str]:
    """The bytes and their media type. Raises WrongType, Malformed; aiohttp itself refuses what is too large."""
    if not request.can_read_body:
        if route.body_required:
            raise Malformed("There is no body.", fix=f"Send one of type {' or '.join(route.body_types)}.")
        return b"", ""
    if "Content-Type" not in request.headers or request.content_type not in route.body_types:
        raise WrongType("A body of this type is not read here.", fix=f"Send it as {' or '.join(route.body_types)}.")
    return await request.read(), request.content_type


def read_json(data: bytes) -> Any:
    """Raises Malformed."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_number)
        json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be stored
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, json.JSONDecodeError) else "it cannot be read"
        raise Malformed(f"The body is not JSON: {what}.", fix="Send JSON in UTF-8.") from error
    return value


def read_map(data: bytes) -> dict[str, Any]:
    """Raises Malformed."""
    value = read_json(data)
    if not isinstance(value, dict):
        raise Malformed("The body is JSON, and no object.", fix="Send an object: {...}.")
    return value


def written(data: bytes, media_type: str, kind: Kind, name: str = "") -> Written:
    """One document that was sent. In JSON, what the address says already may be left out."""
    if media_type == "application/json":
        return as_yaml(_completed(read_map(data), kind, name))
    trees = document.read(data, source=SOURCE).trees
    if len(trees) > 1:
        raise Malformed("The body has several documents.", fix="Send one here; /api/v1/apply takes several.")
    return Written(data=data, version=_version(trees[0].value) if trees else "")


def as_yaml(declared: Mapping[str, Any]) -> Written:
    kept = {key: value for key, value in declared.items() if key != "status"}
    if isinstance(metadata := kept.get("metadata"), Mapping):
        kept["metadata"] = {key: value for key, value in metadata.items() if key not in WRITTEN_BY_SERVER}
    try:
        return Written(data=to_yaml(kept).encode(), version=_version(declared))
    except RecursionError as error:
        raise Malformed(
            "The body is nested too deeply.", fix="Send a document as `opsroom schema` shows it."
        ) from error


def several(data: bytes, media_type: str) -> tuple[bytes, list[str]]:
    """Documents as YAML, and the resourceVersion of each that its author has seen: a stream of them, a JSON object, a
    list of objects, or a List."""
    if media_type != "application/json":
        return data, [_version(tree.value) for tree in document.read(data, source=SOURCE).trees]
    found = document.several(read_json(data))
    if not all(isinstance(one, dict) for one in found):
        raise Malformed("The body is JSON, and not made of objects.", fix="Send an object, or a list of objects.")
    made = [as_yaml(one) for one in found]
    return b"---\n".join(one.data for one in made), [one.version for one in made]


def _completed(declared: dict[str, Any], kind: Kind, name: str) -> dict[str, Any]:
    completed = {"apiVersion": kind.api_versions[0], "kind": kind.name, **declared}
    if name and isinstance(metadata := completed.get("metadata", {}), dict):
        completed["metadata"] = {"name": name, **metadata}
    return completed


def _version(declared: Mapping[str, Any]) -> str:
    metadata = declared.get("metadata")
    found = metadata.get("resourceVersion") if isinstance(metadata, Mapping) else None
    return str(found) if isinstance(found, str | int) else ""


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")
