"""What an unquoted YAML value means: the core schema of YAML 1.2, and nothing that differs between YAML versions.

`no`, `on`, `0123`, `1_000`, `12:30:45` and dates are text. NaN, infinities and endless numbers are refused.
"""

import re
from dataclasses import dataclass
from math import isinf
from typing import Final

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_OCTAL = re.compile(r"0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST_NUMBER = 18

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A value that has no safe meaning."""

    what: str
    fix: str


def resolve(text: str) -> Scalar | Refused:
    """Read an unquoted value."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _NO_NUMBER.fullmatch(text):
        return Refused("Infinite and not-a-number values are not supported.", "Give a number, or quote it as text.")
    if len(text) <= _LONGEST_NUMBER:
        return _number(text)
    if any(rule.fullmatch(text) for rule in (_INT, _HEX, _OCTAL, _FLOAT)):
        return Refused(f"A number of {len(text)} characters is too long.", "If it is meant as text, put it in quotes.")
    return text


def _number(text: str) -> Scalar | Refused:
    if _INT.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if not _FLOAT.fullmatch(text):
        return text
    number = float(text)
    return (
        Refused("This number is too large.", "If it is meant as text, put it in quotes.") if isinf(number) else number
    )
