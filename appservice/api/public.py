"""What the homeserver and a monitoring system reach: transactions, health, metrics."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from appservice.homeserver import transactions

Numbers = Callable[[], Awaitable[dict[str, float]]]

_HELP = {
    "opsroom_inbox_open": "events acknowledged and not handled yet",
    "opsroom_outbox_pending": "events to send",
    "opsroom_outbox_dead": "events that could not be sent",
    "opsroom_journal_waiting": "accepted changes that are not in the journal room yet",
    "opsroom_turns_open": "questions to agents that have no answer yet",
    "opsroom_turns_done": "questions answered, of those that are still kept",
    "opsroom_turns_failed": "questions that ended in an error, of those that are still kept",
    "opsroom_objects": "declared objects",
    "opsroom_objects_ready": "declared objects that are as declared",
    "opsroom_reconcile_passes": "reconcile passes since the start",
    "opsroom_reconcile_failures": "reconcile passes that failed since the start",
    "opsroom_reconcile_waiting": "objects with an appointment",
    "opsroom_homeserver_reads": "calls to the homeserver that read, since the start",
    "opsroom_homeserver_writes": "calls to the homeserver that change something, since the start",
    "opsroom_gateway_calls": "model calls through the gateway",
    "opsroom_gateway_tokens_in": "tokens sent to models",
    "opsroom_gateway_tokens_out": "tokens that came from models",
}


def app(
    *, hs_token: str, receive: transactions.Receive, is_ready: Callable[[], str], numbers: Numbers
) -> web.Application:
    """`is_ready` says why work is not taken yet, '' when it is; `numbers` by metric name."""
    registry = CollectorRegistry()
    gauges = {name: Gauge(name, text, registry=registry) for name, text in _HELP.items()}

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"alive": True})  # the loop turns, or this would not be answered

    async def readyz(_request: web.Request) -> web.Response:
        why = is_ready()
        return web.json_response({"ready": not why, "reason": why}, status=503 if why else 200)

    async def metrics(_request: web.Request) -> web.Response:
        for name, value in (await numbers()).items():
            gauges[name].set(value)
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    made = web.Application(client_max_size=transactions.MAX_BODY)
    made.add_routes(transactions.routes(hs_token, receive))
    made.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return made
