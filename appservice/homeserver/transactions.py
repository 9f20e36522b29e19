"""The homeserver's door: transactions are committed to the inbox before they are acknowledged.

    PUT /transactions/{id} -> token -> parse -> one unit: INSERT OR IGNORE -> 200 {} -> dispatcher

Nothing is handled inside the request. Repeats are recognised by event id: transaction numbers begin again after a
homeserver restart. Spec: Application Service API, "Pushing events".
"""

import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from appservice.homeserver import events

MAX_BODY = 16 * 2**20

Receive = Callable[[Sequence[dict[str, Any]]], Awaitable[None]]

log = logging.getLogger(__name__)


def routes(hs_token: str, receive: Receive) -> list[web.RouteDef]:
    """Routes of the application service API. `receive` commits; it raises when it cannot."""

    def checked(handler: Callable[[web.Request], Awaitable[web.Response]]) -> Any:
        async def with_token(request: web.Request) -> web.Response:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme != "Bearer" or not token:
                return _refuse(401, "M_UNAUTHORIZED", "the homeserver's token belongs in the Authorization header")
            if not hmac.compare_digest(token.encode(), hs_token.encode()):
                return _refuse(403, "M_FORBIDDEN", "this is not the hs_token of the registration")
            return await handler(request)

        return with_token

    async def transaction(request: web.Request) -> web.Response:
        try:
            body = await request.json()
            raw = body["events"]
        except (ValueError, KeyError, TypeError):
            return _refuse(400, "M_NOT_JSON", "a transaction is an object with events")
        await receive(wanted(raw if isinstance(raw, list) else []))
        return web.json_response({})

    async def ping(_request: web.Request) -> web.Response:
        return web.json_response({})

    async def unknown(_request: web.Request) -> web.Response:
        return _refuse(404, "M_NOT_FOUND", "Opsroom makes its users and rooms itself")

    base = "/_matrix/app/v1"
    return [
        web.put(f"{base}/transactions/{{txn_id}}", checked(transaction)),
        web.post(f"{base}/ping", checked(ping)),
        web.get(f"{base}/users/{{id}}", checked(unknown)),
        web.get(f"{base}/rooms/{{alias}}", checked(unknown)),
    ]


def wanted(raw: Sequence[Any]) -> list[dict[str, Any]]:
    """Events that Opsroom looks at; what is malformed is dropped here, once, with a line in the log."""
    kept = []
    for item in raw:
        event = events.parse(item) if isinstance(item, dict) else None
        if event is None:
            log.warning("event dropped", extra={"reason": "malformed"})
        elif event.type in events.TYPES:
            kept.append(_storable(item))
    return kept


def _storable(item: dict[str, Any]) -> dict[str, Any]:
    """The event with half characters (lone surrogates) replaced: no UTF-8 can hold them, and one event that cannot be
    stored would have its whole transaction come again for ever."""
    text = json.dumps(item, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return dict(json.loads(text.encode(errors="replace")))
    return item


def _refuse(status: int, code: str, error: str) -> web.Response:
    return web.json_response({"errcode": code, "error": error}, status=status)
