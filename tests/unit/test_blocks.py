"""Fenced blocks of a message: all that are YAML, and what stands around them."""

import pytest

from appservice.ops import blocks


@pytest.mark.parametrize(
    ("body", "inside"),
    [
        ("!apply\n```yaml\na: 1\n```", "a: 1\n"),
        ("```\na: 1\n```\nthanks", "a: 1\n"),
        ("~~~yml\r\na: 1\r\n~~~", "a: 1\n"),
        ("!apply\n```yaml\na: 1\n```\nand\n~~~\nb: 2\n~~~", "a: 1\n---\nb: 2\n"),
        ("```sh\nls\n```\nthen\n```yml \na: 1\n``` ", "a: 1\n"),
        ("````\n```\na: 1\n```\n````", "```\na: 1\n```\n"),
        ("```yaml\n```", ""),
        ("```sh\nls\n```", None),
        ("no block", None),
        ("```yaml\nnot closed", None),
    ],
)
def test_fenced_blocks_of_yaml_are_found(body: str, inside: str | None) -> None:
    assert blocks.yaml(body) == inside


def test_what_is_outside_is_found() -> None:
    assert blocks.outside("one\n```sh\nls\n```\ntwo\n```yaml\nnot closed") == ["one", "two", "```yaml", "not closed"]
