"""Shows the gateway's unix socket as a port on loopback, for clients that only know host and port.

Runs inside the native agent, and alone (`python -m runtime.forwarder`) beside images of other people.
"""

import asyncio
import contextlib
import logging
import signal
from pathlib import Path

from runtime import settings

MAX_CONNECTIONS = 128
CHUNK = 64 * 1024

log = logging.getLogger("runtime.forwarder")


class Forwarder:
    """Passes bytes both ways; an end of input on one side becomes an end of input on the other."""

    def __init__(self, port: int, socket: Path) -> None:
        self._port = port
        self._socket = socket
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on 127.0.0.1; raises `OSError` when the port is taken."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            log.warning("refused a connection: %d are open already", MAX_CONNECTIONS)
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            out_reader, out_writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError as error:
            log.warning("the gateway's socket does not answer: %s", error.strerror)
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, out_writer))
                both.create_task(_pump(out_reader, writer))
        except* OSError as errors:
            log.debug("a connection broke off: %s", errors.exceptions[0])
        finally:
            writer.close()
            out_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):  # the other side is gone already: nothing is left to tell it
        writer.write_eof()


async def main() -> None:
    """Forward until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO)
    chosen = settings.load()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    forwarder = Forwarder(chosen.forward_port, chosen.gateway_socket)
    await forwarder.start()
    await stop.wait()
    await forwarder.close()


if __name__ == "__main__":
    asyncio.run(main())
