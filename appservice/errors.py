"""Every error a person may read, written once, where it is made.

OpsroomError    code, problems
├─ Invalid      the input is wrong; carries every problem found
├─ NotFound     the thing asked for does not exist
├─ Conflict     the world moved: a generation or a plan is out of date
├─ Denied       a rule said no; the rule is named
├─ Unavailable  something we need does not answer; the same call may succeed later
└─ Limit        a size, quota or rate is reached
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: what, where, and how to mend it. Whole sentences, no secrets.

    `excerpt` is the line of the input it is about, with a caret below, for a code block; '' when that helps nobody.
    """

    what: str
    where: str = ""
    fix: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head} {self.fix}".rstrip()


class OpsroomError(Exception):
    """Base of all foreseen errors."""

    code = "error"

    def __init__(self, what: str, *, where: str = "", fix: str = "", problems: Sequence[Problem] = ()) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems) or (Problem(what=what, where=where, fix=fix),)
        self.what = what
        super().__init__(what)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class Invalid(OpsroomError):
    """The input is wrong. Nothing was changed."""

    code = "invalid"


class NotFound(OpsroomError):
    """The thing asked for does not exist."""

    code = "not-found"


class Conflict(OpsroomError):
    """What was asked for was computed from a state that has changed since."""

    code = "conflict"


class Denied(OpsroomError):
    """A rule said no."""

    code = "denied"


class Unavailable(OpsroomError):
    """Something Opsroom needs does not answer. The same call may succeed later."""

    code = "unavailable"


class Limit(OpsroomError):
    """A size, quota or rate is reached."""

    code = "limit"
