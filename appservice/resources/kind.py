"""What every kind is made of: the base of its model, its entry in the registry, and the types its fields share."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from appservice.resources.names import LONGEST, NAME, RESERVED, fault_in_name
from appservice.resources.source import shown

FAULT: Final = "opsroom"  # type of the errors that our own checks raise

_DURATION = re.compile(r"(?=.*[1-9])([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?")


class Spec(BaseModel):
    """Base of everything that is read from YAML: camelCase there, snake_case here, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of resource. `pending_fields` maps a field of the spec to the sentence that says what it lacks yet
    (`workers.package` is that field of any of the workers), `effects` a field (or `field=value`) to what a change of
    it does to what runs."""

    name: str
    plural: str
    short_names: tuple[str, ...]
    api_versions: tuple[str, ...]
    spec: type[Spec]
    example: str
    pending_fields: Mapping[str, str]
    effects: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> tuple[str, ...]:
        """All words people use for it, in lower case."""
        return (self.name.lower(), self.plural, *self.short_names)

    def pending(self, spec: Spec) -> tuple[str, ...]:
        """Names of the fields this spec sets that are kept but do not take effect yet."""
        stated = spec.model_dump(by_alias=True, exclude_defaults=True)
        return tuple(path for path in self.pending_fields if _states(stated, path.split(".")))


def _states(value: Any, path: Sequence[str]) -> bool:
    """Whether there is something at a path; a list is walked through all its items."""
    if not path:
        return True
    if isinstance(value, tuple):
        return any(_states(item, path) for item in value)
    return path[0] in value and _states(value[path[0]], path[1:])


def fault(what: str, fix: str = "") -> PydanticCustomError:
    """An error for a validator to raise, in words for the person who wrote the file."""
    return PydanticCustomError(FAULT, "{what}", {"what": what, "fix": fix})


def _checked_name(value: str) -> str:
    if found := fault_in_name(value):
        raise fault(*found)
    return value


def _checked_plain_name(value: str) -> str:
    if found := fault_in_name(value, reserved=False):
        raise fault(*found)
    return value


def _checked_duration(value: str) -> str:
    if not _DURATION.fullmatch(value):
        raise fault(f"{shown(value)} is not a duration.", "Write it as 30m, 12h or 1h30m.")
    return value


Text = Annotated[str, Strict()]
ShortText = Annotated[Text, Field(max_length=200)]
LongText = Annotated[Text, Field(max_length=100_000)]
WholeNumber = Annotated[int, Strict()]
# What validators check is told to editors as far as a pattern can tell it.
_NAME_SCHEMA: Final = {"type": "string", "pattern": f"^{NAME.pattern}$", "maxLength": LONGEST}
Name = Annotated[
    Text, AfterValidator(_checked_name), WithJsonSchema({**_NAME_SCHEMA, "not": {"enum": sorted(RESERVED)}})
]
PlainName = Annotated[Text, AfterValidator(_checked_plain_name), WithJsonSchema(_NAME_SCHEMA)]
Duration = Annotated[
    Text,
    AfterValidator(_checked_duration),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["30m", "1h30m"]}),
]


def unique(what: str, values: tuple[str | int, ...]) -> None:
    """Refuse a list that names the same thing twice."""
    twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
    if twice is not None:
        raise fault(f"{what} {twice} is listed twice.", "Keep one of them.")
