"""Agents as local processes sandboxed by bubblewrap, for machines without Docker Engine.

An agent outlives the control plane: a turn goes on while that restarts, and the next one finds the agent by the files
in its state folder. Its end is noticed at once through a pidfd, which works for processes that are not our children.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from appservice.backends import bubblewrap, seccomp
from appservice.backends.cgroups import Cgroups
from appservice.backends.events import RESYNC, EventQueue
from appservice.backends.inside import agent_user, check_name, prepare_folders
from appservice.backends.process_end import ProcessEnd
from appservice.backends.process_state import ProcessState
from appservice.backends.protocol import BackendEvent, Limits, Observed, Sandbox
from appservice.errors import Invalid, Unavailable
from appservice.health import Health

_LAUNCH_S = 20.0
_KILL_S = 5.0
_LOOK_S = 0.02
_TRIM_S = 30.0
_FIXES = (
    "Install it (`apt-get install bubblewrap`) and allow user namespaces for it; inside a container, give that "
    "container `--security-opt seccomp=unconfined`. Or start Docker Engine and use it"
)
_ETC = {
    "passwd": "root:x:0:0:root:/:/usr/sbin/nologin\nagent:x:{uid}:{gid}:agent:/home/agent:/bin/sh\n",
    "group": "root:x:0:\nagent:x:{gid}:\n",
    "hosts": "127.0.0.1 localhost\n",
}


class ProcessBackend:
    """Runs each agent of one installation in a sandbox of namespaces. `state_dir` is this installation's own.

    `image` is the only one there is: the native agent, run by `python` from the packages beside it. `command`
    replaces it.
    """

    name = "process"

    def __init__(
        self,
        *,
        state_dir: Path,
        installation: str,
        image: str = "",
        python: str = sys.executable,
        command: Sequence[str] | None = None,
    ) -> None:
        self._state_dir = state_dir.resolve()
        self._image = image
        self._python = python
        self._command = command
        self._user = agent_user() if os.geteuid() == 0 else None
        groups = Cgroups(installation)
        self._cgroups = groups if groups.usable() else None
        self.isolation = _isolation(self._cgroups is not None)
        self._locks: dict[str, asyncio.Lock] = {}
        self._ends: dict[str, ProcessEnd] = {}
        self._readers: set[EventQueue] = set()

    async def healthy(self) -> Health:
        why = await self.why_unusable()
        if why:
            return Health(part="backend", level="fail", detail=why, fix=f"{_FIXES}.")
        if self._cgroups is None:
            detail = "bubblewrap; cores are not limited"
            return Health(part="backend", level="warn", detail=detail, fix="Run as root, or use Docker Engine.")
        return Health(part="backend", level="ok", detail="bubblewrap, with control groups")

    async def why_unusable(self) -> str:
        """Say in a sentence why agents cannot run here; '' when they can."""
        try:
            process = await asyncio.create_subprocess_exec(
                *bubblewrap.probe_command(self._user or agent_user()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(bubblewrap.LAUNCHER_ENVIRONMENT),
            )
        except FileNotFoundError as error:
            return f"There is no {error.filename} command."
        said, _ = await process.communicate()
        return "" if process.returncode == 0 else f"bubblewrap cannot make a sandbox: {said.decode().strip()}."

    async def ensure_image(self, image: str) -> None:
        if image != self._image:
            raise Invalid(
                f"Without Docker Engine only the native agent runs, not the image {image}.",
                fix="Remove `image` from the worker, or start Docker Engine and use it.",
            )
        if why := await self.why_unusable():
            raise Unavailable(why, fix=f"{_FIXES}.")

    async def observe(self, name: str) -> Observed:
        return await asyncio.to_thread(self._observe, check_name(name))

    async def observe_all(self) -> Mapping[str, Observed]:
        return await asyncio.to_thread(self._observe_all)

    async def create(self, sandbox: Sandbox) -> None:
        async with self._lock(check_name(sandbox.name)):
            await asyncio.to_thread(prepare_folders, sandbox)
            found = await self.observe(sandbox.name)
            if found.state != "absent" and found.spec_hash == sandbox.spec_hash:
                return
            await self._remove(sandbox.name)
            await asyncio.to_thread(self._create, sandbox)

    async def start(self, name: str) -> None:
        async with self._lock(check_name(name)):
            found = await self.observe(name)
            if found.state == "running":
                self._watch(name)
                return
            if found.state == "absent":
                raise Unavailable(f"There is no sandbox of {name} to start.", fix="It is made again in a moment.")
            await self._launch(name)
            self._tell(name, "start")
            if not self._watch(name):
                self._tell_end(name)

    async def stop(self, name: str, *, grace_s: float = 5.0) -> None:
        async with self._lock(check_name(name)):
            await self._stop(name, grace_s)

    async def remove(self, name: str) -> None:
        async with self._lock(check_name(name)):
            await self._remove(name)

    async def logs(self, name: str, *, lines: int = 200) -> str:
        return await asyncio.to_thread(self._state(check_name(name)).tail, lines)

    async def events(self) -> AsyncIterator[BackendEvent]:
        queue = EventQueue()
        self._readers.add(queue)
        try:
            queue.offer(RESYNC)
            for name, found in (await self.observe_all()).items():
                if found.state == "running":
                    self._watch(name)
            while True:
                try:  # not wait_for: in Python 3.11 it may swallow a cancellation that comes with an event
                    async with asyncio.timeout(_TRIM_S):
                        event = await queue.next()
                except TimeoutError:
                    await asyncio.to_thread(self._trim_logs)
                else:
                    yield event
        finally:
            self._readers.discard(queue)

    async def close(self) -> None:
        """Stop watching. The agents go on."""
        for end in self._ends.values():
            end.close()
        self._ends.clear()
        if self._cgroups is not None:
            await asyncio.to_thread(self._cgroups.close)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _state(self, name: str) -> ProcessState:
        return ProcessState(folder=self._state_dir / name)

    def _oom_kills(self, name: str) -> int:
        return self._cgroups.oom_kills(name) if self._cgroups else 0

    def _observe(self, name: str) -> Observed:
        return self._state(name).observed(self._oom_kills(name))

    def _observe_all(self) -> Mapping[str, Observed]:
        if not self._state_dir.is_dir():
            return {}
        found = (self._observe(folder.name) for folder in self._state_dir.iterdir() if folder.is_dir())
        return {one.name: one for one in found if one.state != "absent"}

    def _create(self, sandbox: Sandbox) -> None:
        state = self._state(sandbox.name)
        etc = state.folder / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        state.folder.chmod(0o700)
        user = self._user or agent_user()
        for name, text in _ETC.items():
            (etc / name).write_text(text.format(uid=user.uid, gid=user.gid))
        stage = self._user is not None
        what = bubblewrap.launch(
            sandbox,
            python=self._python,
            command=self._command,
            etc=etc,
            stage=stage,
            count_inside=self._cgroups is None,
        )
        (state.folder / "options").write_bytes(b"".join(part.encode() + b"\0" for part in what.options))
        (state.folder / "filter").write_bytes(seccomp.program())
        limits = sandbox.limits
        state.write_spec(
            {
                "hash": sandbox.spec_hash,
                "labels": dict(sandbox.labels),
                "limits": {"memory_bytes": limits.memory_bytes, "cpus": limits.cpus, "pids": limits.pids},
                "command": bubblewrap.launcher_command(state.folder, what, stage=stage),
                "oom_kills": 0,
            }
        )

    async def _launch(self, name: str) -> None:
        command, variables = await asyncio.to_thread(self._prepare_launch, name)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=variables,
        )
        try:  # the launcher lets go of its output once it has noted its pid
            async with asyncio.timeout(_LAUNCH_S):
                said, _ = await process.communicate()
        except TimeoutError as error:
            raise Unavailable(f"The sandbox of {name} did not start in {_LAUNCH_S:g} s.") from error
        if self._state(name).launcher() is None:
            raise Unavailable(
                f"The sandbox of {name} cannot be started: {said.decode(errors='replace').strip()}.",
                fix="Run `opsroom doctor` on this machine.",
            )

    def _prepare_launch(self, name: str) -> tuple[Sequence[str], Mapping[str, str]]:
        state = self._state(name)
        spec = state.spec()
        limits = Limits(**spec["limits"])  # type: ignore[arg-type]  # as _create wrote it
        groups = self._cgroups.prepare(name, limits) if self._cgroups else []
        prlimits = [] if groups else [f"--data={limits.memory_bytes}:{limits.memory_bytes}"]
        state.forget_run()
        state.trim_log()
        state.write_spec({**spec, "oom_kills": self._oom_kills(name)})
        variables = bubblewrap.launcher_environment(user=self._user, cgroups=groups, limits=prlimits)
        return [str(part) for part in spec["command"]], variables  # type: ignore[attr-defined]  # as _create wrote it

    async def _stop(self, name: str, grace_s: float) -> None:
        self._watch(name)
        end = self._ends.get(name)
        if end is None:
            return
        first = await self._first_process(name, end)
        if first is not None and grace_s > 0:
            with suppress(ProcessLookupError):
                os.killpg(first, signal.SIGTERM)  # pid 1 of a namespace ignores it, the agent in its group does not
            if await end.within(grace_s):
                return
        for pid in (first, end.who.pid):
            if pid is not None and end.who.alive():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                if await end.within(_KILL_S):
                    return
        if end.who.alive():
            raise Unavailable(f"The sandbox of {name} cannot be ended; its process {end.who.pid} hangs in the kernel.")

    async def _first_process(self, name: str, end: ProcessEnd) -> int | None:
        """Return the sandbox's first process, waiting for one that is only just being started."""
        for _ in range(round(_KILL_S / _LOOK_S)):
            first = self._state(name).first_process()
            if first is not None or end.done.is_set():
                return first
            await asyncio.sleep(_LOOK_S)
        return None

    async def _remove(self, name: str) -> None:
        state = self._state(name)
        if not state.folder.exists():
            return
        await self._stop(name, 0)
        await asyncio.to_thread(state.delete)
        if self._cgroups is not None:
            await asyncio.to_thread(self._cgroups.remove, name)
        self._tell(name, "destroy")

    def _trim_logs(self) -> None:
        for name in self._observe_all():
            self._state(name).trim_log()

    def _tell(self, name: str, action: str) -> None:
        for queue in self._readers:
            queue.offer(BackendEvent(name=name, action=action))

    def _watch(self, name: str) -> bool:
        """See to it that the end of a running agent is noticed; says whether it runs."""
        who = self._state(name).launcher()
        known = self._ends.get(name)
        if who is None or (known is not None and known.who == who):
            return who is not None
        if known is not None:
            known.close()
            del self._ends[name]
        try:
            handle = os.pidfd_open(who.pid)
        except ProcessLookupError:
            return False
        if not who.alive():  # the pid is another's by now
            os.close(handle)
            return False
        self._ends[name] = ProcessEnd(handle, who, lambda: self._ended(name))
        return True

    def _ended(self, name: str) -> None:
        del self._ends[name]
        self._tell_end(name)

    def _tell_end(self, name: str) -> None:
        if self._observe(name).detail == "out of memory":
            self._tell(name, "oom")
        self._tell(name, "die")


def _isolation(limited: bool) -> str:
    """Say what keeps an agent in, and what does not."""
    limits = (
        "with limits on memory, cores and processes by control groups"
        if limited
        else "with a limit on each process's memory and on the number of processes, but none on cores"
    )
    filtered = "a short list of refused" if seccomp.has_filter() else "no filter of"
    return (
        f"Local process in namespaces of its own (bubblewrap) without network or capabilities, {limits}. Weaker "
        f"than Docker: it sees this machine's /usr, and has {filtered} system calls in place of Docker's profile."
    )
