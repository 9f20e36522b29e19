"""Names of files in a workspace: relative, plain, and the few that have a meaning. Pure."""

from pathlib import PurePosixPath

from appservice.errors import Invalid

CARD = ".opsroom/agent.json"
MANIFEST = ".opsroom/manifest.json"
SKILL_FILE = "SKILL.md"


SHARED = "shared/"  # read by all agents, written by Managers
MANAGERS = "manager/"  # of Managers


def team_prefix(team: str) -> str:
    """Where a team's common files are in the bucket."""
    return f"teams/{team}/"


def prefix(agent: str) -> str:
    """Where an agent's files are in the bucket."""
    return f"agents/{agent}/"


def is_plain(path: str) -> bool:
    """Whether the path stays below its folder and is written in only one way."""
    parts = PurePosixPath(path).parts
    return bool(parts) and path == "/".join(parts) and ".." not in parts and path.isprintable() and "\\" not in path


def plain(path: str) -> str:
    """Give the path back. Raises Invalid if it could point outside the workspace."""
    if not is_plain(path):
        raise Invalid(f"{path!r} cannot be a file of a workspace", fix="Write it like `skills/notes/SKILL.md`.")
    return path
