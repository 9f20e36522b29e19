"""Agents as containers of a Docker Engine: no network but loopback, and the door.

Everything an agent could use to reach out is off: `network_mode` none, no capability, no new privileges, Docker's own
seccomp profile, a read-only root. The SDK blocks, so each call runs in one bounded pool of threads.
"""

import asyncio
import contextvars
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import LogConfig, Mount, Ulimit

from appservice.backends.docker_events import EventThread
from appservice.backends.inside import (
    HOME,
    HOME_BYTES,
    OPEN_FILES,
    TMP_BYTES,
    agent_user,
    check_name,
    environment,
    exit_phrase,
    prepare_folders,
)
from appservice.backends.protocol import (
    AGENT_DIR,
    GATEWAY_DIR,
    SECRETS_DIR,
    BackendEvent,
    Observed,
    Sandbox,
    State,
)
from appservice.errors import Invalid, OpsroomError, Unavailable
from appservice.health import Health

INSTALLATION_LABEL = "org.opsroom.installation"
AGENT_LABEL = "org.opsroom.agent"
HASH_LABEL = "org.opsroom.spec-hash"
OWN_IMAGES = "opsroom/"
_THREADS = 8
_TIMEOUT_S = 30
_PULL_TIMEOUT_S = 600
_DEFAULT_HOST = "unix:///var/run/docker.sock"
_START_FIX = "Start it (`systemctl start docker`, or `sudo deploy/scripts/start-docker.sh` where no init system runs)"
_STATES: Mapping[str, State] = {
    "created": "created",
    "running": "running",
    "paused": "running",
    "restarting": "running",
}
_P = ParamSpec("_P")
_T = TypeVar("_T")


