"""One supervised process: started so that it cannot outlive us, probed, stopped with a deadline, logged to one file."""

import asyncio
import os
import shutil
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from appservice.errors import Unavailable

Probe = Callable[[int], Awaitable[bool]]
"""Given the child's process id: does it answer, and is it really that process that answers?"""

_PROBE_EVERY_S = 0.1
_TAIL_BYTES = 2000
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A program to keep running. `stage`: lower ones start first and stop last. `stop_s`: time between SIGTERM and
    SIGKILL. `environment` is all it gets besides PATH, HOME, language, time zone and TMPDIR. `waits_for`: given its
    process id, whose turn it is when not its own, '' else; meanwhile it need not answer."""

    name: str
    argv: tuple[str, ...]
    probe: Probe
    cwd: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stage: int = 0
    ready_s: float = 60.0
    stop_s: float = 5.0
    waits_for: Callable[[int], str] = lambda _pid: ""


class Child:
    """A running process of a component."""

    def __init__(self, component: Component, process: Process, log: Path) -> None:
        self._component = component
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def ending(self) -> str:
        """How it ended: 'exit code 3', 'SIGKILL'."""
        code = self._process.returncode
        if code is None:
            return f"no answer within {self._component.ready_s:g} s"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    async def ready(self) -> bool:
        """Wait until it answers. False: it ended, or did not answer in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._component.ready_s):
                while self.alive:
                    if await self._component.probe(self.pid) and self.alive:
                        return True
                    await asyncio.sleep(_PROBE_EVERY_S)
        return False

    async def ended(self) -> None:
        await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL to its whole process group when the time is over."""
        if not self.alive:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), self._component.stop_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """The last line it wrote, shortened."""
        with suppress(OSError), self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _TAIL_BYTES))
            lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
            return lines[-1][:300] if lines else ""
        return ""


async def spawn(component: Component, log: Path) -> Child:
    """Start it in a session of its own, so that Ctrl-C is ours to handle, and bound to our life where the system can.

    Raises `Unavailable` when the program cannot be started.
    """
    if not shutil.which(component.argv[0]):
        raise Unavailable(
            f"{component.name} cannot be started: there is no program {component.argv[0]}.",
            fix="Install Opsroom again with its extra `embedded`.",
        )
    log.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(),
            *component.argv,
            cwd=component.cwd,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | dict(component.environment),
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"{component.name} cannot be started: {error.strerror} ({component.argv[0]}).") from error
    finally:
        os.close(output)
    return Child(component, process, log)


def bound_to_us() -> tuple[str, ...]:
    """Return the prefix that has Linux kill the child when we die; it is tied to the thread that starts it."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()
