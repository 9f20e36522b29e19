"""Parts that stay away: `opsroom up`, which starts again whatever dies, is held off meanwhile."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.support import faults
from tests.support.children import runs
from tests.support.stack import KEY, Stack
from tests.support.up import OPSROOM


@contextmanager
def held_off(stack: Stack) -> Iterator[None]:
    """Until the end of the context nobody starts anything again."""
    stack.running.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        stack.running.process.send_signal(signal.SIGCONT)


async def end(pid: int) -> None:
    """kill -9, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    await faults.until(lambda: not runs(pid), "the end of a process")


@asynccontextmanager
async def away(stack: Stack, part: str) -> AsyncIterator[None]:
    """Killed, and not started again until the end of the context, which waits for the next one."""
    pid = faults.pid_of(stack, part)
    with held_off(stack):
        await end(pid)
        yield
    await faults.replaced(stack, part, pid)


@asynccontextmanager
async def another(stack: Stack, log: Path) -> AsyncIterator[Process]:
    """One more control plane on the same data directory and the same ports."""
    model = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": stack.provider.base_url}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *OPSROOM, "serve", "--data-dir", str(stack.data_dir), stderr=output, env={**os.environ, **model}
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