class DockerBackend:
    """Runs each agent of one installation as a container named `opsroom-INSTALLATION-AGENT`.

    `command` replaces the image's own entry point.
    """

    name = "docker"
    isolation = (
        "Docker container without network, capabilities or a writable root, as a user that owns nothing else, "
        "under Docker's seccomp profile, with limits on memory, cores and processes."
    )

    def __init__(self, *, installation: str, docker_host: str = "", command: Sequence[str] | None = None) -> None:
        self._installation = installation
        self._docker_host = docker_host
        self._command = list(command) if command else None
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        self._made: docker.DockerClient | None = None

    async def healthy(self) -> Health:
        try:
            version = await self._call(lambda: self._client().version()["Version"])
        except OpsroomError as error:
            return Health(part="backend", level="fail", detail=error.problems[0].what, fix=error.problems[0].fix)
        return Health(part="backend", level="ok", detail=f"Docker Engine {version}")

    async def ensure_image(self, image: str) -> None:
        await self._call(self._ensure_image, image)

    async def observe(self, name: str) -> Observed:
        return await self._call(self._observe, check_name(name))

    async def observe_all(self) -> Mapping[str, Observed]:
        return await self._call(self._observe_all)

    async def create(self, sandbox: Sandbox) -> None:
        check_name(sandbox.name)
        await self._call(self._create, sandbox)

    async def start(self, name: str) -> None:
        await self._call(self._start, check_name(name))

    async def stop(self, name: str, *, grace_s: float = 5.0) -> None:
        await self._call(self._stop, check_name(name), grace_s)

    async def remove(self, name: str) -> None:
        await self._call(self._remove, check_name(name))

    async def logs(self, name: str, *, lines: int = 200) -> str:
        return await self._call(self._logs, check_name(name), lines)

    def events(self) -> AsyncIterator[BackendEvent]:
        label = f"{INSTALLATION_LABEL}={self._installation}"
        return EventThread(self._connect, label=label, agent_label=AGENT_LABEL).read()

    async def why_unusable(self) -> str:
        """Say in a sentence why agents cannot run here; '' when they can."""
        try:
            return await self._call(self._why_unusable)
        except OpsroomError as error:
            return str(error)

    async def close(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            await self._call(made.close)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        context = contextvars.copy_context()
        bound = partial(context.run, partial(function, *args, **kwargs))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, bound)
        except APIError as error:
            raise _api_error(error) from error
        except (DockerException, requests.RequestException) as error:
            raise _engine_away(error) from error

    def _connect(self, timeout_s: int = _TIMEOUT_S) -> docker.DockerClient:
        chosen = {"DOCKER_HOST": self._docker_host} if self._docker_host else None
        _knock(self._docker_host or os.environ.get("DOCKER_HOST") or _DEFAULT_HOST)
        return docker.DockerClient.from_env(timeout=timeout_s, max_pool_size=_THREADS, environment=chosen)

    def _client(self) -> docker.DockerClient:
        if self._made is None:
            self._made = self._connect()
        return self._made

    def _ensure_image(self, image: str) -> None:
        try:
            self._client().images.get(image)
            return
        except ImageNotFound as error:
            if image.startswith(OWN_IMAGES):  # built here: what a registry has under that name is a stranger's
                raise _image_missing(image) from error
        client = self._connect(_PULL_TIMEOUT_S)
        try:
            client.images.pull(image)
        except APIError as error:
            raise Unavailable(
                f"The image {image} is not there and cannot be pulled: {_said(error)}.",
                fix="See that its name is right, or load it on this machine with `docker pull` or `docker load`.",
            ) from error
        finally:
            client.close()

    def _title(self, name: str) -> str:
        return f"opsroom-{self._installation}-{name}"

    def _find(self, name: str) -> Any | None:
        try:
            found = self._client().containers.get(self._title(name))
        except NotFound:
            return None
        if found.labels.get(INSTALLATION_LABEL) != self._installation or found.labels.get(AGENT_LABEL) != name:
            raise Invalid(
                f"A container named {self._title(name)} exists, and it is not one of ours.",
                fix=f"Remove or rename it: `docker rename {self._title(name)} other`.",
            )
        return found

    def _observe(self, name: str) -> Observed:
        found = self._find(name)
        return Observed(name=name, state="absent") if found is None else _observed(name, found.attrs)

    def _observe_all(self) -> Mapping[str, Observed]:
        label = f"{INSTALLATION_LABEL}={self._installation}"
        found = self._client().containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return {
            name: _observed(name, container.attrs) for container in found if (name := container.labels.get(AGENT_LABEL))
        }

    def _create(self, sandbox: Sandbox) -> None:
        found = self._find(sandbox.name)
        if found is not None and found.labels.get(HASH_LABEL) == sandbox.spec_hash:
            return
        if found is not None:
            self._remove(sandbox.name)
        prepare_folders(sandbox)
        try:
            self._client().containers.create(**self._specification(sandbox))
        except ImageNotFound as error:
            raise _image_missing(sandbox.image) from error

    def _specification(self, sandbox: Sandbox) -> dict[str, Any]:
        user = agent_user()
        limits = sandbox.limits
        home = f"rw,exec,nosuid,nodev,size={HOME_BYTES},uid={user.uid},gid={user.gid},mode=0700"
        return {
            "image": sandbox.image,
            "name": self._title(sandbox.name),
            "hostname": sandbox.name,
            "labels": {
                INSTALLATION_LABEL: self._installation,
                AGENT_LABEL: sandbox.name,
                HASH_LABEL: sandbox.spec_hash,
            },
            "environment": dict(environment(sandbox)),
            "working_dir": HOME,
            "user": str(user),
            "network_mode": "none",
            "read_only": True,
            "tmpfs": {"/tmp": f"rw,noexec,nosuid,nodev,size={TMP_BYTES},mode=1777", HOME: home},  # noqa: S108
            "mounts": _door(sandbox),
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "ipc_mode": "private",
            "init": True,
            "restart_policy": {"Name": "no"},  # the reconciler decides what comes back, and counts it
            "mem_limit": limits.memory_bytes,
            "memswap_limit": limits.memory_bytes,
            "nano_cpus": int(limits.cpus * 1e9),
            "pids_limit": limits.pids,
            "ulimits": [
                Ulimit(name="nofile", soft=OPEN_FILES, hard=OPEN_FILES),
                Ulimit(name="core", soft=0, hard=0),
                Ulimit(name="fsize", soft=HOME_BYTES, hard=HOME_BYTES),
            ],
            "log_config": LogConfig(type="local", config={"max-size": "10m", "max-file": "3"}),
            **({"entrypoint": self._command} if self._command else {}),
        }

    def _start(self, name: str) -> None:
        found = self._find(name)
        if found is None:
            raise Unavailable(f"There is no container of {name} to start.", fix="It is made again in a moment.")
        found.start()

    def _stop(self, name: str, grace_s: float) -> None:
        found = self._find(name)
        if found is not None:
            with suppress(NotFound):
                found.stop(timeout=max(0, round(grace_s)))

    def _remove(self, name: str) -> None:
        found = self._find(name)
        if found is not None:
            with suppress(NotFound):
                found.remove(force=True, v=True)

    def _logs(self, name: str, lines: int) -> str:
        found = self._find(name)
        if found is None:
            return ""
        written: bytes = found.logs(stdout=True, stderr=True, tail=lines)
        return written.decode(errors="replace")

    def _why_unusable(self) -> str:
        """A container can only use the door when the engine sees this machine's folders as we do."""
        client = self._client()
        facts = client.info()
        if facts.get("OSType") != "linux" or "Docker Desktop" in str(facts.get("OperatingSystem")):
            return "This Docker Engine runs in a virtual machine: unix sockets of this machine cannot be mounted."
        if not client.api.base_url.startswith("http+docker://"):
            return "This Docker Engine is reached over the network: it cannot mount this machine's folders."
        if any("rootless" in option for option in facts.get("SecurityOptions") or ()):
            return "This Docker Engine is rootless: the agent's user would not own the folders of its door."
        return self._why_unmountable(client)

    def _why_unmountable(self, client: docker.DockerClient) -> str:
        """Ask for a mount that only works when the engine shares our files; never started, so any image will do."""
        image = next(iter(client.images.list()), None)
        if image is None:
            return ""
        with TemporaryDirectory(prefix="opsroom-mount-") as folder:
            mount = Mount(target=AGENT_DIR, source=folder, type="bind")
            try:
                client.containers.create(image, ["-"], mounts=[mount], network_mode="none").remove(force=True)
            except APIError as error:
                return str(_api_error(error))
        return ""


