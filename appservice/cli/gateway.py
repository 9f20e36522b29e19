"""`opsroom gateway`: writes what Envoy needs and becomes Envoy, so that no Python stays in memory for it."""

import os
from pathlib import Path

from appservice.config import load
from appservice.gateway import envoy
from appservice.gateway.layout import EnvoyFixed

_KEPT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")


def gateway(data_dir: Path) -> int:
    """Replace this process by the gateway. Envoy inherits no setting and no key from the environment."""
    fixed = EnvoyFixed.from_settings(load(data_dir))
    envoy.prepare(fixed)
    program, *flags = envoy.command(fixed)
    os.chdir(fixed.root)
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    os.execve(program, [program, *flags], environment)  # noqa: S606 - a program of ours, no shell
