"""Which backend this machine gets: Docker Engine when it answers and can mount the door, else sandboxed processes."""

from typing import TYPE_CHECKING

from appservice import __version__
from appservice.backends.process import ProcessBackend
from appservice.backends.protocol import Backend
from appservice.config import Settings
from appservice.errors import Problem, Unavailable

if TYPE_CHECKING:
    from appservice.backends.docker import DockerBackend

_PROCESS_FIX = (
    "Install bubblewrap and allow user namespaces for it; inside a container, give that container "
    "`--security-opt seccomp=unconfined`."
)
_DOCKER_FIX = "Start Docker Engine on this machine, or set OPSROOM_AGENTS__BACKEND=process."


def default_image(settings: Settings) -> str:
    """Return the image of the native agent, as set or as `opsroom image build` names it."""
    return settings.agents.image or f"opsroom/worker:{__version__}"


async def choose(settings: Settings) -> Backend:
    """Return the backend to use. Raises `Unavailable` with every reason when none can run agents."""
    problems: list[Problem] = []
    for name in ("docker", "process"):
        if settings.agents.backend not in ("auto", name):
            continue
        backend = _docker(settings) if name == "docker" else _process(settings)
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