def _knock(host: str) -> None:
    """Fail early: the SDK leaves a socket open for each connection that is refused."""
    scheme, _, path = host.partition("://")
    if scheme != "unix":
        return
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(_TIMEOUT_S)
        try:
            one.connect(path)
        except OSError as error:
            raise DockerException(f"{type(error).__name__}: {path}") from error


def _door(sandbox: Sandbox) -> list[Mount]:
    """`Mount` of type bind, not a volume string: Docker then refuses a missing folder and does not make one as root."""
    folders: Sequence[tuple[str, Path, bool]] = (
        (GATEWAY_DIR, sandbox.gateway_dir, True),
        (AGENT_DIR, sandbox.agent_dir, False),
        (SECRETS_DIR, sandbox.secrets_dir, True),
    )
    return [
        Mount(target=target, source=str(source.resolve()), type="bind", read_only=read_only)
        for target, source, read_only in folders
    ]


def _observed(name: str, facts: Mapping[str, Any]) -> Observed:
    state = facts["State"]
    ended = state["Status"] not in _STATES
    code = state.get("ExitCode") if ended else None
    return Observed(
        name=name,
        state=_STATES.get(state["Status"], "exited"),
        id=facts["Id"][:12],
        spec_hash=facts["Config"]["Labels"].get(HASH_LABEL, ""),
        exit_code=code,
        detail=_why_ended(state, code),
        running_since="" if ended or state["Status"] == "created" else state.get("StartedAt", ""),
    )


def _why_ended(state: Mapping[str, Any], code: int | None) -> str:
    if state.get("OOMKilled"):
        return "out of memory"
    return str(state.get("Error") or "") or exit_phrase(code)


def _image_missing(image: str) -> Unavailable:
    fix = "Build it: `opsroom image build`." if image.startswith(OWN_IMAGES) else f"Get it: `docker pull {image}`."
    return Unavailable(f"The image {image} is not there.", fix=fix)


def _said(error: APIError) -> str:
    return str(error.explanation or error).strip().rstrip(".")


def _api_error(error: APIError) -> OpsroomError:
    said = _said(error)
    if "bind source path does not exist" in said:
        return Unavailable(
            f"Docker Engine does not see this machine's folders: {said}.",
            fix="Run Opsroom on the machine Docker Engine runs on, or set OPSROOM_AGENTS__BACKEND=process.",
        )
    if error.is_client_error() and error.status_code in (400, 404):
        return Invalid(f"Docker Engine refuses the container: {said}.", fix="Mend what the sentence names.")
    return Unavailable(f"Docker Engine failed: {said}.", fix="Look at its log: `journalctl -u docker`.")


def _engine_away(error: Exception) -> Unavailable:
    text = str(error)
    if "PermissionError" in text or "Permission denied" in text:
        return Unavailable(
            "This user may not use Docker Engine.", fix="Add it to the group `docker`, or run Opsroom as root."
        )
    if "too old" in text or "too new" in text:
        return Unavailable(f"Docker Engine speaks another API: {text}.", fix="Install Docker Engine 20.10 or newer.")
    if isinstance(error, requests.exceptions.Timeout):
        return Unavailable(f"Docker Engine did not answer in {_TIMEOUT_S} s.", fix="Look at its log and its disk.")
    return Unavailable("Docker Engine does not answer.", fix=f"{_START_FIX}, or use OPSROOM_AGENTS__BACKEND=process.")
