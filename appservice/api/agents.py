"""What agents reach through the gateway: their storage key, the models they may use, the offline demo model.

Who asks is what Envoy read from the verified token and put into `x-opsroom-consumer`; never an argument.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from appservice.errors import OpsroomError
from appservice.gateway import demo
from appservice.storage.keys import Keys

CONSUMER = "x-opsroom-consumer"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """`prefix` of an agent's files, its `models` (none: it is no agent of ours), and the bucket they are in."""

    prefix: Callable[[str], str]
    models: Callable[[str], Awaitable[list[str] | None]]
    bucket: str
    region: str


def app(keys: Keys, facts: AgentFacts) -> web.Application:
    async def storage_key(request: web.Request) -> web.Response:
        name = request.headers.get(CONSUMER, "")
        if not name or await facts.models(name) is None:
            return _refuse(403, "no agent of that name")
        try:
            body = await request.json() if request.can_read_body else {}
            lent = await keys.lend(name, refused=str(body.get("refused", "")))
        except ValueError:
            return _refuse(400, "the body is JSON or nothing")
        except OpsroomError as error:
            return _refuse(503, str(error))
        return web.json_response(
            {
                "access_key": lent.key.key_id,
                "secret_key": lent.key.secret,
                "bucket": facts.bucket,
                "prefix": facts.prefix(name),
                "region": facts.region,
                "expires_at": lent.until,
            }
        )

    async def models(request: web.Request) -> web.Response:
        found = await facts.models(request.headers.get(CONSUMER, ""))
        if found is None:
            return _refuse(403, "no agent of that name")
        data = [{"id": model, "object": "model", "created": 0, "owned_by": "opsroom"} for model in found]
        return web.json_response({"object": "list", "data": data})

    made = web.Application()
    made.add_routes(
        [web.post("/opsroom/v1/storage-key", storage_key), web.get("/opsroom/v1/models", models), *demo.routes()]
    )
    return made


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "permission_error"}}, status=status)
