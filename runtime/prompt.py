"""The agent's instructions: who it is (from its workspace), what it can look up, and the facts of the turn."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from runtime.protocol import Turn

DOCUMENTS = ("IDENTITY.md", "SOUL.md", "AGENTS.md")
MAX_DOCUMENT = 48 * 1024
MAX_SKILLS = 100
HOUSE_RULES = """\
You answer in a chat room. Be short and plain, and write Markdown. Use your tools when they help; your files are kept
between conversations. Say what you did not manage instead of guessing."""


def instructions(root: Path, turn: Turn, name: str) -> str:
    """All instructions of one turn, the lasting ones first so that providers can cache them."""
    return "\n\n".join([f"You are {name}.", HOUSE_RULES, *_documents(root), *_skills(root), _facts(turn)])


def _documents(root: Path) -> Iterator[str]:
    for name in DOCUMENTS:
        text = _read(root / name)
        if text.strip():
            yield f"# {name}\n\n{text.strip()}"


def _skills(root: Path) -> Iterator[str]:
    files = sorted(root.glob("skills/*/SKILL.md"))[:MAX_SKILLS]
    lines = [f"- {_described(file)} (skills/{file.parent.name}/SKILL.md)" for file in files]
    if lines:
        yield "# Skills\n\nRead a skill's file before you use it.\n\n" + "\n".join(lines)


def _described(file: Path) -> str:
    fields = front_matter(_read(file))
    name = fields.get("name") or file.parent.name
    return f"{name}: {fields['description']}" if fields.get("description") else name


def front_matter(text: str) -> dict[str, str]:
    """The plain `name: value` fields between the `---` lines; a folded or indented value becomes one line."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    fields: dict[str, str] = {}
    last = ""
    for line in lines[1:]:
        if line.strip() == "---":
            return {name: value.strip().strip("\"'") for name, value in fields.items()}
        if line[:1].isspace() and last:
            fields[last] += f" {line.strip()}"
        elif ":" in line:
            last, _, value = line.partition(":")
            fields[last] = value.strip() if value.strip() not in (">", "|", ">-", "|-") else ""
    return {}


def _facts(turn: Turn) -> str:
    lines = [f"Today is {datetime.now(UTC):%A, %d %B %Y} (UTC)."]
    if turn.sender:
        lines.append(f"{turn.sender} asks you" + (f" in the room {turn.room}." if turn.room else "."))
    if turn.retry:
        lines.append(
            "An earlier try at this same question was cut off. Look at what is already done before you repeat anything."
        )
    return "\n".join(lines)


def _read(file: Path) -> str:
    try:
        return file.read_bytes()[:MAX_DOCUMENT].decode(errors="replace")
    except OSError:
        return ""
