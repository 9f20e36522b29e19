"""An agent's sandbox as Docker's container, in both directions. Pure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.types import LogConfig, Mount, Ulimit

from appservice.backends.inside import (
    HOME,
    HOME_BYTES,
    OPEN_FILES,
    TMP_BYTES,
    agent_user,
    environment,
    exit_phrase,
)
from appservice.backends.protocol import AGENT_DIR, GATEWAY_DIR, SECRETS_DIR, Observed, Sandbox, State

INSTALLATION_LABEL = "org.opsroom.installation"
AGENT_LABEL = "org.opsroom.agent"
HASH_LABEL = "org.opsroom.spec-hash"
_STATES: Mapping[str, State] = {
    "created": "created",
    "running": "running",
    "paused": "running",
    "restarting": "running",
}


def title(installation: str, name: str) -> str:
    """Return the container's name."""
    return f"opsroom-{installation}-{name}"


def specification(sandbox: Sandbox, *, installation: str, command: Sequence[str]) -> dict[str, Any]:
    """Return what the SDK is to create. `command` replaces the image's own entry point."""
    user = agent_user()
    limits = sandbox.limits
    home = f"rw,exec,nosuid,nodev,size={HOME_BYTES},uid={user.uid},gid={user.gid},mode=0700"
    return {
        "image": sandbox.image,
        "name": title(installation, sandbox.name),
        "hostname": sandbox.name,
        "labels": {
            **sandbox.labels,
            INSTALLATION_LABEL: installation,
            AGENT_LABEL: sandbox.name,
            HASH_LABEL: sandbox.spec_hash,
        },
        "environment": dict(environment(sandbox)),
        "working_dir": HOME,
        "user": str(user),
        "network_mode": "none",
        "read_only": True,
        "tmpfs": {"/tmp": f"rw,noexec,nosuid,nodev,size={TMP_BYTES},mode=1777", HOME: home},  # noqa: S108
        "mounts": door(sandbox),
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
        **({"entrypoint": list(command)} if command else {}),
    }


def door(sandbox: Sandbox) -> list[Mount]:
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


def observed(name: str, facts: Mapping[str, Any]) -> Observed:
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
