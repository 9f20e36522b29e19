"""Small programs for tests of the supervisor, and looks at processes by id."""

import asyncio
import os
import random
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

SERVER = """
import http.server, sys
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def python(code: str, *args: object) -> tuple[str, ...]:
    """The command line that runs this code."""
    return (sys.executable, "-c", code, *(str(arg) for arg in args))


def free_port() -> int:
    """Below the ports that a system gives to outgoing connections: none of those takes it before it is used."""
    while True:
        port = random.randrange(10_240, 32_000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


def runs(pid: int) -> bool:
    """Does the process live? A zombie that nobody has reaped does not."""
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


async def until(condition: Callable[[], object], *, seconds: float = 20) -> None:
    """Wait until the condition holds; fail when it does not in time."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, f"not in {seconds} s"
        await asyncio.sleep(0.02)
