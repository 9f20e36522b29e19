"""Run npm and node for a build: looked for first, in a process group of their own, with failures one can act on."""

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

from appservice.errors import Unavailable

_NODE_NEEDED = (20, 11)
_QUIT_S = 5.0
_MEND_NODE = "Install Node.js 20.11 or newer with npm, then start again."
# What a build may know of our environment: no key of ours is among it.
_PASSED_ON = {"PATH", "HOME", "USER", "LANG", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "NPM_TOKEN"}
_PASSED_ON_PREFIXES = ("NPM_CONFIG_", "NODE_", "SSL_CERT_", "XDG_")
_UNREACHABLE = (
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "ENETUNREACH",
    "ERR_SOCKET_TIMEOUT",
)


async def check_tools() -> None:
    """Raise Unavailable when node or npm is missing or too old."""
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            raise Unavailable(f"The web client cannot be built: there is no `{name}` on this machine.", fix=_MEND_NODE)
    process = await asyncio.create_subprocess_exec("node", "--version", stdout=asyncio.subprocess.PIPE)
    text = (await process.communicate())[0].decode().strip()
    if _version(text) < _NODE_NEEDED:
        raise Unavailable(f"The web client cannot be built with Node.js {text}.", fix=_MEND_NODE)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.lstrip("v").split(".")[:2] if part.isdigit())


async def run(command: tuple[str, ...], folder: Path, log: Path, *, limit_s: float) -> None:
    """Run one step with its output in the log; end its whole process group when we are cancelled or it is too slow."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=_environment(), stdout=output, stderr=output, start_new_session=True
        )
    try:
        async with asyncio.timeout(limit_s):
            status = await process.wait()
    except TimeoutError as error:
        raise Unavailable(
            f"`{command[0]}` did not finish building the web client within {limit_s:.0f} s.",
            fix=f"Read {log}, then start again.",
        ) from error
    finally:
        await _end_group(process)
    if status != 0:
        raise _failure(command[0], log)


async def _end_group(process: asyncio.subprocess.Process) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _QUIT_S)


def _environment() -> dict[str, str]:
    names = (name for name in os.environ if name.upper() in _PASSED_ON or name.upper().startswith(_PASSED_ON_PREFIXES))
    return {name: os.environ[name] for name in names}


def _failure(program: str, log: Path) -> Unavailable:
    text = log.read_text(errors="replace")
    if "ENOSPC" in text:
        return Unavailable(
            "The disk filled up while the web client was built.", fix="Free some disk space, then start again."
        )
    if any(code in text for code in _UNREACHABLE):
        return Unavailable(
            "The web client's packages could not be fetched: npm cannot reach its registry.",
            fix="Check the network and `npm config get registry`, then start again.",
        )
    said = [line.strip() for line in text.splitlines() if line.strip() and "complete log" not in line]
    last = " / ".join(said[-3:])
    return Unavailable(f"`{program}` failed to build the web client: {last}", fix=f"Read {log}, then start again.")
