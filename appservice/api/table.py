"""Every route of the REST API, once: the server, the OpenAPI document and the page in docs/ are made from this."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from aiohttp import web

from appservice.api.bodies import received
from appservice.api.following import follow_objects
from appservice.api.problems import Malformed
from appservice.api.reading import Reading, labelled, wanted
from appservice.api.routing import DOCUMENT_BODY, EVENTS, PATCH_BODY, TEXT, Call, Handler, Parameter, Route
from appservice.api.world import World
from appservice.api.writing import Writing
from appservice.resources import registry
from appservice.resources.kind import Kind

BASE: Final = "/api/v1"

_TEXT: Final = {"type": "string", "maxLength": 500, "default": ""}
_FLAG: Final = {"type": "boolean", "default": False}

DRY_RUN: Final = Parameter(
    name="dryRun",
    schema={"type": "string", "enum": ["All"], "default": ""},
    text="`All`: change nothing; answer the object as it would be, and the plan",
)
IF_MATCH: Final = Parameter(
    name="If-Match", schema=_TEXT, where="header", text="resourceVersion that was read; another one now is a conflict"
)
LABELS: Final = Parameter(name="labelSelector", schema=_TEXT, text="`app=web,tier!=test,owner`")
FIELDS: Final = Parameter(
    name="fieldSelector", schema=_TEXT, text="`status.phase=Running` or `metadata.name=alice`; also `!=`"
)
VERSION: Final = Parameter(
    name="resourceVersion", schema=_TEXT, text="of a watch: go on from here; without it everything comes first"
)
LAST_EVENT: Final = Parameter(
    name="Last-Event-ID", schema=_TEXT, where="header", text="of a watch: as resourceVersion, before it"
)
TEAM: Final = Parameter(name="team", schema=_TEXT, text="only agents of this team")
LIMIT: Final = Parameter(
    name="limit",
    schema={"type": "integer", "minimum": 1, "maximum": 500, "default": 500},
    text="how many in a page",
)
FEW: Final = Parameter(
    name="limit", schema={"type": "integer", "minimum": 1, "maximum": 200, "default": 20}, text="how many, newest first"
)
_LISTING: Final = (
    LABELS,
    FIELDS,
    LIMIT,
    Parameter(name="continue", schema=_TEXT, text="`metadata.continue` of the page before"),
    Parameter(name="watch", schema=_FLAG, text="follow what changes, as server-sent events"),
    VERSION,
    LAST_EVENT,
)


class Table:
    """The routes of one API."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._look = Reading(world)
        self._change = Writing(world)

    def routes(self) -> Iterator[Route]:
        yield from self._general()
        for kind in registry.KINDS.values():
            yield from self._of(kind)

    def _general(self) -> Iterator[Route]:
        look, change = self._look, self._change
        yield Route(
            method="GET",
            path=f"{BASE}/healthz",
            id="healthz",
            summary="whether Opsroom is alive",
            handler=look.healthz,
            access="anyone",
            answers={200: "Alive"},
            aliases=("/healthz",),
        )
        yield Route(
            method="GET",
            path=f"{BASE}/version",
            id="version",
            summary="which Opsroom this is",
            handler=look.version,
            access="somebody",
            answers={200: "Version"},
        )
        yield Route(
            method="GET",
            path=f"{BASE}/status",
            id="status",
            summary="how many objects there are and how they are",
            handler=look.status,
            answers={200: "Overview"},
        )
        yield Route(
            method="GET",
            path=f"{BASE}/explain",
            id="explain",
            summary="may this user call that agent, and which rule says so; everybody may ask about themselves",
            handler=look.explain,
            access="somebody",
            parameters=(
                Parameter(name="user", schema=_TEXT, text="Matrix id or name; default: who asks"),
                Parameter(
                    name="agent",
                    schema={"type": "string", "minLength": 1, "maxLength": 500},
                    text="name of the agent",
                    required=True,
                ),
                Parameter(name="room", schema=_TEXT, text="alias or id, or `dm`; default: any room with others"),
            ),
            answers={200: "Decision"},
        )
        yield Route(
            method="GET",
            path=f"{BASE}/audit",
            id="audit",
            summary="who was allowed what, and who was not",
            handler=look.audit,
            parameters=(
                Parameter(name="target", schema=_TEXT, text="an agent's name or an object, as `team/dev`"),
                FEW,
            ),
            answers={200: "AuditList"},
        )
        yield Route(
            method="GET",
            path=f"{BASE}/watch",
            id="watch",
            summary="follow what changes, as server-sent events: ADDED, MODIFIED, DELETED, BOOKMARK, error",
            handler=self._watch,
            parameters=(
                Parameter(name="kind", schema=_TEXT, text="`workers`; default: all"),
                LABELS,
                FIELDS,
                VERSION,
                LAST_EVENT,
            ),
            also=(EVENTS,),
            event="WatchEvent",
        )
        yield Route(
            method="POST",
            path=f"{BASE}/apply",
            id="apply",
            summary="make what one or several documents declare, all of them or none",
            handler=_with_body(change.apply),
            parameters=(
                DRY_RUN,
                Parameter(name="prune", schema=_FLAG, text="also delete what else has their label `opsroom.io/set`"),
                Parameter(name="planDigest", schema=_TEXT, text="of a dry run: 409 unless just that would happen now"),
            ),
            body="Documents",
            body_types=DOCUMENT_BODY,
            answers={200: "Applied"},
            changes=True,
        )
        yield Route(
            method="POST",
            path=f"{BASE}/command",
            id="command",
            summary="run a command of the ops room; with `Accept: text/event-stream` how far it is comes first",
            handler=_with_body(change.command),
            body="Command",
            answers={200: "Told"},
            also=(EVENTS,),
            event="CommandEvent",
            changes=True,
        )

    def _of(self, kind: Kind) -> Iterator[Route]:
        look, change, many, one, name = (
            self._look,
            self._change,
            f"{BASE}/{kind.plural}",
            f"{BASE}/{kind.plural}/{{name}}",
            kind.name,
        )
        team = (TEAM,) if name == "Worker" else ()
        found: tuple[Route, ...] = (
            Route(
                method="GET",
                path=many,
                id=f"list{name}s",
                summary=f"list {kind.plural}, or follow them",
                handler=self._list,
                parameters=(*_LISTING, *team),
                answers={200: f"{name}List"},
                also=(EVENTS,),
                event="WatchEvent",
                kind=kind,
            ),
            Route(
                method="POST",
                path=many,
                id=f"create{name}",
                summary=f"declare a new {name}",
                handler=_with_body(change.create),
                parameters=(DRY_RUN,),
                body=name,
                body_types=DOCUMENT_BODY,
                answers={200: f"Stored{name}", 201: f"Stored{name}"},
                changes=True,
                kind=kind,
            ),
            Route(
                method="GET",
                path=one,
                id=f"get{name}",
                summary=f"one {name}",
                handler=look.get,
                answers={200: f"Stored{name}"},
                kind=kind,
            ),
            Route(
                method="PUT",
                path=one,
                id=f"put{name}",
                summary=f"declare a {name} as a whole; what is left out is unset",
                handler=_with_body(change.put),
                parameters=(DRY_RUN, IF_MATCH),
                body=name,
                body_types=DOCUMENT_BODY,
                answers={200: f"Stored{name}", 201: f"Stored{name}"},
                changes=True,
                kind=kind,
            ),
            Route(
                method="PATCH",
                path=one,
                id=f"patch{name}",
                summary=f"change fields of a {name}: a JSON merge patch; null unsets",
                handler=_with_body(change.patch),
                parameters=(DRY_RUN, IF_MATCH),
                body="Patch",
                body_types=PATCH_BODY,
                answers={200: f"Stored{name}"},
                changes=True,
                kind=kind,
            ),
            Route(
                method="DELETE",
                path=one,
                id=f"delete{name}",
                summary=f"remove a {name} and all that was made for it",
                handler=change.delete,
                parameters=(
                    DRY_RUN,
                    IF_MATCH,
                    Parameter(
                        name="files",
                        schema={"type": "string", "enum": ["keep", "delete"], "default": ""},
                        text="what becomes of the files that its agents made; must be said when there are some",
                    ),
                ),
                answers={202: f"Stored{name}"},
                changes=True,
                kind=kind,
            ),
            Route(
                method="GET",
                path=f"{one}/status",
                id=f"get{name}Status",
                summary="its phase, conditions and facts",
                handler=look.get_status,
                answers={200: "Status"},
                kind=kind,
            ),
            Route(
                method="GET",
                path=f"{one}/events",
                id=f"list{name}Events",
                summary="what happened to it, newest first",
                handler=look.events,
                parameters=(FEW,),
                answers={200: "EventList"},
                kind=kind,
            ),
        )
        yield from found
        if name == "Human":
            return
        yield Route(
            method="GET",
            path=f"{one}/logs",
            id=f"get{name}Logs",
            summary="what its process wrote; with `follow` as server-sent events",
            handler=look.logs,
            parameters=(
                Parameter(
                    name="lines",
                    schema={"type": "integer", "minimum": 1, "maximum": 5000, "default": 200},
                    text="how many, from the end",
                ),
                Parameter(name="follow", schema=_FLAG, text="go on with what is written from now on"),
            ),
            also=(TEXT, EVENTS),
            event="LogEvent",
            kind=kind,
        )
        actions = [("restart", "make its sandbox anew; files stay", change.restart)]
        if name == "Worker":
            actions += [
                ("wake", "have it run: state Running, in its Team if it is of one", change.wake),
                (
                    "sleep",
                    "have it sleep until it is mentioned: state Sleeping, in its Team if it is of one",
                    change.sleep,
                ),
            ]
        for word, summary, handler in actions:
            yield Route(
                method="POST",
                path=f"{one}/{word}",
                id=f"{word}{name}",
                summary=summary,
                handler=handler,
                parameters=(DRY_RUN,) if word == "restart" else (DRY_RUN, IF_MATCH),
                aliases=(f"{one}/ensure-ready",) if word == "wake" else (),
                answers={202 if word == "restart" else 200: f"Stored{name}"},
                changes=True,
                kind=kind,
            )

    async def _list(self, call: Call) -> web.StreamResponse:
        if not call.query["watch"]:
            return await self._look.listing(call)
        return await self._follow(call, call.kind.name)

    async def _watch(self, call: Call) -> web.StreamResponse:
        word = call.query["kind"]
        kind = registry.find_kind(word) if word else None
        if word and kind is None:
            known = ", ".join(one.plural for one in registry.KINDS.values())
            raise Malformed("This kind is not known.", fix=f"Known kinds: {known}.")
        return await self._follow(call, kind.name if kind else "")

    async def _follow(self, call: Call, kind: str) -> web.StreamResponse:
        return await follow_objects(self._world, call, kind, wanted(call), labelled(call))


def _with_body(handler: Callable[[Call, tuple[bytes, str]], Awaitable[web.StreamResponse]]) -> Handler:
    async def handle(call: Call) -> web.StreamResponse:
        return await handler(call, await received(call.request, call.route))

    return handle
