"""Builds the worker image: the native agent and what it needs, and nothing of the control plane.

The build itself needs no network: the wheels are fetched on this machine, with its own pip settings, for the Python
that the base image has.
"""

import asyncio
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import docker
import requests
from docker.errors import APIError, BuildError, ContainerError, DockerException, ImageNotFound

from appservice import __version__
from appservice.backends import seccomp
from appservice.errors import Invalid, Unavailable
from appservice.paths import shipped

PUBLIC_BASE = "python:3.12-slim"
DEBIAN_BASE = "opsroom/base"
_IMAGE_LABEL = "org.opsroom.image"  # on the build's leftovers too, so that they can be told from others' images
_SOURCES_LABEL = "org.opsroom.sources"
_RECIPE = ("Dockerfile", "enter.py")
_TIMEOUT_S = 900
_COMMAND_LIMIT_S = 1800.0
_OLDEST_GLIBC = 17
_FACTS = "import sys, platform; print(*sys.version_info[:2], platform.machine(), platform.libc_ver()[1] or '0.0')"
_BASE_FIX = "Name a base image that is there: `opsroom image build --base IMAGE`, any Debian with Python 3.11 or newer."

Progress = Callable[[str], None]


async def build_worker_image(*, base_image: str | None = None, docker_host: str = "", progress: Progress) -> str:
    """Build `opsroom/worker:VERSION` and return that name. `progress` gets a line for each step.

    Without `base_image`: the public Python image when it can be had, else one made of Debian's packages.
    """
    try:
        return await _build(base_image, docker_host, progress)
    except (DockerException, requests.RequestException) as error:
        raise Unavailable(f"The image cannot be built: {error}.", fix="See that Docker Engine runs here.") from error


async def is_current(*, docker_host: str = "") -> bool:
    """Say whether the image is there and was built of what is installed now."""
    try:
        return await asyncio.to_thread(_is_current, docker_host)
    except (DockerException, requests.RequestException) as error:
        raise Unavailable(f"Docker Engine does not answer: {error}.", fix="See that it runs here.") from error


def _is_current(docker_host: str) -> bool:
    client = _client(docker_host)
    try:
        image = client.images.get(f"opsroom/worker:{__version__}")
    except ImageNotFound:
        return False
    finally:
        client.close()
    return bool(image.labels.get(_SOURCES_LABEL) == sources())


