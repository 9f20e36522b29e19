"""Built-in skills: the folders of `skills/`, each with a `SKILL.md` that begins with its name and description."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appservice.errors import Invalid, Problem
from appservice.paths import shipped
from appservice.workspace.names import SKILL_FILE, plain

Skill = Mapping[str, bytes]


class FrontMatter(BaseModel):
    """What a skill says of itself. Other fields are left to the tools they are meant for."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    description: str = Field(min_length=1, max_length=1024)


@cache
def builtin() -> Mapping[str, Skill]:
    """Read the skills that ship with Opsroom: files by path, by skill."""
    return read(shipped("skills"))


def read(folder: Path) -> Mapping[str, Skill]:
    """Read every skill below the folder. Raises Invalid: each one whose front matter is wrong."""
    found = {path.parent.name: _files(path.parent) for path in sorted(folder.glob(f"*/{SKILL_FILE}"))}
    faults = [problem for name, files in found.items() if (problem := _fault(name, files[SKILL_FILE]))]
    if faults:
        raise Invalid("some skills are wrong", problems=faults)
    return found


def chosen(names: Sequence[str], available: Mapping[str, Skill] | None = None) -> Mapping[str, Skill]:
    """Give the skills of these names, of the built-in ones unless told otherwise.

    Raises Invalid: every unknown name, with the nearest that exists and the list of all.
    """
    known = builtin() if available is None else available
    faults = [_unknown(name, sorted(known)) for name in names if name not in known]
    if faults:
        raise Invalid("some skills do not exist", problems=faults)
    return {name: known[name] for name in names}


def front_matter(text: str) -> FrontMatter:
    """Read the fields between the two `---` lines. Raises Invalid."""
    head, separator, _ = text.removeprefix("---\n").partition("\n---\n")
    if not text.startswith("---\n") or not separator:
        raise Invalid("it does not begin with front matter", fix="Begin with `---`, `name:`, `description:`, `---`.")
    try:
        return FrontMatter.model_validate(yaml.safe_load(head))
    except yaml.YAMLError as error:
        raise Invalid("its front matter is not valid YAML", fix="Quote values that contain a colon.") from error
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, fault["loc"])) or "it" for fault in error.errors())
        raise Invalid(f"its front matter is wrong in: {fields}", fix="It needs `name` and `description`.") from error


def _fault(name: str, data: bytes) -> Problem | None:
    where = f"skills/{name}/{SKILL_FILE}"
    try:
        fields = front_matter(data.decode())
    except Invalid as error:
        return Problem(what=error.what, where=where, fix=error.problems[0].fix)
    except UnicodeDecodeError:
        return Problem(what="it is not UTF-8", where=where, fix="Save it as UTF-8.")
    if fields.name != name:
        return Problem(what=f"its name is {fields.name!r}", where=where, fix="Name it like its folder.")
    return None


def _unknown(name: str, known: Sequence[str]) -> Problem:
    near = get_close_matches(name, known, n=1)
    guess = f"Did you mean `{near[0]}`? " if near else ""
    return Problem(what=f"there is no skill {name!r}.", fix=f"{guess}There are: {', '.join(known) or 'none'}.")


def _files(folder: Path) -> Skill:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {plain(path.relative_to(folder).as_posix()): path.read_bytes() for path in paths}
