"""What an agent is given: its files, its revision, its skills."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appservice.errors import Invalid
from appservice.paths import shipped
from appservice.workspace.files import END, START, agents_file, own_part, workspace
from appservice.workspace.names import CARD, is_plain
from appservice.workspace.skills import builtin, chosen, front_matter, read
from runtime.prompt import front_matter as agents_front_matter

GIVEN: dict[str, Any] = {"name": "alice", "display_name": "Alice", "model": "gpt-x"}


def card(files: dict[str, bytes]) -> dict[str, str]:
    found: dict[str, str] = json.loads(files[CARD])
    return found


def test_an_agent_of_which_nothing_is_said_gets_good_defaults() -> None:
    files = workspace(**GIVEN, user_id="@agent-alice:x.org", room="Alice's room")
    assert sorted(files) == [CARD, "AGENTS.md", "IDENTITY.md", "SOUL.md"]
    assert files["SOUL.md"].startswith(b"# Alice\n\nYou are Alice, an AI worker agent.")
    assert files["IDENTITY.md"] == (
        b"# Identity\n\n- Name: Alice\n- Matrix id: @agent-alice:x.org\n- Own room: Alice's room\n"
    )
    assert card(files) == {**card(files), "name": "alice", "displayName": "Alice", "model": "gpt-x"}


def test_given_texts_are_used_as_they_are() -> None:
    files = workspace(**GIVEN, soul="# S", identity="# I\n\n\n", agents="# A\r\n\r\nBe kind.")
    assert files["SOUL.md"] == b"# S\n"
    assert files["IDENTITY.md"] == b"# I\n"
    assert files["AGENTS.md"].endswith(f"{END}\n\n# A\n\nBe kind.\n".encode())


def test_an_agent_without_a_display_name_is_called_by_its_name() -> None:
    assert card(workspace(name="alice", display_name="", model="m"))["displayName"] == "alice"


@pytest.mark.parametrize(
    "rule",
    ["@agent-alice:x.org", "survive", "Mention another", "Never show, store, send", "SKILL.md", "five sentences"],
)
def test_the_built_in_rules_say_what_an_agent_in_a_room_needs(rule: str) -> None:
    text = workspace(**GIVEN, user_id="@agent-alice:x.org")["AGENTS.md"].decode()
    assert text.startswith(START)
    assert rule in text[: text.index(END)]


@pytest.mark.parametrize("marker", [END, "<!-- hiclaw-builtin-end -->"])
def test_an_older_built_in_block_in_the_operators_text_is_replaced(marker: str) -> None:
    assert own_part(f"<!-- start -->\nold rules\n{marker}\n\n# Mine\n") == "# Mine"


def test_text_without_markers_is_all_the_operators_own() -> None:
    assert own_part("# Mine\n\nAll of it.\n") == "# Mine\n\nAll of it."


@given(st.text())
def test_a_published_agents_file_can_be_given_back_as_the_operators_text(text: str) -> None:
    once = agents_file(text, "@a:b")
    assert agents_file(once, "@a:b") == once
    assert once.count(START) == 1 or START in text


@given(st.sampled_from(["soul", "identity", "agents"]), st.text(min_size=1))
def test_every_text_file_ends_with_exactly_one_newline(field: str, text: str) -> None:
    files = workspace(**(GIVEN | {field: text}))
    for path in ("SOUL.md", "IDENTITY.md", "AGENTS.md"):
        assert files[path].endswith(b"\n")
        assert not files[path].endswith(b"\n\n")


def test_the_same_declaration_gives_the_same_bytes() -> None:
    assert workspace(**GIVEN, skills=builtin()) == workspace(**GIVEN, skills=dict(reversed(list(builtin().items()))))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "bob"},
        {"display_name": "Bob"},
        {"model": "other"},
        {"soul": "x"},
        {"identity": "x"},
        {"agents": "x"},
        {"skills": {"notes": {"SKILL.md": b"x"}}},
        {"user_id": "@a:b"},
        {"room": "x"},
    ],
)
def test_every_part_of_a_declaration_changes_the_revision(change: dict[str, object]) -> None:
    assert card(workspace(**(GIVEN | change)))["revision"] != card(workspace(**GIVEN))["revision"]


def test_skills_lie_in_folders_of_their_own() -> None:
    files = workspace(**GIVEN, skills={"notes": {"SKILL.md": b"a", "lib/x.py": b"b"}})
    assert files["skills/notes/SKILL.md"] == b"a"
    assert files["skills/notes/lib/x.py"] == b"b"


@pytest.mark.parametrize("path", ["../../SOUL.md", "/etc/passwd", "a//b", "./a", "a/", "a\nb", "a\\b"])
def test_a_skill_cannot_write_outside_its_folder(path: str) -> None:
    assert not is_plain(path) or path.startswith("/")
    with pytest.raises(Invalid, match="workspace"):
        workspace(**GIVEN, skills={"evil": {path: b""}})


# Skills


def test_every_built_in_skill_is_read_alike_by_operator_and_agent() -> None:
    assert {"notes", "report"} <= builtin().keys()
    for name, files in builtin().items():
        text = files["SKILL.md"].decode()
        described = front_matter(text)
        assert described.name == name
        assert agents_front_matter(text) == {"name": name, "description": described.description}


def test_chosen_skills_come_in_the_order_they_were_named() -> None:
    assert list(chosen(["report", "notes"])) == ["report", "notes"]


def test_every_unknown_skill_is_named_with_the_nearest_and_the_list() -> None:
    with pytest.raises(Invalid) as caught:
        chosen(["notse", "notes", "zzz"])
    assert str(caught.value).splitlines() == [
        f"there is no skill 'notse'. Did you mean `notes`? There are: {', '.join(builtin())}.",
        f"there is no skill 'zzz'. There are: {', '.join(builtin())}.",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("# Notes\n", "does not begin with front matter"),
        ("---\nname: notes\n", "does not begin with front matter"),
        ("---\nname: notes\n---\nx", "wrong in: description"),
        ("---\nname: Notes!\ndescription: x\n---\n\n", "wrong in: name"),
        ("---\n- a\n---\n", "wrong in"),
        ("---\nname: notes\ndescription: a: b\n---\n", "not valid YAML"),
        ("---\nname: other\ndescription: x\n---\n", "its name is 'other'"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_faulty_skill_is_named_with_its_file(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "SKILL.md").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(Invalid) as caught:
        read(tmp_path)
    assert str(caught.value).startswith("skills/notes/SKILL.md: ")
    assert what in str(caught.value)


def checked(report: Path) -> subprocess.CompletedProcess[str]:
    script = shipped("skills", "report", "check.sh")
    return subprocess.run(["sh", script, report], capture_output=True, text=True, check=False)


def test_the_report_skill_names_what_is_not_filled_in(tmp_path: Path) -> None:
    report = tmp_path / "r.md"
    report.write_bytes(builtin()["report"]["template.md"])
    found = checked(report)
    assert found.returncode == 1
    assert "'TITLE' of the template was not filled in" in found.stdout


def test_the_report_skill_accepts_a_finished_report(tmp_path: Path) -> None:
    report = tmp_path / "r.md"
    report.write_text("# Disk usage\n\n## Summary\n\nFull on Friday.\n\n## Findings\n\n- 91 %, df, 2026-03-01\n")
    found = checked(report)
    assert (found.returncode, found.stdout) == (0, f"{report}: fine\n")
