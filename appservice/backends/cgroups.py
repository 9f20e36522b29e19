"""Limits of a local process by control groups, version 1 or 2, where root may make them."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from appservice.backends.protocol import Limits
from appservice.errors import Unavailable

_ROOT = Path("/sys/fs/cgroup")
_V1 = ("memory", "pids", "cpu")
_PERIOD_US = 100_000


class Cgroups:
    """Groups of one installation, below a folder of its own in each hierarchy."""

    def __init__(self, installation: str, root: Path = _ROOT) -> None:
        self._unified = (root / "cgroup.controllers").is_file()
        roots = [root] if self._unified else [root / controller for controller in _V1]
        self._parents = [folder / f"opsroom-{installation}" for folder in roots]

    def usable(self) -> bool:
        """Say whether limits can be set; makes the installation's own groups."""
        if os.geteuid() != 0 or not all(folder.parent.is_dir() for folder in self._parents):
            return False
        try:
            for folder in self._parents:
                self._open(folder)
        except OSError:
            return False
        return not self._unified or {"memory", "pids", "cpu"} <= self._controllers()

    def prepare(self, name: str, limits: Limits) -> list[Path]:
        """Make the agent's group with these limits. Returns the files into which its first process writes its pid."""
        try:
            for parent in self._parents:
                (parent / name).mkdir(parents=True, exist_ok=True)
            for path, value in self._values(name, limits):
                path.write_text(value)
        except OSError as error:
            raise Unavailable(
                f"The limits of {name} cannot be set: {error}.", fix="See that /sys/fs/cgroup can be written."
            ) from error
        return [parent / name / "cgroup.procs" for parent in self._parents]

    def oom_kills(self, name: str) -> int:
        """Count the processes of the agent that the kernel has ended for want of memory, ever."""
        path = self._parents[0] / name / ("memory.events" if self._unified else "memory.oom_control")
        with suppress(OSError):
            for line in path.read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
        return 0

    def remove(self, name: str) -> None:
        """Remove the agent's group. One whose last process is not reaped yet stays, empty, and is used again."""
        for parent in self._parents:
            with suppress(OSError):
                (parent / name).rmdir()

    def close(self) -> None:
        """Remove the installation's own groups when no agent is left in them."""
        for parent in self._parents:
            with suppress(OSError):
                parent.rmdir()

    def _open(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        if self._unified:
            for level in (folder.parent, folder):
                (level / "cgroup.subtree_control").write_text("+memory +pids +cpu")

    def _controllers(self) -> set[str]:
        return set((self._parents[0] / "cgroup.subtree_control").read_text().split())

    def _values(self, name: str, limits: Limits) -> Sequence[tuple[Path, str]]:
        """What to write where, in order. Swap is closed where the kernel counts it."""
        quota = str(max(1000, int(limits.cpus * _PERIOD_US)))
        memory_bytes = str(limits.memory_bytes)
        if self._unified:
            group = self._parents[0] / name
            swap = group / "memory.swap.max"
            return (
                (group / "memory.max", memory_bytes),
                *([(swap, "0")] if swap.exists() else []),
                (group / "pids.max", str(limits.pids)),
                (group / "cpu.max", f"{quota} {_PERIOD_US}"),
            )
        memory, pids, cpu = (parent / name for parent in self._parents)
        swap = memory / "memory.memsw.limit_in_bytes"  # never below the limit without swap, so opened before it moves
        counted = swap.exists()
        return (
            *([(swap, "-1")] if counted else []),
            (memory / "memory.limit_in_bytes", memory_bytes),
            *([(swap, memory_bytes)] if counted else []),
            (pids / "pids.max", str(limits.pids)),
            (cpu / "cpu.cfs_period_us", str(_PERIOD_US)),
            (cpu / "cpu.cfs_quota_us", quota),
        )
