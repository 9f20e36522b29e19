"""A Docker Engine of a test's own: a second dockerd that may be killed, with all its paths in one folder."""

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest

from appservice.backends.docker import DockerBackend
from tests.support.backends import DEADLINE_S


class Engine:
    """A second dockerd, with all its paths in one folder, without networks or firewall rules."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.host = f"unix://{root}/docker.sock"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        (self._root / "docker.pid").unlink(missing_ok=True)
        settings = {
            "data-root": f"{self._root}/data",
            "exec-root": f"{self._root}/exec",
            "pidfile": f"{self._root}/docker.pid",
            "hosts": [self.host],
            "bridge": "none",
            "iptables": False,
        }
        (self._root / "daemon.json").write_text(json.dumps(settings))
        command = ("setpriv", "--pdeathsig", "KILL", "dockerd", "--config-file", f"{self._root}/daemon.json")
        with (self._root / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        end = monotonic() + DEADLINE_S
        backend = DockerBackend(installation="probe", docker_host=self.host)
        while (await backend.healthy()).level != "ok":
            assert self._process.returncode is None, (self._root / "log").read_text()[-2000:]
            assert monotonic() < end
            await asyncio.sleep(0.05)
        await backend.close()

    async def kill(self) -> None:
        """Kill it and its containerd, which would outlive it; a pid file would make the next one wait for a zombie."""
        await self._end(signal.SIGKILL)
        pid = self._root / "exec" / "containerd" / "containerd.pid"
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)
        pid.unlink(missing_ok=True)

    async def stop(self) -> None:
        """Stop it and take down what a killed one has left mounted."""
        await self._end(signal.SIGTERM)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for point in sorted((one for one in mounts if one.startswith(f"{self._root}/")), reverse=True):
            umount = await asyncio.create_subprocess_exec("umount", "--lazy", point)
            await umount.wait()

    async def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            await asyncio.wait_for(self._process.wait(), DEADLINE_S)

    async def load(self, image: str) -> None:
        """Give it an image of the machine's own engine."""
        command = f"docker save {image} | docker --host {self.host} load --quiet"
        process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 0


@asynccontextmanager
async def own_engine() -> AsyncIterator[Engine]:
    """One that is not started yet; gone at the end."""
    root = Path(tempfile.mkdtemp(prefix="oe-"))
    engine = Engine(root)
    try:
        yield engine
    finally:
        await engine.stop()
        shutil.rmtree(root)


@pytest.fixture
async def engine(backends_there: Callable[[str], None]) -> AsyncIterator[Engine]:
    backends_there("docker")
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("only root can start a Docker Engine")
    async with own_engine() as made:
        yield made
