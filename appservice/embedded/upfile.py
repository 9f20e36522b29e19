"""`up.json`: what a running `opsroom up` says of itself, for `info`, `doctor` and scripts."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appservice.embedded.files import held, write_private
from appservice.errors import Unavailable

UP_FILE = "up.json"
PIDS = ("control_plane", "homeserver", "gateway", "storage")


def write(data_dir: Path, facts: Mapping[str, Any], pids: Mapping[str, int]) -> None:
    """Write the facts and the process ids that are known; what we did not start has none."""
    known = {name: pids.get(name.replace("_", "-")) for name in PIDS}
    write_private(data_dir / UP_FILE, json.dumps({**facts, "pids": known}, indent=2) + "\n")


def read(data_dir: Path) -> dict[str, Any]:
    """Return what runs on this data directory. A process that has just died has no id.

    Raises `Unavailable` when nothing runs there, or it has not come up yet.
    """
    path = data_dir / UP_FILE
    if not held(data_dir):
        raise Unavailable(f"no Opsroom runs on {data_dir}.", fix="Start it with `opsroom up`.")
    if not path.exists():
        raise Unavailable(f"Opsroom is still starting on {data_dir}.", fix="Ask again in a moment.")
    facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
    facts["pids"] = {name: pid if pid and _runs(pid) else None for name, pid in facts["pids"].items()}
    return facts


def remove(data_dir: Path) -> None:
    (data_dir / UP_FILE).unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    """A zombie does not run."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/status")
        return not status.exists() or "\nState:\tZ" not in status.read_text()
    except PermissionError:
        return True
    except OSError:
        return False