def sources() -> str:
    """Return a hash of all that the image is built of, but for the base image and the packages' own versions."""
    digest = hashlib.sha256(" ".join(agent_requirements()).encode() + seccomp.program())
    files = [shipped("deploy", "images", "worker", name) for name in _RECIPE]
    agent = _agent()
    files += sorted(path for path in agent.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    for path in files:
        name = path.relative_to(agent).as_posix() if path.is_relative_to(agent) else path.name
        content = path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _client(docker_host: str) -> docker.DockerClient:
    chosen = {"DOCKER_HOST": docker_host} if docker_host else None
    return docker.DockerClient.from_env(timeout=_TIMEOUT_S, environment=chosen)


async def _build(base_image: str | None, docker_host: str, progress: Progress) -> str:
    client = await asyncio.to_thread(_client, docker_host)
    try:
        base = await _base(client, base_image, progress)
        facts = await asyncio.to_thread(_python_of, client, base)
        with TemporaryDirectory(prefix="opsroom-image-") as folder:
            context = Path(folder)
            await _fill(context, facts, progress)
            progress(f"Building on {base}")
            image = await asyncio.to_thread(_docker_build, client, context, base)
        progress(f"{image.tags[0]} is there: {image.attrs['Size'] / 1e6:.0f} MB")
        return f"opsroom/worker:{__version__}"
    finally:
        await asyncio.to_thread(client.close)


async def _base(client: docker.DockerClient, wanted: str | None, progress: Progress) -> str:
    """Return a base image that is on this machine."""
    first = wanted or PUBLIC_BASE
    why = await asyncio.to_thread(_have, client, first, progress)
    if not why:
        return first
    if wanted:
        raise Unavailable(f"The base image {wanted} cannot be had: {why}.", fix=_BASE_FIX)
    try:
        await asyncio.to_thread(client.images.get, DEBIAN_BASE)
    except ImageNotFound:
        progress(f"{PUBLIC_BASE} cannot be pulled; making {DEBIAN_BASE} of Debian's packages, about a minute")
        script = shipped("deploy", "scripts", "build-base-image.sh")
        await _run(["sh", str(script), DEBIAN_BASE], fix=_BASE_FIX)
    return DEBIAN_BASE


def _have(client: docker.DockerClient, image: str, progress: Progress) -> str:
    """Get an image, from this machine or its registry; says why not."""
    try:
        client.images.get(image)
    except ImageNotFound:
        progress(f"Pulling {image}")
        try:
            client.images.pull(image)
        except APIError as error:
            return str(error.explanation).rstrip(".")
    return ""


def _python_of(client: docker.DockerClient, base: str) -> tuple[str, str, int]:
    """Return the base image's Python version, machine and minor version of glibc 2."""
    try:
        said: bytes = client.containers.run(
            base, entrypoint=["python3", "-c", _FACTS], remove=True, network_mode="none"
        )
    except (ContainerError, APIError) as error:
        raise Invalid(f"The base image {base} has no Python that runs: {error}.", fix=_BASE_FIX) from error
    major, minor, machine, glibc = said.decode().split()
    if (int(major), int(minor)) < (3, 11):
        raise Invalid(f"The base image {base} has Python {major}.{minor}.", fix=_BASE_FIX)
    if not glibc.startswith("2."):
        raise Invalid(f"The base image {base} is not built on glibc, which the agent's packages need.", fix=_BASE_FIX)
    return f"{major}.{minor}", machine, int(glibc.split(".")[1])


async def _fill(context: Path, facts: tuple[str, str, int], progress: Progress) -> None:
    version, machine, glibc = facts
    for name in _RECIPE:
        shutil.copy(shipped("deploy", "images", "worker", name), context / name)
    (context / "filter").write_bytes(seccomp.program(machine))
    shutil.copytree(_agent(), context / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    progress(f"Fetching the agent's packages for Python {version} on {machine}")
    wheels = context / "wheels"
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(_OLDEST_GLIBC, glibc + 1)]
    await _run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(wheels)),
            *("--implementation=cp", f"--python-version={version}", *platforms, f"--platform=manylinux2014_{machine}"),
            *agent_requirements(),
        ],
        fix="See that this machine's pip reaches its package index.",
    )
    progress(f"{len(list(wheels.iterdir()))} packages")


def _agent() -> Path:
    """Return the folder of the native agent's own code."""
    found = importlib.util.find_spec("runtime")
    if found is None or not found.submodule_search_locations:
        raise Unavailable("The native agent is not installed.", fix="Install Opsroom again: `pip install opsroom`.")
    return Path(found.submodule_search_locations[0])


def agent_requirements() -> list[str]:
    """Return what the native agent needs, as the installed distribution declares it."""
    declared = (text.partition(";") for text in importlib.metadata.requires("opsroom") or ())
    return sorted(
        name.strip() for name, _, marker in declared if marker.replace("'", '"').strip() == 'extra == "agent"'
    )


def _docker_build(client: docker.DockerClient, context: Path, base: str) -> Any:
    try:
        image, _ = client.images.build(
            path=str(context),
            tag=f"opsroom/worker:{__version__}",
            buildargs={"BASE_IMAGE": base},
            labels={_SOURCES_LABEL: sources()},
            network_mode="none",
            rm=True,
            forcerm=True,
        )
    except BuildError as error:
        said = "".join(str(line.get("stream", line.get("error", ""))) for line in error.build_log)
        last = " / ".join(said.strip().splitlines()[-5:])
        raise Unavailable(f"The image cannot be built: {error.msg}. It said: {last}.", fix=_BASE_FIX) from error
    client.images.prune(filters={"dangling": True, "label": [_IMAGE_LABEL]})
    return image


async def _run(command: list[str], *, fix: str) -> None:
    """Run a program. Raises `Unavailable` with the end of what it said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    try:
        async with asyncio.timeout(_COMMAND_LIMIT_S):
            said, _ = await process.communicate()
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        last = " / ".join(said.decode(errors="replace").strip().splitlines()[-3:])
        raise Unavailable(f"{Path(command[0]).name} failed: {last}.", fix=fix)
