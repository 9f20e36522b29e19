"""`python -m runtime`: the native agent in its sandbox."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from runtime import settings
from runtime.settings import Settings

PUSH_S = 2.0

# httpx as a command, which httpx can do without: 6 MB of terminal colours.
sys.modules["httpx._main"] = None  # type: ignore[assignment]  # None is how Python spells "not to be had"


def listen(path: Path) -> socket.socket:
    """The agent's socket, taken over from an earlier run; open to whom its folder is open."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(path.parent.stat().st_mode & 0o666 | 0o600)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def quiet() -> None:
    """Errors to standard error; without two messages that the A2A library causes when a stream is broken off."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    for name in ("httpx", "httpcore", "a2a"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("opentelemetry.context").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(lambda record: "Task was destroyed" not in record.getMessage())


async def main(chosen: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listener = listen(chosen.agent_socket)  # before the imports: who connects now waits instead of failing

    from runtime.forwarder import Forwarder

    forwarder = Forwarder(chosen.forward_port, chosen.gateway_socket)
    await forwarder.start()

    from runtime.bucket import Bucket
    from runtime.gateway import Gateway
    from runtime.process import Brain
    from runtime.start import Startup
    from runtime.turns import Turns
    from runtime.workspace import Workspace

    gateway = Gateway(chosen.base_url, chosen.token_file)
    workspace = Workspace(chosen.workspace, Bucket(gateway))
    startup = Startup(workspace)
    loading = asyncio.create_task(startup.run())
    brain = Brain(chosen.brain_idle_s)
    turns = Turns(brain, workspace, startup.wait)

    import uvicorn

    from runtime.server import build

    config = uvicorn.Config(
        build(chosen.agent, turns, startup),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=660,  # the control plane keeps its line for 600 s
    )

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # SIGTERM is ours

    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await asyncio.wait({serving, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    loading.cancel()
    await turns.close()
    await serving
    await brain.close()
    if startup.ready:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PUSH_S):
                await workspace.push()
    await gateway.close()
    await forwarder.close()
    chosen.agent_socket.unlink(missing_ok=True)


if __name__ == "__main__":
    quiet()
    asyncio.run(main(settings.load()))
