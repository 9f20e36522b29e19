"""Which backend this machine gets: Docker Engine when it answers and can mount the door, else sandboxed processes.

Docker Engine that is away is not Docker Engine that is not there: agents that it runs stay its own.
"""

from typing import TYPE_CHECKING

import structlog

from appservice import __version__
from appservice.backends.process import ProcessBackend
from appservice.backends.protocol import Backend
from appservice.config import Settings
from appservice.errors import Problem, Unavailable
from appservice.store import meta
from appservice.store.database import Database

if TYPE_CHECKING:
    from appservice.backends.docker import DockerBackend

log = structlog.get_logger()

_PROCESS_FIX = (
    "Install bubblewrap and allow user namespaces for it; inside a container, give that container "
    "`--security-opt seccomp=unconfined`."
)
_DOCKER_FIX = "Start Docker Engine on this machine, or set OPSROOM_AGENTS__BACKEND=process."


def default_image(settings: Settings) -> str:
    """Return the image of the native agent, as set or as `opsroom image build` names it."""
    return settings.agents.image or f"opsroom/worker:{__version__}"


async def choose_again(settings: Settings, store: Database) -> Backend:
    """As `choose`, and keep what was chosen for the next time."""
    before = await meta.get(store, meta.BACKEND)
    backend = await choose(settings, before=before)
    if backend.name != before:
        await store.write(lambda db: meta.put(db, meta.BACKEND, backend.name))
    return backend


async def choose(settings: Settings, *, before: str = "") -> Backend:
    """Return the backend to use. Raises `Unavailable` with every reason when none can run agents.

    `before`: the one that runs agents already, '' for none. Left to us, Docker Engine that is away stays the one: what
    needs it waits and says so.
    """
    problems: list[Problem] = []
    for name in ("docker", "process"):
        if settings.agents.backend not in ("auto", name):
            continue
        backend = _docker(settings) if name == "docker" else _process(settings)
        if name == before == "docker" and settings.agents.backend == "auto":
            health = await backend.healthy()
            if health.level == "fail":
                log.warning("agents stay with Docker Engine, which is away", problem=health.detail, fix=health.fix)
                return backend
        why = await backend.why_unusable()
        if not why:
            return backend
        await backend.close()
        problems.append(Problem(where=name, what=why, fix=_DOCKER_FIX if name == "docker" else _PROCESS_FIX))
    raise Unavailable("Agents cannot run on this machine.", problems=problems)


def _docker(settings: Settings) -> "DockerBackend":
    from appservice.backends.docker import DockerBackend  # its SDK takes 5 MB: only where it is used

    return DockerBackend(installation=settings.installation, docker_host=settings.agents.docker_host)


def _process(settings: Settings) -> ProcessBackend:
    return ProcessBackend(
        state_dir=settings.data_dir / "sandboxes", installation=settings.installation, image=default_image(settings)
    )
