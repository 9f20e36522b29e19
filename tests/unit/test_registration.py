"""The registration file: what is written, what is read, and what is said of a bad one."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from appservice.config import Settings
from appservice.errors import Invalid, NotFound
from appservice.homeserver.registration import load, registration_document

ROOT = Path(__file__).resolve().parents[2]
GOOD = {
    "id": "opsroom",
    "url": "http://127.0.0.1:9000",
    "as_token": "a" * 64,
    "hs_token": "h" * 64,
    "sender_localpart": "x1",
    "namespaces": {"users": [{"exclusive": True, "regex": "@agent-.*:a"}], "aliases": [], "rooms": []},
}


def generated(settings: Settings | None = None) -> dict[str, Any]:
    return registration_document(
        settings or Settings(), url="http://127.0.0.1:9000", as_token="a", hs_token="h", sender_localpart="x1"
    )


def matches(document: dict[str, Any], kind: str, name: str) -> bool:
    return any(re.match(entry["regex"], name) for entry in document["namespaces"][kind])


def test_the_shipped_sample_has_exactly_the_shape_that_is_generated() -> None:
    sample = yaml.safe_load((ROOT / "registration.yaml").read_text())
    secret = ("as_token", "hs_token", "sender_localpart")
    assert {k: v for k, v in sample.items() if k not in secret} == {
        k: v for k, v in generated().items() if k not in secret
    }
    assert load(ROOT / "registration.yaml").id == "opsroom"


def test_what_was_generated_can_be_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "registration.yaml"
    path.write_text(yaml.safe_dump(generated()))
    assert load(path).sender_localpart == "x1"


@pytest.mark.parametrize(
    ("kind", "name", "inside"),
    [
        ("users", "@agent-alice:ops.local", True),
        ("users", "@opsroom:ops.local", True),
        ("users", "@op:ops.local", False),
        ("users", "@agent-:ops.local", False),
        ("users", "@agent-alice:opsXlocal", False),
        ("users", "@opsroom-two:ops.local", False),
        ("aliases", "#opsroom-alice:ops.local", True),
        ("aliases", "#lobby:ops.local", False),
    ],
)
def test_namespaces_hold_our_names_and_no_others(kind: str, name: str, inside: bool) -> None:
    assert matches(generated(), kind, name) is inside


def test_a_prefix_with_special_characters_is_taken_literally() -> None:
    document = generated(Settings(user_prefix="a.b_"))
    assert matches(document, "users", "@a.b_x:ops.local")
    assert not matches(document, "users", "@aXb_x:ops.local")


def test_tokens_do_not_appear_when_a_registration_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "registration.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    assert "a" * 64 not in repr(load(path))
    assert "h" * 64 not in repr(load(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"as_token": None}, "as_token"),
        ({"url": ""}, "url"),
        ({"hs_token": "a" * 64}, "are the same"),
        ({"namespaces": []}, "namespaces"),
        ({"namespaces": {"users": [{"regex": "("}]}}, "users[0]"),
        ({"namespaces": {"people": []}}, "namespaces.people"),
    ],
)
def test_a_bad_registration_is_refused_by_field(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "registration.yaml"
    path.write_text(yaml.safe_dump(GOOD | change))
    with pytest.raises(Invalid) as caught:
        load(path)
    assert said in str(caught.value)
    assert "a" * 64 not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [\n", "just text"])
def test_a_file_that_is_no_registration_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "registration.yaml"
    path.write_text(text)
    with pytest.raises(Invalid, match="registration"):
        load(path)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="opsroom up"):
        load(tmp_path / "none.yaml")
