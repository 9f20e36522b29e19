"""What a part says of itself, for `doctor`, `/readyz` and the greeting."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One checked thing. `detail` is a short phrase, `fix` a sentence that says how to mend it ('' when ok)."""

    part: str
    level: Level
    detail: str
    fix: str = ""
