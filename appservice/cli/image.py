"""`opsroom image build`: the container image in which agents run."""

import asyncio
from pathlib import Path

from appservice.backends.image import build_worker_image, is_current
from appservice.cli import console
from appservice.config import load


def build(data_dir: Path, *, base: str | None, if_missing: bool) -> int:
    """Build it, a line for each step on stderr, its name on stdout. `if_missing`: not when one is there that was
    built of what is installed now."""
    host = load(data_dir).agents.docker_host
    if if_missing and asyncio.run(is_current(docker_host=host)):
        return 0
    console.answer(asyncio.run(build_worker_image(base_image=base, docker_host=host, progress=console.say)))
    return 0
