"""Opsroom and a bare application service side by side on one Synapse, each with a room of the same kind."""

import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import quote

import yaml

from appservice.backends.door import door
from appservice.config import load
from appservice.rooms import desired
from benchmarks._ends import Arrivals, ends
from tests.support import up
from tests.support.children import free_port
from tests.support.person import Person, person
from tests.support.provider import ScriptedProvider
from tests.support.stack import worker_yaml
from tests.support.synapse import SERVER_NAME, Synapse, running_synapse

AGENT = f"@agent-asked:{SERVER_NAME}"
BARE_AGENT = f"@bare-asked:{SERVER_NAME}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    op: Person
    arrivals: Arrivals
    room: str  # of Opsroom's Worker
    bare_room: str
    pids: dict[str, int]


@asynccontextmanager
async def beside() -> AsyncIterator[Beside]:
    """A Worker whose agent was replaced by a door that only notes what arrives, and a bare room."""
    root = Path(mkdtemp(prefix="ob-"))
    async with AsyncExitStack() as exits:
        exits.callback(shutil.rmtree, root, ignore_errors=True)
        provider = await exits.enter_async_context(ScriptedProvider())
        port, bare_port = free_port(), free_port()
        running = await up.start(
            root / "w",
            *("--homeserver", f"http://127.0.0.1:{port}", "--server-name", SERVER_NAME),
            *("--operator", f"@op:{SERVER_NAME}", "--listen", f"127.0.0.1:{free_port()}"),
            *("--no-web", "--backend", "process"),
            OPENAI_API_KEY="sk-bench",
            OPENAI_BASE_URL=provider.base_url,
        )
        exits.push_async_callback(running.stop)
        await running.says("app_service_config_files")
        bare = bare_registration(root / "bare.yaml", bare_port)
        server = await exits.enter_async_context(
            running_synapse(root / "hs", root / "w" / "homeserver" / "registration.yaml", root / "bare.yaml", port=port)
        )
        account = await server.person("op", admin=True)
        op = await exits.enter_async_context(person(server.url, "op", account.password))
        info = await running.info()
        await op.until(lambda: info["ops_room"] in op.rooms, "the ops room")
        await op.ended(await op.upload(info["ops_room"], "asked.yaml", worker_yaml("asked").encode()), 150)
        room = await op.resolve(f"#opsroom-worker-asked:{SERVER_NAME}")
        socket = door(load(root / "w"), "asked").socket
        socket.rename(socket.with_name("moved"))
        arrivals = await exits.enter_async_context(ends(socket, bare_port))
        bare_room = await make_bare_room(server, bare["as_token"], op.user)
        await op.until(lambda: {room, bare_room} <= set(op.rooms), "both rooms")
        assert server.process is not None
        pids = {"control plane": info["pids"]["control_plane"], "homeserver": server.process.pid}
        yield Beside(op=op, arrivals=arrivals, room=room, bare_room=bare_room, pids=pids)


def bare_registration(path: Path, port: int) -> dict[str, Any]:
    document = {
        "id": "bare",
        "url": f"http://127.0.0.1:{port}",
        "as_token": secrets.token_hex(32),
        "hs_token": secrets.token_hex(32),
        "sender_localpart": "bare-sender",
        "rate_limited": False,
        "namespaces": {
            "users": [{"exclusive": True, "regex": f"@bare-.+:{SERVER_NAME}"}],
            "aliases": [{"exclusive": True, "regex": "#bare-.+"}],
            "rooms": [],
        },
    }
    path.write_text(yaml.safe_dump(document))
    return document


async def make_bare_room(server: Synapse, token: str, op: str) -> str:
    """As Opsroom makes a Worker's room: the same members, powers and settings."""

    async def call(method: str, path: str, body: object, user: str) -> Any:
        return await server.call(method, f"/_matrix/client/v3/{path}", body, token=token, query={"user_id": user})

    bot = f"@bare-bot:{SERVER_NAME}"
    for user in (bot, BARE_AGENT):
        register = {"type": "m.login.application_service", "username": user[1:].split(":")[0], "inhibit_login": True}
        await call("POST", "register", register, user)
    wanted = desired.DesiredRoom(
        alias="bare-worker-asked",
        name="asked",
        topic="As Opsroom's.",
        purpose="worker",
        members=frozenset({op, BARE_AGENT}),
        powers={op: 100},
    )
    body = desired.creation(wanted, server_name=SERVER_NAME, parent="", open_to="", avatar="")
    body |= {"invite": sorted(wanted.members)}
    room = str((await call("POST", "createRoom", body, bot))["room_id"])
    await call("POST", f"join/{quote(room)}", {}, BARE_AGENT)
    return room
