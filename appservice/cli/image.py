"""`opsroom image build`: the container image in which agents run."""

import asyncio
from pathlib import Path

from appservice.backends.docker import DockerBackend
from appservice.backends.image import build_worker_image
from appservice.cli import console
from appservice.config import load
from appservice.errors import Unavailable


def build(data_dir: Path, *, base: str | None, if_missing: bool) -> int:
    """Build it, a line for each step on stderr, its name on stdout."""
    if if_missing and asyncio.run(_is_there(data_dir)):
        return 0
    console.answer(asyncio.run(build_worker_image(base_image=base, progress=console.say)))
    return 0


async def _is_there(data_dir: Path) -> bool:
    from appservice.backends.choose import default_image

    settings = load(data_dir)
    backend = DockerBackend(installation=settings.installation, docker_host=settings.agents.docker_host)
    try:
        await backend.ensure_image(default_image(settings))
    except Unavailable:
        return False
    finally:
        await backend.close()
    return True
