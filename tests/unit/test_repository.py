"""Nothing in the repository belongs to one machine, one network or one workplace, and no secret is in it.

The words are put together here, so that this file does not hold them itself.
"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 1_500_000

_REGISTRIES = ("pypi" + ".org", "python" + "hosted.org", "registry." + "npmjs", "npm" + "js.com/", "quay" + ".io")
_MIRRORS = (
    "art" + "ifactory",
    "nex" + "us.",
    "deb." + "debian",
    "gh" + "cr.io",
    "docker" + ".io/",
    "proxy." + "golang",
)
_PLACES = ("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/(?!agent)", "/Us" + "ers/", "/tm" + "p/[a-z]", "/op" + "t/py")
_PEOPLE = ("hel" + "per session", "the br" + "ief", "the lib" + "rary says", "co-auth" + "ored-by")
_SECRETS = (
    "-----BEGIN [A-Z ]*" + "PRIVATE KEY",
    "sk-" + "(?!test)[A-Za-z0-9]{20,}",
    "gh" + "p_[A-Za-z0-9]{20,}",
    "AKI" + "A[0-9A-Z]{16}",
)
_UNFINISHED = ("TO" + "DO", "FIX" + "ME", "XX" + "X\\b", "NotImple" + "mentedError")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def texts(*, but: tuple[str, ...] = ()) -> dict[str, str]:
    """Tracked text files by their path."""
    found = {}
    for path in tracked():
        name, data = path.relative_to(ROOT).as_posix(), path.read_bytes()
        if b"\0" not in data and not name.endswith(but or ("\0",)):
            found[name] = data.decode()
    return found


def lines_with(words: tuple[str, ...], found: dict[str, str]) -> list[str]:
    pattern = re.compile("|".join(words))
    return [
        f"{name}:{number}: {line.strip()[:160]}"
        for name, text in found.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_registry_or_mirror_is_named() -> None:
    assert lines_with((*map(re.escape, _REGISTRIES), *map(re.escape, _MIRRORS)), texts()) == []


def test_no_path_of_one_machine_is_named() -> None:
    assert lines_with(_PLACES, texts()) == []


def test_nothing_says_who_wrote_it_or_where() -> None:
    assert lines_with(_PEOPLE, texts()) == []


def test_no_secret_is_in_it() -> None:
    assert lines_with(_SECRETS, texts()) == []


def test_nothing_is_left_unfinished() -> None:
    assert lines_with(_UNFINISHED, texts(but=("package-lock.json",))) == []


def test_nothing_that_is_built_or_large_is_in_it() -> None:
    built = {"node_modules", "dist", "build", "__pycache__", "artefacts", ".opsroom"}

    assert [path for path in tracked() if built & set(path.relative_to(ROOT).parts)] == []
    assert [path for path in tracked() if path.stat().st_size > MAX_BYTES] == []


def test_every_program_says_how_it_is_run() -> None:
    """What is executable begins with `#!`, and what begins with it is executable."""
    for path in tracked():
        if path.parts[len(ROOT.parts)] == "skills":
            continue  # run by an agent's shell
        assert path.read_bytes().startswith(b"#!") == bool(path.stat().st_mode & 0o111), path
