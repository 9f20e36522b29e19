"""Declared data as YAML that reads back as the same, in the style people write: texts of several lines as blocks."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from appservice.resources.scalars import resolve

_BLOCK = re.compile(r"[^\s\x85\u2028\u2029\ufeff](?:[^\t\r\x85\u2028\u2029\ufeff])*")
_ENDS_IN_SPACE = re.compile(r" (?:\n|\Z)")
_NEEDS_ESCAPES = re.compile(r"[\t\r\n\x85\u2028\u2029\ufeff]")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists below their field."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if "\n" in text and _BLOCK.fullmatch(text) and not _ENDS_IN_SPACE.search(text):
        style = "|"
    elif _NEEDS_ESCAPES.search(text) or resolve(text) != text:
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(declared: Mapping[str, Any]) -> str:
    """Print a document, for example `Document.data` or what `canonical` gives."""
    printed: str = yaml.dump(
        dict(declared), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=False
    )
    return printed
