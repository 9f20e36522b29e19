"""What `deploy/` and `registration.yaml` hold, as far as it can be checked without running it."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from appservice import __version__, config
from appservice.homeserver import registration
from appservice.resources import registry
from tests.support.documentation import ROOT, shell_commands, shell_flags

UNIT = ROOT / "deploy" / "systemd" / "opsroom.service"
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
SERVICE_KEYS = {"image", "command", "restart", "network_mode", "stop_grace_period", "init", "environment", "volumes"}


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]["opsroom"]
    return found


def directives() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def check_command(words: list[str]) -> None:
    """The words after `opsroom` are a command with flags that it has."""
    assert words[0] in shell_commands()
    assert {word for word in words if word.startswith("--")} <= shell_flags(words[0])


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/opt/opsroom/bin/opsroom", sys.executable))

    checked = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True)

    assert checked.returncode == 0, checked.stderr
    assert UNIT.name not in checked.stderr


def test_the_unit_runs_a_command_that_exists_where_it_may_write() -> None:
    found = directives()
    [command] = found["ExecStart"]

    check_command(command.split()[1:])
    assert f"--data-dir /var/lib/{found['StateDirectory'][0]} " in command
    assert found["ProtectSystem"] == ["strict"]
    assert found["User"] != ["root"]


def test_the_unit_leaves_bubblewrap_what_it_needs() -> None:
    assert not {"RestrictNamespaces", "ProtectProc", "ProtectKernelTunables", "SystemCallFilter"} & set(directives())


def test_compose_runs_the_image_of_this_version_with_a_command_that_exists(service: dict[str, Any]) -> None:
    dockerfile = (ROOT / "deploy" / "images" / "opsroom" / "Dockerfile").read_text()

    assert service["image"] == f"opsroom/opsroom:{__version__}"
    assert f"--tag {service['image']} " in dockerfile
    check_command(service["command"])


def test_compose_mounts_the_data_under_the_same_path_inside_and_outside(service: dict[str, Any]) -> None:
    mounts = dict(volume.split(":") for volume in service["volumes"])
    data = service["command"][service["command"].index("--data-dir") + 1]

    assert mounts[data] == data
    assert service["environment"]["TMPDIR"] == data
    assert "/var/run/docker.sock" in mounts


def test_compose_uses_keys_that_its_specification_has(service: dict[str, Any]) -> None:
    assert set(yaml.safe_load(COMPOSE.read_text())) == {"name", "services"}
    assert set(service) <= SERVICE_KEYS


def test_docker_compose_accepts_the_file() -> None:
    compose = ["docker", "compose"]
    if shutil.which("docker") is None or subprocess.run([*compose, "version"], capture_output=True).returncode:
        pytest.skip("there is no Docker Compose here")

    checked = subprocess.run([*compose, "--file", COMPOSE, "config", "--quiet"], capture_output=True, text=True)

    assert checked.returncode == 0, checked.stderr


def test_the_dockerfile_of_the_control_plane_starts_a_command_that_exists() -> None:
    text = (ROOT / "deploy" / "images" / "opsroom" / "Dockerfile").read_text()
    [command] = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)

    check_command(yaml.safe_load(command))


@pytest.mark.parametrize("script", sorted((ROOT / "deploy" / "scripts").glob("*.sh")), ids=lambda path: path.name)
def test_a_script_can_be_parsed_and_run(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["sh", "-n", script]).returncode == 0


def test_the_sample_registration_is_what_a_fresh_opsroom_would_write(tmp_path: Path) -> None:
    sample = yaml.safe_load((ROOT / "registration.yaml").read_text())
    settings = config.load(tmp_path)
    fresh = registration.registration_document(
        settings,
        url=settings.public_url,
        as_token=sample["as_token"],
        hs_token=sample["hs_token"],
        sender_localpart=sample["sender_localpart"],
    )

    assert sample == fresh


def test_every_example_begins_with_a_comment_that_says_what_it_is_for() -> None:
    for path in (ROOT / "examples").glob("**/*.yaml"):
        assert path.read_text().startswith("# "), path
        assert registry.parse(path.read_bytes(), source=path.name)


def test_the_wheel_carries_every_part_of_deploy_and_nothing_that_is_built() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    carried = {path for path in wheel["force-include"] if path.startswith("deploy/")}
    parts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "deploy").iterdir()} - {"deploy/web"}

    assert parts <= carried
    assert all((ROOT / path).exists() for path in carried)
    assert not {"deploy", "deploy/web", "deploy/web/dist"} & carried
