"""What the control plane put into the workspace about the agent itself."""

import json
from pathlib import Path

MANIFEST = ".opsroom/manifest.json"
CARD = ".opsroom/agent.json"


def managed_files(root: Path) -> frozenset[str]:
    """Paths that the control plane writes and the agent must leave alone."""
    files = read_json(root / MANIFEST).get("files", [])
    listed = [str(path) for path in files] if isinstance(files, list) else []
    return frozenset({MANIFEST, CARD, *listed})


def read_json(file: Path) -> dict[str, object]:
    """A JSON object from a file; empty when the file is missing or holds something else."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
