"""What a route is: one entry, from which the server, the check of what comes in, and the OpenAPI document are made."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiohttp import web

from appservice.api.problems import Malformed
from appservice.resources.kind import Kind
from appservice.resources.suggest import did_you_mean

Access = Literal["anyone", "somebody", "operator"]

JSON_BODY: Final = ("application/json",)
DOCUMENT_BODY: Final = ("application/json", "application/yaml", "application/x-yaml", "text/yaml")
PATCH_BODY: Final = ("application/merge-patch+json", "application/json")
EVENTS: Final = "text/event-stream"
TEXT: Final = "text/plain"

_DIGITS = re.compile(r"[0-9]{1,18}")
_TRUTH: Final[Mapping[str, bool]] = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """`schema` is a JSON schema of type string, integer or boolean; its `default` is what a handler gets when the
    parameter is not there."""

    name: str
    schema: Mapping[str, Any]
    text: str
    where: Literal["query", "header"] = "query"
    required: bool = False

    def read(self, given: str) -> Any:
        """Raises Malformed."""
        match self.schema["type"]:
            case "integer":
                return self._number(given)
            case "boolean":
                if given.lower() not in _TRUTH:
                    raise Malformed(f"{self.name} is true or false.", fix=f"Write {self.name}=true, or leave it out.")
                return _TRUTH[given.lower()]
        choices = self.schema.get("enum", ())
        if choices and given not in choices:
            raise Malformed(f"{self.name} has a value that is not known.", fix=f"Use one of {', '.join(choices)}.")
        if len(given) < self.schema.get("minLength", 0):
            raise Malformed(f"{self.name} is empty.", fix=f"Say it: {self.name}=...")
        if len(given) > self.schema.get("maxLength", 1_000):
            raise Malformed(f"{self.name} is too long.", fix="Shorten it.")
        return given

    def _number(self, given: str) -> int:
        least, most = self.schema["minimum"], self.schema["maximum"]
        if not _DIGITS.fullmatch(given) or not given.isascii() or not least <= int(given) <= most:
            raise Malformed(f"{self.name} is not a number that is allowed.", fix=f"Use one from {least} to {most}.")
        return int(given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that may be answered. `id` names it in the log, the audit and the history. `query` has every
    parameter of the route. `again` looks again whether it may still be answered, and raises OpsroomError when not."""

    request: web.Request
    id: str
    user: str
    operator: bool
    query: Mapping[str, Any]
    route: "Route"
    again: Callable[[], Awaitable[None]]

    @property
    def kind(self) -> Kind:
        """Of the objects that the address is about."""
        if self.route.kind is None:
            raise LookupError(f"{self.route.id} is of no kind")
        return self.route.kind

    @property
    def name(self) -> str:
        return self.request.match_info.get("name", "")

    @property
    def cause(self) -> str:
        return f"rest:{self.id}"


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`answers`: the schema's name by status, '' for no body; `also` the media types it can answer with instead of
    JSON. `body`: the schema's name of what is sent, '' for nothing; `changes`: whether it is a write, which is audited
    when it is refused, too. `event`: the schema's name of the data of server-sent events; `aliases`: what else
    it is called, for clients of HiClaw."""

    method: str
    path: str
    id: str
    summary: str
    handler: Handler
    access: Access = "operator"
    parameters: tuple[Parameter, ...] = ()
    body: str = ""
    body_types: Sequence[str] = JSON_BODY
    body_required: bool = True
    answers: Mapping[int, str] = field(default_factory=lambda: {200: ""})
    also: Sequence[str] = ()
    changes: bool = False
    kind: Kind | None = None
    event: str = ""
    aliases: Sequence[str] = ()

    def read(self, request: web.Request) -> dict[str, Any]:
        """Every parameter of a request. Raises Malformed for what is wrong or not known."""
        known = {one.name: one for one in self.parameters}
        query = [name for name, one in known.items() if one.where == "query"]
        for name in request.query:
            if name not in query:
                raise Malformed(
                    "The query has a parameter that is not known here.",
                    where=name if name.isprintable() else "",
                    fix=did_you_mean(name, query, otherwise="Known are") or "Leave it out.",
                )
            if len(request.query.getall(name)) > 1:
                raise Malformed(f"{name} is given more than once.", fix="Give it once.")
        found = {}
        for name, one in known.items():
            if one.required and name not in request.query:
                raise Malformed(f"{name} is not said.", fix=f"Add {name}=... to the query.")
            given = (request.query if one.where == "query" else request.headers).get(name)
            found[name] = one.schema.get("default") if given is None else one.read(given)
        return found
