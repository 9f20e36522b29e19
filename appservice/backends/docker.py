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
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import Mount

from appservice.backends.docker_container import (
    AGENT_LABEL,
    HASH_LABEL,
    INSTALLATION_LABEL,
    observed,
    specification,
    title,
)
from appservice.backends.docker_errors import OWN_IMAGES, TIMEOUT_S, api_error, engine_away, image_missing, said
from appservice.backends.docker_events import EventThread
from appservice.backends.inside import (
    check_name,
    prepare_folders,
)
from appservice.backends.protocol import (
    AGENT_DIR,
    BackendEvent,
    Observed,
    Sandbox,
)
from appservice.errors import Invalid, OpsroomError, Unavailable
from appservice.health import Health

_THREADS = 8
_PULL_TIMEOUT_S = 600
_DEFAULT_HOST = "unix:///var/run/docker.sock"
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
        self._command = tuple(command or ())
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
            raise api_error(error) from error
        except (DockerException, requests.RequestException) as error:
            raise engine_away(error) from error

    def _connect(self, timeout_s: int = TIMEOUT_S) -> docker.DockerClient:
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
                raise image_missing(image) from error
        client = self._connect(_PULL_TIMEOUT_S)
        try:
            client.images.pull(image)
        except APIError as error:
            raise Unavailable(
                f"The image {image} is not there and cannot be pulled: {said(error)}.",
                fix="See that its name is right, or load it on this machine with `docker pull` or `docker load`.",
            ) from error
        finally:
            client.close()

    def _find(self, name: str) -> Any | None:
        try:
            found = self._client().containers.get(title(self._installation, name))
        except NotFound:
            return None
        if found.labels.get(INSTALLATION_LABEL) != self._installation or found.labels.get(AGENT_LABEL) != name:
            raise Invalid(
                f"A container named {title(self._installation, name)} exists, and it is not one of ours.",
                fix=f"Remove or rename it: `docker rename {title(self._installation, name)} other`.",
            )
        return found

    def _observe(self, name: str) -> Observed:
        found = self._find(name)
        return Observed(name=name, state="absent") if found is None else observed(name, found.attrs)

    def _observe_all(self) -> Mapping[str, Observed]:
        label = f"{INSTALLATION_LABEL}={self._installation}"
        found = self._client().containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return {
            name: observed(name, container.attrs) for container in found if (name := container.labels.get(AGENT_LABEL))
        }

    def _create(self, sandbox: Sandbox) -> None:
        prepare_folders(sandbox)
        found = self._find(sandbox.name)
        if found is not None and found.labels.get(HASH_LABEL) == sandbox.spec_hash:
            return
        if found is not None:
            self._remove(sandbox.name)
        try:
            self._client().containers.create(
                **specification(sandbox, installation=self._installation, command=self._command)
            )
        except ImageNotFound as error:
            raise image_missing(sandbox.image) from error

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
                return str(api_error(error))
        return ""


def _knock(host: str) -> None:
    """Fail early: the SDK leaves a socket open for each connection that is refused."""
    scheme, _, path = host.partition("://")
    if scheme != "unix":
        return
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(TIMEOUT_S)
        try:
            one.connect(path)
        except OSError as error:
            raise DockerException(f"{type(error).__name__}: {path}") from error
