"""What the YAML parser says when it cannot read on, in words for people."""

from typing import Final

import yaml

from appservice.resources.source import Fault, Mark, Source

_SAYINGS: Final[tuple[tuple[str, str, str], ...]] = (
    ("unexpected end of stream", "A quote is opened here and never closed.", "Add the closing quote."),
    ("unexpected document indicator", "A quote is opened here and never closed.", "Add the closing quote."),
    ("expected ',' or ']'", "A list in [ ] is not closed, or a comma is missing.", "Add the comma or the closing ]."),
    ("expected ',' or '}'", "A map in { } is not closed, or a comma is missing.", "Add the comma or the closing }."),
    ("expected ':'", "This line has no colon after the field's name.", "Write it as `field: value`, with a space."),
    ("expected '-' indicator", "This line does not fit the list above it.", "Begin it with `- `, or align it."),
    ("expected key", "This line does not fit the lines above it.", "Align it with the fields it belongs to."),
    ("unknown escape character", "A backslash escape in this text is not known.", "Use single quotes, or write \\\\."),
    ("hexdecimal number", "A backslash escape in this text is incomplete.", "Use single quotes, or write \\\\."),
    ("Unicode character escape", "A backslash escape names no character.", "Use single quotes, or write \\\\."),
    ("block sequence entries are not allowed", "A list cannot begin here.", "Put `- ` on a line of its own, indented."),
    ("mapping keys are not allowed", "A field cannot begin here.", "Put it on a line of its own, aligned."),
    ("expected <document start>", "There is text after the end of the document.", "Align it, or put `---` before it."),
    ("expected comment or line break", "Text after | or > must begin on the next line.", "Move it down, indented."),
    ("indentation indicator", "The sign after | or > is not understood.", "Write only | or >, and the text below it."),
    ("undefined alias", "YAML aliases are not supported.", "Write the value out."),
    ("incompatible YAML document", "This YAML version is not supported.", "Remove the %YAML line."),
    ("directive", "A line that begins with % is not understood.", "Remove the line, or put the value in quotes."),
    ("tag", "YAML tags (a value that begins with !) are not supported.", "Remove the tag, or put the value in quotes."),
    ("expected alphabetic", "A name must follow & or *.", "If the value begins with & or *, put it in quotes."),
    ("expected node content", "A value is missing here.", "Complete it, or remove what is left over."),
)
_BLAME_THE_BEGINNING = ("found unexpected", "did not find expected ','", "could not find expected ':'")
_OTHERWISE = ("This is not valid YAML.", "Check colons, quotes and indentation of this line and the one above.")


def explain(error: yaml.YAMLError, source: Source) -> Fault:
    """Say what stopped the parser and where a person should look."""
    said = str(getattr(error, "problem", "") or "")
    at = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    mark = _mark(at, source)
    line = source.lines[mark.line - 1]
    if "\t" in line[: len(line) - len(line.lstrip())] or "tab character" in said:
        return Fault(
            what="This line is indented with a tab; YAML allows only spaces.",
            fix="Replace the tab with spaces.",
            mark=mark,
        )
    opened = getattr(error, "context_mark", None)
    if opened and said.startswith(_BLAME_THE_BEGINNING):
        mark = _mark(opened, source)
    what, fix = _special(said, line, mark) or _saying(said)
    return Fault(what=what, fix=fix, mark=mark)


def _mark(at: object, source: Source) -> Mark:
    line = min(getattr(at, "line", 0), len(source.lines) - 1)
    while line > 0 and not source.lines[line].strip():
        line -= 1
    return Mark(line=line + 1, column=min(getattr(at, "column", 0), max(0, len(source.lines[line]) - 1)))


def _special(said: str, line: str, mark: Mark) -> tuple[str, str] | None:
    if "cannot start any token" in said:
        character = line[mark.column]
        return f"A value cannot begin with {character} in YAML.", "Put the whole value in quotes."
    if "mapping values are not allowed" in said:
        if ": " in line[: mark.column] or ":" in line[: mark.column].strip().rstrip(":"):
            return "There is a second colon in this value.", "Put the whole value in quotes."
        return "This line is indented too far, or the line above lacks its colon.", "Align it with its neighbours."
    return None


def _saying(said: str) -> tuple[str, str]:
    for words, what, fix in _SAYINGS:
        if words in said:
            return what, fix
    return _OTHERWISE
