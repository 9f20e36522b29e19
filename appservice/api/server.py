"""The REST API as an aiohttp application: who asks, may they, what do they want; any error is a problem document."""

import uuid
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import structlog
from aiohttp import web

from appservice.api import problems
from appservice.api.bodies import LIMIT
from appservice.api.identity import Identify
from appservice.api.routing import Call, Route
from appservice.api.table import BASE, Table
from appservice.api.world import World, entry, target
from appservice.errors import Denied, NotFound
from appservice.resources.names import NAME
from appservice.store import audit

log = structlog.get_logger()

_ID: ContextVar[str] = ContextVar("request")

_NOT_AN_OPERATOR = Denied(
    "Only operators may do this: people with power level 100 in the ops room.",
    fix="Ask one of them, or have them give you that power.",
)


def install(app: web.Application, world: World, identify: Identify) -> None:
    """Add the API to an application that has a door of its own."""
    table = tuple(Table(world).routes())
    app.middlewares.append(_problems)
    app.on_response_prepare.append(_headers)
    app.on_shutdown.append(world.streams.end)
    app.add_routes([web.get("/openapi.json", _openapi(table)), web.get(f"{BASE}/openapi.json", _openapi(table))])
    for route in table:
        serve = _served(route, world, identify)
        app.add_routes([web.route(route.method, path, serve) for path in (route.path, *route.aliases)])


def app(world: World, identify: Identify) -> web.Application:
    """An application of the API alone."""
    made = web.Application(client_max_size=LIMIT)
    install(made, world, identify)
    return made


def _served(route: Route, world: World, identify: Identify) -> Callable[[web.Request], Any]:
    async def serve(request: web.Request) -> web.StreamResponse:
        who = await identify(request) if route.access != "anyone" else None

        async def again() -> None:
            now = await identify(request)
            if route.access == "operator" and not now.operator:
                raise _NOT_AN_OPERATOR

        call = Call(
            request=request,
            id=_ID.get(),
            user=who.user if who else "",
            operator=who.operator if who else False,
            query=route.read(request),
            route=route,
            again=again,
        )
        if route.access == "operator" and not call.operator:
            await _denied(world, call)
        if "name" in request.match_info and not NAME.fullmatch(call.name):
            raise NotFound(
                "There is nothing of this name.", fix="Names have a-z, 0-9 and -, and 63 characters at most."
            )
        with structlog.contextvars.bound_contextvars(request=call.id, user=call.user):
            answer = await route.handler(call)
            if route.changes:
                log.info("request ended", route=route.id, name=call.name, status=answer.status)
        return answer

    return serve


async def _denied(world: World, call: Call) -> None:
    if call.route.changes:
        line = entry(call, call.route.id, target(call), "deny", audit.NO_OPERATOR)
        await world.store.write(lambda db: audit.record(db, line))
    raise _NOT_AN_OPERATOR


@web.middleware
async def _problems(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    reference = uuid.uuid4().hex[:16]
    _ID.set(reference)  # requests of a connection come one after the other
    answer: web.StreamResponse
    try:
        answer = await handler(request)
    except Exception as error:  # noqa: BLE001 - nobody gets a traceback
        found = problems.foreseen(error, reference=reference)
        answer = problems.answer(found, instance=problems.named(reference))
    return answer


async def _headers(_request: web.Request, answer: web.StreamResponse) -> None:
    answer.headers["X-Request-Id"] = _ID.get("")
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Content-Type-Options"] = "nosniff"


def _openapi(table: Sequence[Route]) -> Callable[[web.Request], Any]:
    """Made when it is asked for: few ever do, and it weighs more than all the rest."""

    async def serve(_request: web.Request) -> web.Response:
        from appservice.api.openapi import text

        return web.Response(text=text(table), content_type="application/json")

    return serve
