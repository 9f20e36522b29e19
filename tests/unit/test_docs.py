"""The documentation against the code: links lead somewhere, made parts are current, what is named exists."""

import re
from pathlib import Path

import pytest
import yaml

from appservice import __version__, config
from appservice.ops import grammar
from appservice.ops.commands import COMMANDS
from appservice.resources import registry
from tests.support.documentation import PARTS, ROOT, shell_flags, shell_words, written

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/README.md")])
PAGES = [page for page in PAGES if "node_modules" not in page.parts]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
LINK = re.compile(r"\]\(([^)\s]+)\)")
BUILT = ("deploy/web/dist",)  # by the first `make up` or `make test`
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def shell_lines(text: str) -> list[str]:
    """Commands of `opsroom` in code, with continued lines put together."""
    blocks = [body.replace("\\\n", " ") for _, body in FENCE.findall(text)]
    lines = [line.strip() for block in blocks for line in block.splitlines()] + CODE.findall(FENCE.sub("", text))
    return [line.removeprefix(".venv/bin/") for line in lines if re.match(r"(\.venv/bin/)?opsroom [a-z]+\b", line)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", ["docs/decisions/README.md", "README.md"])
def test_no_page_is_left_out_of_its_index(path: str) -> None:
    page = ROOT / path
    linked = {(page.parent / link).resolve() for link in LINK.findall(page.read_text()) if "://" not in link}
    siblings = page.parent.glob("*.md") if path != "README.md" else [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]

    assert {sibling.resolve() for sibling in siblings} - {page.resolve()} <= linked


@pytest.mark.parametrize(("path", "name"), sorted(PARTS))
def test_parts_made_from_the_code_are_current(path: str, name: str) -> None:
    made = PARTS[path, name]()

    assert written((ROOT / path).read_text(), name) == made, "run: python -m tests.support.documentation"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_of_the_room_that_is_named_exists(page: Path) -> None:
    for code in CODE.findall(FENCE.sub("", page.read_text())):
        if grammar.is_command(code):
            word = code[1:].split()[0]
            assert any(word in (command.name, *command.aliases) for command in COMMANDS.values()), code


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_in_a_shell_that_is_named_exists_with_its_flags(page: Path) -> None:
    for line in shell_lines(page.read_text()):
        verb = line.split()[1]
        assert verb in shell_words(), line
        assert set(re.findall(r"(?<=\s)--[a-z-]+", line)) <= shell_flags(verb), line


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    code = [
        *CODE.findall(FENCE.sub("", text)),
        *(line for _, body in FENCE.findall(text) for line in body.splitlines()),
    ]
    named = {match[1] for line in code if (match := re.match(r"make ([a-z-]+)", line.strip()))}

    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_file_that_is_named_exists(page: Path) -> None:
    for code in CODE.findall(FENCE.sub("", page.read_text())):
        if re.fullmatch(r"(appservice|runtime|tests|deploy|examples|benchmarks|docs|skills)/[\w./-]+", code):
            assert (ROOT / code).exists() or code in BUILT, code


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_document_and_setting_that_is_shown_is_valid(page: Path, tmp_path: Path) -> None:
    for language, body in FENCE.findall(page.read_text()):
        if language == "yaml" and "apiVersion:" in body:
            assert registry.parse(body.encode(), source=page.name)
        elif language == "yaml":
            (tmp_path / config.SETTINGS_FILE).write_text(body)
            assert config.load(tmp_path).model_dump(exclude_defaults=True).keys() >= yaml.safe_load(body).keys()


def test_the_full_example_names_the_image_of_this_version() -> None:
    [document] = registry.parse((ROOT / "examples" / "full-worker.yaml").read_bytes(), source="full-worker.yaml")

    assert document.data["spec"]["image"] == f"opsroom/worker:{__version__}"


def test_the_quickstart_shows_the_example_that_ships() -> None:
    shown = next(body for _, body in FENCE.findall((ROOT / "docs/quickstart.md").read_text()) if "apiVersion" in body)

    assert yaml.safe_load(shown) == yaml.safe_load((ROOT / "examples" / "alice.yaml").read_text())


def test_the_changelog_has_this_version() -> None:
    assert f"## {__version__} - " in (ROOT / "CHANGELOG.md").read_text()
