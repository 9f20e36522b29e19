"""The text of one upload: decoded or refused, and how a place in it is shown to a person."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from appservice.errors import Invalid, Problem

MAX_BYTES: Final = 2**20
MAX_SHOWN: Final = 10
_LONGEST_EXCERPT = 60
_LONGEST_QUOTE = 40
_LONGEST_CHECK = 200
_MOST_LINES = 3

_BREAK = re.compile(r"\r\n|\r|\n")
# libyaml takes U+0085, U+2028 and U+2029 for line breaks and YAML 1.2 does not: refused, so that nobody has to guess.
_REFUSED = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_SECRET_WORD = re.compile(
    r"://[^/\s]*@|(?:sk-|gh[pousr]_|syt_|xox[a-z]-|AKIA|eyJ)[\w.+/=-]{6,}|(?=[\w+/=-]*\d)(?=[\w+/=-]*[A-Z])[\w+/=-]{32,}"
)
_SECRET_KEY = re.compile(r"key|token|secret|passw|credential|authorization", re.IGNORECASE)

FieldPath = tuple[str | int, ...]


class Item(str):
    """In a path: an item of a list, by its name."""

    __slots__ = ()


DROPPED: Final = -1  # in a path: a key that is no text, and what belongs to it


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in the text. `line` counts from 1, `column` from 0."""

    line: int
    column: int = 0
    length: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A Problem whose place is not yet put into words."""

    what: str
    fix: str = ""
    mark: Mark | None = None
    path: FieldPath = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One decoded file. `name` is what people call it."""

    name: str
    text: str
    lines: tuple[str, ...]

    def where(self, fault: Fault) -> str:
        """Say a place as `team.yaml, line 14, spec.workers[2].modle`."""
        line = f"line {fault.mark.line}" if fault.mark else ""
        return ", ".join(part for part in (self.name, line, field_text(fault.path)) if part)

    def problem(self, fault: Fault) -> Problem:
        """Put a fault into words."""
        excerpt = self.excerpt(fault.mark) if fault.mark else ""
        return Problem(what=fault.what, where=self.where(fault), fix=fault.fix, excerpt=excerpt)

    def excerpt(self, mark: Mark) -> str:
        """Show a line with a caret below; '' when it is too long for a phone or may hold a secret."""
        line = self.lines[mark.line - 1] if mark.line <= len(self.lines) else ""
        if not line.strip() or len(line) > _LONGEST_EXCERPT or not line.isprintable() or may_be_secret(line):
            return ""
        length = max(1, min(mark.length, len(line) - mark.column))
        number = f"{mark.line} | "
        return f"{number}{line}\n{'| ':>{len(number)}}{' ' * mark.column}{'^' * length}"

    def invalid(self, faults: Iterable[Fault]) -> Invalid:
        """All faults as one error: by line, each once, the first ten in words and the rest counted.

        Where there are more than ten, equal ones are told once.
        """
        ordered = sorted(dict.fromkeys(faults), key=_position)
        groups = _grouped(ordered) if len(ordered) > MAX_SHOWN else [[fault] for fault in ordered]
        problems = [self.problem(_told_once(group)) for group in groups[:MAX_SHOWN]]
        more = sum(len(group) for group in groups[MAX_SHOWN:])
        if more:
            problems.append(Problem(what=f"And {more} more {'problem' if more == 1 else 'problems'} in {self.name}."))
        count = "1 problem" if len(ordered) == 1 else f"{len(ordered)} problems"
        return Invalid(f"{self.name} has {count}.", problems=problems)


def _grouped(faults: Iterable[Fault]) -> list[list[Fault]]:
    groups: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        groups.setdefault((fault.what, fault.fix), []).append(fault)
    return list(groups.values())


def _told_once(group: list[Fault]) -> Fault:
    """The first of equal faults, naming the lines of the next ones."""
    first, *others = group
    lines = [str(line) for line in dict.fromkeys(fault.mark.line for fault in others if fault.mark)]
    if not lines:
        return first
    named = ", ".join(lines[:_MOST_LINES]) + (f" and {len(lines) - _MOST_LINES} more" if lines[_MOST_LINES:] else "")
    again = f"The same on {'line' if len(lines) == 1 else 'lines'} {named}."
    return replace(first, fix=f"{first.fix} {again}".lstrip())


def _position(fault: Fault) -> tuple[int, int]:
    return (fault.mark.line, fault.mark.column) if fault.mark else (0, 0)


def decode(data: bytes, *, source: str) -> Source:
    """Read the bytes of an upload as text. Raises Invalid: too large, not UTF-8, control characters."""
    name = _file_name(source)
    if len(data) > MAX_BYTES:
        raise Invalid(
            f"The file has {len(data):,} bytes; at most {MAX_BYTES:,} (1 MiB) are read.",
            where=name,
            fix="Split it into several files.",
        )
    _refuse_wide(data, name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(_BREAK.findall(data[: error.start].decode("utf-8", "replace"))) + 1
        raise Invalid(
            f"The file is not UTF-8 text: byte 0x{data[error.start]:02x} cannot be read.",
            where=f"{name}, line {line}",
            fix="Save it as UTF-8 and upload it again.",
        ) from error
    found = Source(name=name, text=text, lines=tuple(_BREAK.split(text)))
    faults = tuple(_control_characters(found.lines))
    if faults:
        raise found.invalid(faults)
    return found


def _refuse_wide(data: bytes, name: str) -> None:
    head = data[:64]
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"))
    if wide or (len(head) >= 4 and (not any(head[::2]) or not any(head[1::2])) and any(head)):
        raise Invalid("The file is UTF-16 or UTF-32 text.", where=name, fix="Save it as UTF-8 and upload it again.")


def _control_characters(lines: tuple[str, ...]) -> Iterable[Fault]:
    for number, line in enumerate(lines, 1):
        if match := _REFUSED.search(line):
            yield Fault(
                what=f"The character {character_name(match[0])} is not allowed in YAML.",
                fix="Delete it, or write it as an escape in double quotes.",
                mark=Mark(line=number, column=match.start()),
            )


def character_name(character: str) -> str:
    """Name an invisible character."""
    code = ord(character)
    return "NUL" if code == 0 else f"U+{code:04X}"


def field_text(path: FieldPath) -> str:
    """Write a path as people do: `spec.workers[2].model`."""
    text = ""
    for part in path:
        if part == DROPPED:
            break
        if isinstance(part, int | Item):
            text += f"[{part}]"
        elif re.fullmatch(r"\w{1,60}", part):
            text += f".{part}" if text else part
        else:
            text += f"[{shown(part)}]"
    return text


def shown(value: object) -> str:
    """Quote a value for a sentence: short, on one line, without what looks like a secret."""
    text = value if isinstance(value, str) else str(value)
    if may_be_secret(text):
        return '"***"'
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _LONGEST_QUOTE]).split())
    return f'"{text[:_LONGEST_QUOTE]}…"' if len(text) > _LONGEST_QUOTE else f'"{text}"'


def may_be_secret(text: str) -> bool:
    """Whether showing this text in a room could show a key or a password."""
    text = text[:_LONGEST_CHECK]
    return bool(_SECRET_WORD.search(text) or (_SECRET_KEY.search(text) and re.search(r"[:=]\s*\S", text)))


def _file_name(source: str) -> str:
    clean = "".join(c if c.isprintable() else " " for c in source[:200]).strip()
    return (clean[:57] + "…") if len(clean) > 60 else clean or "the file"
