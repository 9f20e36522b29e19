"""Build the wheel, install it where nothing else is, and use it: `make wheel-test`, for another version of Python
`make wheel-test ARGS=/path/of/python3`.

    sdist -> wheel -> venv with the base requirements: version, imports, shipped data
                   -> [embedded,agent] added: `opsroom up`, `opsroom info --json`, an end without anything left

It proves what a checkout hides: a file that is not shipped, an import that only an extra brings.
"""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
READY_S = 90.0
STOP_S = 30.0
SHIPPED = (
    "deploy/compose/compose.yaml",
    "deploy/images/worker/Dockerfile",
    "deploy/scripts/build-base-image.sh",
    "deploy/systemd/opsroom.service",
    "deploy/web/README.md",
    "deploy/web/build.mjs",
    "deploy/web/package-lock.json",
    "deploy/web/package.json",
    "deploy/web/src/main.tsx",
    "examples/alice.yaml",
    "skills/notes/SKILL.md",
)
NOT_SHIPPED = ("deploy/web/dist", "deploy/web/build/", "node_modules", "__pycache__", "tests/", "benchmarks/")
EXTRAS_ONLY = ("envoy", "pydantic_ai", "synapse", "uvicorn", "weed", "pytest")
_IN_BASE = f"""
import importlib.util, appservice.app, appservice.cli.main
from appservice.paths import shipped
missing = [path for path in {SHIPPED!r} if not shipped(*path.split("/")).is_file()]
extra = [name for name in {EXTRAS_ONLY!r} if importlib.util.find_spec(name)]
assert not missing, f"not shipped: {{missing}}"
assert not extra, f"the base requirements bring {{extra}}"
assert "site-packages" in appservice.app.__file__, appservice.app.__file__
"""


def main(interpreter: str = sys.executable) -> int:
    began = time.monotonic()
    with TemporaryDirectory(prefix="ops-wheel-") as folder:
        home = Path(folder)
        wheel = _built(home)
        _check_content(wheel)
        python = _installed(home, str(wheel), interpreter)
        _check_base(python, home)
        _run([python, *_PIP, f"{wheel}[embedded,agent]"], home)
        _check_up(python, home)
    print(f"the wheel works; {time.monotonic() - began:.0f} s")
    return 0


_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def _built(home: Path) -> Path:
    """The wheel as made from the source distribution, which holds what git knows."""
    _say("building")
    _run([sys.executable, "-m", "build", "--outdir", str(home / "dist"), str(ROOT)], ROOT)
    [wheel] = (home / "dist").glob("*.whl")
    return wheel


def _check_content(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    wrong = [name for name in names if any(part in name for part in NOT_SHIPPED)]
    assert not wrong, f"in the wheel, but not meant to be: {wrong[:10]}"
    assert any(name.endswith("licenses/LICENSE") for name in names), "the licence is not in the wheel"
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1e3:.0f} kB")


def _installed(home: Path, what: str, interpreter: str) -> str:
    _say("installing the base requirements")
    _run([interpreter, "-m", "venv", str(home / "venv")], home)
    python = str(home / "venv" / "bin" / "python")
    _run([python, *_PIP, what], home)
    return python


def _check_base(python: str, home: Path) -> None:
    _say("trying it without extras")
    said = _run([_opsroom(python), "version"], home).strip()
    expected = _run([python, "-c", "import appservice; print(appservice.__version__)"], home).strip()
    assert said == expected, f"`opsroom version` says {said}, the package {expected}"
    _run([python, "-c", _IN_BASE], home)


def _check_up(python: str, home: Path) -> None:
    """Start it from the installed wheel, ask it what runs, end it."""
    _say("trying [embedded,agent]")
    data = home / "w"
    flags = ("--data-dir", str(data))
    up = subprocess.Popen(
        [_opsroom(python), "up", *flags, "--no-web", "--backend", "process"],
        cwd=home,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        facts = _facts(python, home, up, flags)
        assert facts["backend"] == "process", facts
        assert all(facts["pids"].values()), facts
        doctor = json.loads(_run([_opsroom(python), "doctor", "--json", *flags], home))
        failed = [check for check in doctor["checks"] if check["level"] == "fail"]
        assert not failed, failed
    finally:
        up.send_signal(signal.SIGINT)
        said, _ = up.communicate(timeout=STOP_S)
    assert up.returncode == 0, said
    left = [pid for pid in facts["pids"].values() if Path(f"/proc/{pid}").exists()]
    assert not left, f"still running after the end: {left}"


def _facts(python: str, home: Path, up: "subprocess.Popen[str]", flags: tuple[str, ...]) -> dict[str, Any]:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        assert up.poll() is None, up.communicate()[0]
        asked = subprocess.run(
            [_opsroom(python), "info", "--json", *flags], cwd=home, env=_environment(), capture_output=True, text=True
        )
        if asked.returncode == 0:
            found: dict[str, Any] = json.loads(asked.stdout)
            return found
        time.sleep(0.3)  # noqa: TID251 - a script without a loop, polling with a deadline
    raise AssertionError(f"not up after {READY_S:.0f} s: {asked.stderr}")


def _opsroom(python: str) -> str:
    return str(Path(python).with_name("opsroom"))


def _environment() -> dict[str, str]:
    """Without what would lead back to the checkout, or to a provider."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OPSROOM", "OPENAI"))}
    return kept | {"VIRTUAL_ENV": ""}


def _run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=_environment(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} failed ({done.returncode}):\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def _say(text: str) -> None:
    print(f"{text} ...", flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
