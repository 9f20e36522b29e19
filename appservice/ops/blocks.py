"""Fenced blocks in what somebody typed. Pure, and no slower for what a stranger may make of it."""

import re
from bisect import bisect
from collections import defaultdict

_OPENING = re.compile(r"(`{3,}|~{3,})([^`~]*)")
_YAML = ("", "yaml", "yml")  # what a block may call itself


def yaml(body: str) -> str | None:
    """The text of all blocks of YAML, as documents of one file; None when there is none."""
    found = [text for language, text in _parted(body)[0] if language in _YAML]
    return "---\n".join(found) if found else None


def outside(body: str) -> list[str]:
    """The lines that are in no block."""
    return _parted(body)[1]


def _parted(body: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Blocks as (language, text), and the lines outside of them. One that is not closed is none."""
    lines = body.replace("\r\n", "\n").split("\n")
    closing: dict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        closing[line.rstrip(" \t")].append(number)
    blocks, rest, at = [], [], 0
    while at < len(lines):
        opening = _OPENING.fullmatch(lines[at])
        ends = closing[opening[1]] if opening else []
        after = bisect(ends, at)
        if opening is None or after == len(ends):
            rest.append(lines[at])
            at += 1
        else:
            blocks.append((opening[2].strip(), "".join(f"{line}\n" for line in lines[at + 1 : ends[after]])))
            at = ends[after] + 1
    return blocks, rest
