"""Human: one person, and which agents and rooms are open to them."""

import re
from collections.abc import Container, Iterable
from typing import Annotated, Final

from pydantic import AfterValidator, Field, WithJsonSchema

from appservice.resources.kind import Kind, LongText, Name, ShortText, Spec, Text, WholeNumber, fault, unique
from appservice.resources.source import shown

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_LOCALPART = re.compile(r"[a-z0-9._=/+-]+")
_LEVELS = "Use 1 (everywhere, like an administrator), 2 (the teams and workers named here) or 3 (these workers only)."


def _shown(value: str) -> str:
    if not value.strip():
        raise fault("The person has no name to show.", "Write for example `displayName: John Doe`.")
    return value


def _email(value: str) -> str:
    if value and not _EMAIL.fullmatch(value):
        raise fault(f"{shown(value)} is not an e-mail address.", "Write it as alice@example.org.")
    return value


def _level(value: int) -> int:
    if not 1 <= value <= 3:
        raise fault(f"{shown(value)} is not a permission level.", _LEVELS)
    return value


def _teams(values: tuple[str, ...]) -> tuple[str, ...]:
    unique("The team", values)
    return values


def _workers(values: tuple[str, ...]) -> tuple[str, ...]:
    unique("The worker", values)
    return values


def _localpart(value: str) -> str:
    if value and not _LOCALPART.fullmatch(value):
        raise fault(
            f"{shown(value)} is not a user's name.", "Write only the part between @ and the colon, such as telegram_1."
        )
    return value


class HumanSpec(Spec):
    """One person. The lists count only for the levels that read them; others may keep them. `username`: the account,
    when it is not called like the document: names of accounts may have more signs, as those that bridges make do."""

    display_name: Annotated[
        ShortText, AfterValidator(_shown), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 200})
    ]
    username: Annotated[Text, Field(max_length=200), AfterValidator(_localpart)] = ""
    email: Annotated[Text, Field(max_length=254), AfterValidator(_email)] = ""
    permission_level: Annotated[
        WholeNumber, AfterValidator(_level), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 3})
    ]
    accessible_teams: Annotated[tuple[Name, ...], Field(max_length=500), AfterValidator(_teams)] = ()
    accessible_workers: Annotated[tuple[Name, ...], Field(max_length=500), AfterValidator(_workers)] = ()
    note: LongText = ""


def missing(
    teams: Iterable[str], workers: Iterable[str], *, known_teams: Container[str], known_agents: Container[str]
) -> str:
    """What somebody is given access to and nobody declares, as a sentence; '' for nothing."""
    found = [f"team {name}" for name in teams if name not in known_teams]
    found += [f"worker {name}" for name in workers if name not in known_agents]
    return f"There is no {' and no '.join(found)} yet; access begins when there is." if found else ""


PENDING: Final = {"email": "No mail is sent yet."}

EFFECTS: Final = {
    "displayName": "in what Opsroom says of them; an account that is there keeps its own",
    "username": "at once, with the rooms of the one for the other",
    "permissionLevel": "at once",
    "accessibleTeams": "at once",
    "accessibleWorkers": "at once",
}

_EXAMPLE = """\
apiVersion: hiclaw.io/v1beta1
kind: Human
metadata:
  name: john
spec:
  displayName: John Doe
  permissionLevel: 2
  accessibleTeams:
    - frontend
"""

KIND: Final = Kind(
    name="Human",
    plural="humans",
    short_names=("hm",),
    api_versions=("hiclaw.io/v1beta1",),
    spec=HumanSpec,
    example=_EXAMPLE,
    pending_fields=PENDING,
    effects=EFFECTS,
)
