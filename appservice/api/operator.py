"""What the command line asks the running control plane, on a socket that only its own user can open."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

from aiohttp import web

from appservice.api.bodies import LIMIT
from appservice.health import Health


def app(
    *,
    info: Callable[[], dict[str, Any]],
    checks: Callable[[], Awaitable[Sequence[Health]]],
    shut_down: Callable[[bool], Awaitable[Sequence[str]]],
) -> web.Application:
    """`shut_down(stop_agents)` ends all work in order, and says of which agents it could not; the process ends by its
    own signal."""

    async def get_info(_request: web.Request) -> web.Response:
        return web.json_response(info())

    async def get_doctor(_request: web.Request) -> web.Response:
        return web.json_response({"checks": [asdict(check) for check in await checks()]})

    async def post_shutdown(request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        return web.json_response({"left": list(await shut_down(body.get("agents") == "stop"))})

    made = web.Application(client_max_size=LIMIT)
    made.add_routes([web.get("/info", get_info), web.get("/doctor", get_doctor), web.post("/shutdown", post_shutdown)])
    return made
