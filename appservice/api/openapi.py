"""The OpenAPI 3.1 document: from the routes, the models of what is declared, and those of what is answered."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from appservice import __version__
from appservice.api import problems
from appservice.api.models import MODELS
from appservice.api.routing import EVENTS, Parameter, Route
from appservice.resources import registry, schema
from appservice.resources.names import LONGEST, NAME

_BASE: Final = "#/components/schemas/"
_INTRO: Final = """\
Everything that the ops room can do. Who asks is a Matrix user, by an access token of the homeserver; who may ask is who
may give commands in the ops room. Lists and objects have the shape that Kubernetes gives them. A method that an address
does not have is 405, with those that it has in `Allow`."""

_ALWAYS: Final = (400, 429, 500, 503)


def text(routes: Sequence[Route]) -> str:
    return json.dumps(document(routes), ensure_ascii=False)


def document(routes: Sequence[Route]) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Opsroom", "version": __version__, "description": _INTRO, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "security": [{"matrix": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "matrix": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token of a Matrix account. The operator's unix socket needs none.",
                }
            },
            "headers": {
                "X-Request-Id": _header("Names the request, as the log, the history and the audit do."),
                "ETag": _header("The object's resourceVersion, in quotes: what If-Match takes."),
                "Retry-After": _header("In how many seconds it may work."),
            },
            "schemas": _schemas(),
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.id,
        "summary": f"{route.summary[0].upper()}{route.summary[1:]}",
        "tags": [route.kind.plural if route.kind else "opsroom"],
        "parameters": [*_path(route), *map(_parameter, route.parameters)],
        "responses": {str(status): answer for status, answer in sorted(_answers(route).items())},
    }
    if route.access == "anyone":
        operation["security"] = []
    if route.body:
        content = {kind: {"schema": _ref(route.body)} for kind in route.body_types}
        operation["requestBody"] = {"required": route.body_required, "content": content}
    return operation


def _path(route: Route) -> list[dict[str, Any]]:
    if "{name}" not in route.path:
        return []
    name = {"type": "string", "pattern": f"^{NAME.pattern}$", "maxLength": LONGEST}
    return [{"name": "name", "in": "path", "required": True, "schema": name}]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    kept = {key: value for key, value in parameter.schema.items() if key != "default" or value != ""}
    told = {"name": parameter.name, "in": parameter.where, "description": parameter.text, "schema": kept}
    return told | ({"required": True} if parameter.required else {})


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "required": True, "schema": {"type": "string"}}


def _headers(*more: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *more)}


def _answers(route: Route) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for status, name in route.answers.items():
        content = {"application/json": {"schema": _ref(name)}} if name else {}
        content |= {kind: {"schema": _stream(route) if kind == EVENTS else {"type": "string"}} for kind in route.also}
        headers = _headers(*(["ETag"] if name.startswith("Stored") else []))
        found[status] = {"description": HTTPStatus(status).phrase, "headers": headers, "content": content}
    for status in _problems(route):
        titles = [problems.TITLES[kind.code] for kind, of_it in problems.STATUS.items() if of_it == status]
        content = {problems.JSON: {"schema": _ref("ProblemDocument")}}
        headers = _headers(*(["Retry-After"] if status in problems.LATER else []))
        found[status] = {"description": titles[0], "headers": headers, "content": content}
    return found


def _stream(route: Route) -> dict[str, Any]:
    text = "Server-sent events. What stands after `data: ` is JSON: `x-data`, or a ProblemDocument in an `error`."
    return {"type": "string", "description": text, "x-data": _ref(route.event)}


def _problems(route: Route) -> list[int]:
    """Which errors a route may answer."""
    found = [*_ALWAYS]
    found += [401] if route.access != "anyone" else []
    found += [403] if route.access == "operator" or route.id == "explain" else []
    found += [404] if route.kind or route.id in ("explain", "apply") else []
    found += [409] if route.changes or route.id.endswith("Logs") else []
    found += [410] if EVENTS in route.also and not route.changes else []
    found += [413, 415] if route.body else []
    found += [422] if route.changes or route.id == "explain" else []
    return found


def _schemas() -> dict[str, Any]:
    """What is declared is described as a reader of it is: what is stored leaves out what has its default."""
    _, made = models_json_schema([(model, "validation") for model in MODELS], ref_template=_BASE + "{model}")
    found: dict[str, Any] = {**schema.definitions(_BASE), **made["$defs"]}
    for name in registry.KINDS:
        found[f"Stored{name}"] = _stored(name)
        found[f"{name}List"] = _object(
            apiVersion={"type": "string"},
            kind={"const": f"{name}List"},
            metadata=_ref("ListMeta"),
            items={"type": "array", "items": _ref(f"Stored{name}")},
        )
    every = [_ref(name) for name in registry.KINDS]
    found["Documents"] = {"anyOf": [*every, {"type": "array", "items": {"oneOf": every}}]}
    found["Patch"] = {"type": "object", "description": "RFC 7396: maps are merged, null unsets, all else replaces."}
    result = _object(
        kind={"type": "string"},
        name={"type": "string"},
        action={"enum": ["created", "changed", "unchanged", "deleted"]},
        object={"oneOf": [_ref(f"Stored{name}") for name in registry.KINDS]},
    )
    mark = {"type": "object", "description": "Of a BOOKMARK: a version to go on from, and a kind."}
    found["WatchEvent"] = _object(
        type={"enum": ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]},
        object={"anyOf": [*(_ref(f"Stored{name}") for name in registry.KINDS), mark]},
    )
    found["LogEvent"] = _object(_line={"type": "string"})
    progress = _object(_text={"type": "string", "description": "How far it is."})
    found["CommandEvent"] = {"anyOf": [_ref("Told"), progress]}
    found["Applied"] = _object(
        results={"type": "array", "items": result}, _plan=_steps(), _planDigest={"type": "string"}
    )
    return found


def _stored(name: str) -> dict[str, Any]:
    spec = registry.KINDS[name].spec.__name__
    return _object(
        apiVersion={"type": "string"},
        kind={"const": name},
        metadata=_ref("ObjectMeta"),
        spec=_ref(spec),
        status=_ref("Status"),
        _plan=_steps(),
    )


def _steps() -> Mapping[str, Any]:
    return {"type": "array", "items": _ref("Step"), "description": "Of a dry run: what would be done."}


def _object(**fields: Mapping[str, Any]) -> dict[str, Any]:
    """An object of exactly these fields; those with `_` may be left out."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name in fields if not name.startswith("_")],
        "properties": {name.removeprefix("_"): field for name, field in fields.items()},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _BASE + name}
