"""What may be a name. Names become parts of Matrix ids, room aliases, containers, storage prefixes and host names."""

import re
import unicodedata
from typing import Final

from appservice.resources.source import may_be_secret

NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LONGEST: Final = 63
# Words that mean somebody else when a person writes `@word` in a room.
RESERVED: Final = frozenset({"admin", "all", "everyone", "here", "manager", "ops", "opsroom", "room"})


def repaired(name: str) -> str:
    """The nearest allowed name; '' when nothing of this one can be kept."""
    if NAME.fullmatch(name) and name not in RESERVED:
        return name
    plain = unicodedata.normalize("NFKD", name[: 4 * LONGEST]).encode("ascii", "ignore").decode().lower()
    kept = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:LONGEST].rstrip("-")
    return f"{kept}-agent" if kept in RESERVED else kept


def fault_in_name(name: str, *, reserved: bool = True) -> tuple[str, str] | None:
    """What is wrong with a name and how to mend it. `reserved=False` for names that nobody can mention."""
    if NAME.fullmatch(name):
        if not (reserved and name in RESERVED):
            return None
        what = f'The name "{name}" is reserved: in a room it already means somebody else.'
    elif len(name) > LONGEST:
        what = f"The name has {len(name)} characters; at most {LONGEST} are allowed."
    else:
        what = "A name has only lower-case letters a-z, digits and -, and begins and ends with a letter or digit."
    repair = "" if may_be_secret(name) else repaired(name)
    return what, f"Try `{repair}`." if repair else "Choose another name."
