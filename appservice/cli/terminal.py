"""How answers look on a terminal: tables aligned, the room's Markdown as plain text. Pure but for colour."""

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from appservice.cli import console
from appservice.ops import shell

_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_ITALIC = re.compile(r"(?<!\*)\*([^*\n]+)\*(?!\*)")
_LINK = re.compile(r"\[([^\]\n]+)\]\((\S+?)\)")
_RULE = re.compile(r"[-| ]+")
_GAP: Final = 2


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [[cell.replace("\n", " ") for cell in line] for line in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "".join(cell.ljust(width + _GAP) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def plain(text: str) -> str:
    """The room's Markdown for people at a terminal, or for `grep`."""
    found: list[str] = []
    rows: list[list[str]] = []
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced:
            found.append(line)
        elif line.startswith("| "):
            if not _RULE.fullmatch(line):
                rows.append([_words(cell.replace("\\|", "|")) for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
            continue
        else:
            found += _flushed(rows)
            found.append(_words(line))
    return "\n".join([*found, *_flushed(rows)]).strip("\n")


def _flushed(rows: list[list[str]]) -> list[str]:
    if not rows:
        return []
    made = table([cell.strip() for cell in rows[0]], [[cell.strip() for cell in row] for row in rows[1:]])
    rows.clear()
    return made.splitlines()


def _words(line: str) -> str:
    """Emphasis in colour, or not at all; a command of the room as one of the shell."""
    parts = re.split(r"(`[^`\n]+`)", line)
    return "".join(_code(part[1:-1]) if part[:1] == "`" and len(part) > 1 else _text(part) for part in parts)


def _text(part: str) -> str:
    part = _LINK.sub(r"\1", part)
    part = _BOLD.sub(lambda found: console.paint(found[1], console.BOLD, sys.stdout), part)
    return _ITALIC.sub(r"\1", part)


def _code(text: str) -> str:
    verb = text[1:].split(" ")[0] if text.startswith("!") else ""
    known = any(verb in (command.name, *command.aliases) for command in shell.COMMANDS.values())
    return f"opsroom {text[1:]}" if verb and known else text
