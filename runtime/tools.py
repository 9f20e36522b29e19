"""What the agent can do: files of its workspace and commands inside its sandbox."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic_ai import ModelRetry, RunContext

MAX_READ = 64 * 1024
MAX_WRITE = 4 * 2**20
MAX_LISTED = 500
HALF_OUTPUT = 16 * 1024  # of a long output the beginning and the end are kept
MAX_SECONDS = 300
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the tools of one turn work on. `save` stores what was changed and returns a warning or ''."""

    root: Path
    managed: frozenset[str]
    save: Callable[[], Awaitable[str]]


async def read_file(ctx: RunContext[Desk], path: str, offset: int = 0) -> str:
    """Read a text file of the workspace, at most 64 KiB from byte `offset` on."""
    target = inside(ctx.deps.root, path)
    return await asyncio.to_thread(_read, target, path, max(0, offset))


async def write_file(ctx: RunContext[Desk], path: str, content: str) -> str:
    """Write a text file of the workspace, replacing what was there; folders are made as needed."""
    target = inside(ctx.deps.root, path)
    relative = target.relative_to(ctx.deps.root.resolve()).as_posix()
    if relative in ctx.deps.managed or relative.startswith(".opsroom/"):
        raise ModelRetry(f"{relative} belongs to the operators and cannot be changed here; use another name.")
    data = content.encode()
    if len(data) > MAX_WRITE:
        raise ModelRetry("The content is larger than 4 MiB; write it in parts.")
    await asyncio.to_thread(_write, target, path, data)
    return f"Wrote {len(data)} bytes to {relative}. {await ctx.deps.save()}".rstrip()


async def list_files(ctx: RunContext[Desk], path: str = ".") -> str:
    """List the files below a folder of the workspace, one a line, with their size in bytes."""
    target = inside(ctx.deps.root, path)
    return await asyncio.to_thread(_list, ctx.deps.root.resolve(), target, path)


async def run_command(ctx: RunContext[Desk], command: str, timeout_s: int = 60) -> str:
    """Run a shell command in the workspace and return its exit code and output. There is no network but the gateway."""
    limit = min(max(1, timeout_s), MAX_SECONDS)
    output = await execute(command, ctx.deps.root, limit)
    warning = await ctx.deps.save()
    return f"{output}\n{warning}".rstrip()


def inside(root: Path, path: str) -> Path:
    """The real path, which must lie in the workspace whatever links say."""
    home = root.resolve()
    try:
        target = (home / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelRetry(f"{path!r} is not a usable path.") from error
    if not target.is_relative_to(home):
        raise ModelRetry(f"{path!r} lies outside the workspace; only files of the workspace can be used.")
    return target


async def execute(command: str, folder: Path, limit_s: float) -> str:
    """Run a shell command in a process group of its own; the group is killed at the limit and on cancellation."""
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        command,
        cwd=folder,
        env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    kept = Kept()
    reading = asyncio.create_task(_drain(process.stdout, kept))
    outcome = f"The command was stopped after {limit_s:g} seconds."
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                outcome = f"Exit code {await process.wait()}."
                await asyncio.wait({reading}, timeout=0.3)  # a child left in the background may hold the pipe open
    finally:
        _kill_group(process.pid)
        reading.cancel()
        await process.wait()
    return f"{outcome}\n{kept.text()}".rstrip()


class Kept:
    """The first and the last part of an output of any length."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0

    def add(self, data: bytes) -> None:
        room = HALF_OUTPUT - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        surplus = len(self._tail) - HALF_OUTPUT
        if surplus > 0:
            del self._tail[:surplus]
            self._left_out += surplus

    def text(self) -> str:
        gap = f"\n[... {self._left_out} bytes left out ...]\n".encode() if self._left_out else b""
        return (bytes(self._head) + gap + bytes(self._tail)).decode(errors="replace")


async def _drain(stream: asyncio.StreamReader | None, kept: Kept) -> None:
    while stream is not None and (data := await stream.read(HALF_OUTPUT)):
        kept.add(data)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # the whole group has ended by itself
        os.killpg(pid, signal.SIGKILL)


def _read(target: Path, path: str, offset: int) -> str:
    try:
        with target.open("rb") as file:
            file.seek(offset)
            data = file.read(MAX_READ + 1)
    except OSError as error:
        raise ModelRetry(f"{path} cannot be read: {error.strerror}.") from error
    text = data[:MAX_READ].decode(errors="replace")
    return text + (f"\n[more from offset {offset + MAX_READ}]" if len(data) > MAX_READ else "")


def _write(target: Path, path: str, data: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as error:
        raise ModelRetry(f"{path} cannot be written: {error.strerror}.") from error


def _list(root: Path, target: Path, path: str) -> str:
    if not target.is_dir():
        raise ModelRetry(f"{path} is not a folder.")
    lines: list[str] = []
    for folder, folders, names in os.walk(target):
        folders[:] = sorted(name for name in folders if name not in (".opsroom", "__pycache__"))
        for name in sorted(names):
            file = Path(folder, name)
            lines.append(f"{file.relative_to(root)} {file.lstat().st_size}")
            if len(lines) > MAX_LISTED:
                return "\n".join([*lines[:MAX_LISTED], "[more files; list a folder below]"])
    return "\n".join(lines) or "There are no files here."
