"""Where the data files that ship with the program are: in a checkout, or inside the installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(*parts: str) -> Path:
    """Path of a shipped file or folder, such as `shipped("skills")`. It need not exist."""
    bundled = _PACKAGE / "_data"
    root = bundled if bundled.is_dir() else _PACKAGE.parent
    return root.joinpath(*parts)
