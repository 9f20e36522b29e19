"""A YAML stream as plain values with the place of each: our own builder over libyaml's events.

Built without recursion and stopped at the first limit, so that the cost of hostile input is bounded. What YAML can do
and a declaration does not need (anchors, aliases, merge keys, tags, keys that are not text) is refused by name.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from appservice.resources.scalars import Refused, resolve
from appservice.resources.source import DROPPED, Fault, FieldPath, Mark, Source, character_name, shown
from appservice.resources.syntax import explain

MAX_DEPTH: Final = 32
MAX_DOCUMENTS: Final = 2_000
MAX_NODES: Final = 50_000
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(slots=True, kw_only=True)
class Tree:
    """One document. `plain` keeps the source text of unquoted values, `broken` what was refused already."""

    first_line: int
    value: Any = None
    text: str = ""
    keys: dict[FieldPath, Mark] = field(default_factory=dict)
    values: dict[FieldPath, Mark] = field(default_factory=dict)
    plain: dict[FieldPath, str] = field(default_factory=dict)
    broken: set[FieldPath] = field(default_factory=set)

    def mark(self, path: FieldPath, *, key: bool = False) -> Mark:
        """Place of a value (or of its key); of the nearest thing around it when it is not there."""
        first, second = (self.keys, self.values) if key else (self.values, self.keys)
        for end in range(len(path), -1, -1):
            if found := first.get(path[:end]) or second.get(path[:end]):
                return found
        return Mark(line=self.first_line)

    def is_broken(self, path: FieldPath) -> bool:
        """Whether this value, or one around it, was refused while reading."""
        return any(path[:end] in self.broken for end in range(len(path) + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """All complete documents, and all that is wrong. `nodes` counts the work."""

    trees: tuple[Tree, ...]
    faults: tuple[Fault, ...]
    nodes: int


class _Stop(Exception):
    """A limit is reached; reading on would cost too much."""


@dataclass(slots=True, kw_only=True)
class _Frame:
    path: FieldPath
    target: dict[str, Any] | list[Any]
    key: str | None = None
    at_value: bool = False

    def next_path(self) -> FieldPath:
        if isinstance(self.target, list):
            return (*self.path, len(self.target))
        return (*self.path, DROPPED if self.key is None else self.key)


def compose(source: Source) -> Composed:
    """Read all documents of a stream."""
    composer = _Composer(source)
    if tagged := [number for number, line in enumerate(source.lines, 1) if line.startswith("%TAG")]:
        # Before parsing: libyaml compares each %TAG line with all before it.
        fault = Fault(what="YAML tags (%TAG) are not supported.", fix="Remove the line.", mark=Mark(line=tagged[0]))
        return Composed(trees=(), faults=(fault,), nodes=0)
    try:
        for event in yaml.parse(source.text, Loader=yaml.CSafeLoader):
            composer.take(event)
    except yaml.YAMLError as error:
        composer.faults.append(explain(error, source))
    except _Stop:
        pass  # the limit is among the faults already
    return Composed(trees=tuple(composer.trees), faults=tuple(composer.faults), nodes=composer.nodes)


class _Composer:
    def __init__(self, source: Source) -> None:
        self.trees: list[Tree] = []
        self.faults: list[Fault] = []
        self.nodes = 0
        self._source = source
        self._starts: list[int] = []
        self._tree = Tree(first_line=1)
        self._stack: list[_Frame] = []

    def take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._add(self._scalar(event), event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close(event)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self._begin(event)
            case yaml.DocumentEndEvent() | yaml.StreamEndEvent():
                self._finish(event)

    def _begin(self, event: Any) -> None:
        self._starts.append(event.start_mark.line + 1 if self._starts else 1)
        if len(self._starts) > MAX_DOCUMENTS:
            self._stop(f"The file has more than {MAX_DOCUMENTS:,} documents.", "Split it into several files.")
        self._tree = Tree(first_line=event.start_mark.line + 1)

    def _finish(self, event: Any) -> None:
        """Keep a document when it ends. Its text is known when the next one begins, or at the end of the file."""
        if isinstance(event, yaml.DocumentEndEvent):
            if self._tree.value is not None or self._tree.broken:
                self._tree.first_line = self._tree.mark(()).line
                self.trees.append(self._tree)
            return
        ends = [*(start - 1 for start in self._starts[1:]), len(self._source.lines)]
        for tree in self.trees:
            span = bisect_left(ends, tree.first_line)
            start, end = self._starts[span], ends[span]
            tree.text = _without_marker(self._source.lines[start - 1 : end]) + "\n" * (end < ends[-1])

    def _scalar(self, event: Any) -> Any:
        path = self._count(event)
        if event.style:  # quoted or block text
            return self._text(event, path)
        value = resolve(event.value)
        if isinstance(value, Refused):
            self._refuse(value.what, value.fix, event, path)
            return None
        self._tree.plain[path] = event.value
        return value

    def _text(self, event: Any, path: FieldPath) -> str:
        if match := _CONTROL.search(event.value):
            what = f"The text holds the control character {character_name(match[0])}."
            self._refuse(what, "Remove the escape that makes it.", event, path)
        return str(event.value)

    def _alias(self, event: Any) -> None:
        path = self._count(event)
        self._refuse("YAML aliases (`*name`) are not supported.", "Write the value out.", event, path)
        self._add(None, event)

    def _open(self, event: Any) -> None:
        path = self._count(event)
        if len(self._stack) >= MAX_DEPTH:
            self._stop(f"The document is nested deeper than {MAX_DEPTH} levels.", "Make it flatter.", event)
        target: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Frame(path=path, target=target))

    def _close(self, event: Any) -> None:
        self._add(self._stack.pop().target, event)

    def _count(self, event: Any) -> FieldPath:
        """Note where a node begins and refuse what it may not carry. Gives its path."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._stop(f"The file has more than {MAX_NODES:,} values.", "Split it into several files.")
        path = self._stack[-1].next_path() if self._stack else ()
        if not self._at_key():
            self._tree.values[path] = self._mark(event)
        if isinstance(event, yaml.AliasEvent):
            return path
        if event.anchor:
            self._refuse("YAML anchors (`&name`) are not supported.", "Write the value out.", event, path)
        if event.tag:
            what = "YAML tags (a value that begins with !) are not supported."
            self._refuse(what, "Remove the tag, or put the value in quotes.", event, path)
        return path

    def _at_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].target, dict) and not self._stack[-1].at_value

    def _add(self, value: Any, event: Any) -> None:
        if not self._stack:
            self._tree.value = value
            return
        frame = self._stack[-1]
        if isinstance(frame.target, list):
            frame.target.append(value)
        elif frame.at_value:
            if frame.key is not None:
                frame.target[frame.key] = value
            frame.key, frame.at_value = None, False
        else:
            frame.key, frame.at_value = self._key(value, event, frame), True

    def _key(self, value: Any, event: Any, frame: _Frame) -> str | None:
        """Check a key; None drops it together with its value."""
        plain = self._tree.plain.pop((*frame.path, DROPPED), None) if isinstance(event, yaml.ScalarEvent) else None
        if not isinstance(value, str):
            self._refuse(*_bad_key(value, plain), event, frame.path)
            return None
        path = (*frame.path, value)
        if value == "<<" and not getattr(event, "style", None):
            self._refuse("YAML merge keys (`<<`) are not supported.", "Write the fields out.", event, path)
            return None
        earlier = self._tree.keys.get(path)
        if earlier and DROPPED not in path:
            what = f"The field {shown(value)} is given twice; the first is on line {earlier.line}."
            self._refuse(what, "Keep one of them.", event, path)
        self._tree.keys[path] = self._mark(event)
        return value

    def _mark(self, event: Any) -> Mark:
        start, end = event.start_mark, event.end_mark
        length = end.column - start.column if end.line == start.line else 1
        return Mark(line=start.line + 1, column=start.column, length=max(1, length))

    def _refuse(self, what: str, fix: str, event: Any, path: FieldPath) -> None:
        self._tree.broken.add(path)
        self.faults.append(Fault(what=what, fix=fix, mark=self._mark(event), path=path))

    def _stop(self, what: str, fix: str, event: Any = None) -> None:
        self.faults.append(Fault(what=what, fix=fix, mark=self._mark(event) if event else None))
        raise _Stop


def _bad_key(value: Any, plain: str | None) -> tuple[str, str]:
    if plain:
        return f"The key {plain} is not text: YAML reads it as a number, true, false or null.", f'Write "{plain}".'
    if value is None:
        return "A key is empty.", "Give the field a name before the colon."
    return "A key must be text, not a list or a map.", "Put it in quotes, or give the field a name."


def _without_marker(lines: tuple[str, ...]) -> str:
    """Remarks before the marker stay: they are about the document, too."""
    at = next((number for number, line in enumerate(lines) if not re.fullmatch(r"\s*(#.*)?", line)), 0)
    body = (*lines[:at], *lines[at + 1 :]) if re.fullmatch(r"---[ \t]*", lines[at]) else lines
    return "\n".join(body)
