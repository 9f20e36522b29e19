"""Every document of `examples/` is applied as it ships, and removed again."""

from pathlib import Path

import pytest

from appservice.resources import registry
from tests.support.stack import Stack

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("**/*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(EXAMPLES).as_posix())
async def test_an_example_is_applied_as_it_ships_and_leaves_nothing_when_deleted(stack: Stack, path: Path) -> None:
    documents = registry.parse(path.read_bytes(), source=path.name)
    names = [f"{document.kind.lower()}/{document.name}" for document in documents]
    for name in names:
        await stack.command(f"!delete {name} --files delete --yes")  # another test may have applied it

    answer = await stack.apply(path.read_bytes(), name=path.name)

    assert all(f"created `{name}` — ready" in answer.text for name in names), answer.text
    again = await stack.apply(path.read_bytes(), name=path.name)
    assert "No changes" in again.text
    for name in names:
        assert f"Deleted `{name}`" in (await stack.command(f"!delete {name} --files delete --yes", 150)).text
        assert "There is no" in (await stack.command(f"!get {name}")).text
