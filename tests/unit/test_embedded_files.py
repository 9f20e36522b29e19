"""Private files, the lock on a data directory, what the next start remembers, and what a homeserver is told."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from appservice import config
from appservice.embedded import synapse, upfile
from appservice.embedded.files import held, kept_secret, only_one, write_private
from appservice.embedded.world import ensure_registration, prepare
from appservice.errors import Conflict, Unavailable


def test_a_private_file_is_the_owners_alone_even_where_the_umask_is_open(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "deep" / "secret", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "deep" / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "deep").stat().st_mode & 0o777 == 0o700


def test_a_file_with_the_same_text_is_not_written_again(tmp_path: Path) -> None:
    write_private(tmp_path / "file", "x")
    inode = (tmp_path / "file").stat().st_ino
    write_private(tmp_path / "file", "x")
    assert (tmp_path / "file").stat().st_ino == inode


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    made = iter("ab")
    assert [kept_secret(tmp_path / "s", lambda: next(made)) for _ in range(2)] == ["a", "a"]


def test_a_data_directory_is_held_by_one_and_free_after_it_ended(tmp_path: Path) -> None:
    assert not held(tmp_path)
    with only_one(tmp_path):
        assert held(tmp_path)
        with pytest.raises(Conflict, match=f"process {os.getpid()}"), only_one(tmp_path):
            pytest.fail("two hold it")
    assert not held(tmp_path)


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time; from appservice.embedded.files import only_one\n"
        "with only_one(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    assert held(tmp_path)
    holder.kill()
    holder.communicate()
    assert not held(tmp_path)


def test_info_is_refused_while_nothing_runs_even_if_an_old_file_is_there(tmp_path: Path) -> None:
    upfile.write(tmp_path, {"client": ""}, {"homeserver": os.getpid()})
    with pytest.raises(Unavailable, match="no Opsroom runs"):
        upfile.read(tmp_path)


def test_info_knows_the_dead_from_the_living(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with only_one(tmp_path):
        upfile.write(tmp_path, {}, {"homeserver": os.getpid(), "control-plane": child.pid})
        pids = upfile.read(tmp_path)["pids"]
    assert pids == {"control_plane": None, "homeserver": os.getpid(), "gateway": None, "storage": None}


def test_what_is_remembered_is_merged_and_what_was_written_by_hand_stays(tmp_path: Path) -> None:
    (tmp_path / "opsroom.yaml").write_text("log_level: debug\nembedded: {client_port: 8080}\n")
    config.remember(tmp_path, {"embedded": {"homeserver_port": 8008}})
    settings = config.load(tmp_path)
    assert settings.log_level == "debug"
    assert (settings.embedded.client_port, settings.embedded.homeserver_port) == (8080, 8008)


def test_what_is_remembered_is_read_by_those_who_could_read_it_before(tmp_path: Path) -> None:
    path = tmp_path / "opsroom.yaml"
    config.remember(tmp_path, {"embedded": {"homeserver_port": 8008}})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    config.remember(tmp_path, {"embedded": {"homeserver_port": 8009}})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_is_left_alone_when_nothing_new_is_to_be_remembered(tmp_path: Path) -> None:
    text = "# mine\nembedded: {client_port: 8080}\n"
    (tmp_path / "opsroom.yaml").write_text(text)
    config.remember(tmp_path, {"embedded": {"client_port": 8080}})
    assert (tmp_path / "opsroom.yaml").read_text() == text


@pytest.mark.parametrize(
    ("homeserver", "port", "ours"),
    [("", 0, True), ("http://127.0.0.1:8008", 8008, True), ("http://127.0.0.1:8008", 0, False), ("http://x", 8, False)],
)
def test_a_homeserver_is_ours_when_we_chose_its_address(homeserver: str, port: int, ours: bool) -> None:
    settings = config.Settings(
        homeserver=config.HomeserverSettings(url=homeserver), embedded=config.EmbeddedSettings(homeserver_port=port)
    )
    assert settings.own_homeserver is ours


def test_what_is_private_stays_so_in_a_data_directory_that_everybody_may_enter(tmp_path: Path) -> None:
    names = ("storage_port", "storage_master_port", "storage_volume_port", "storage_filer_port", "homeserver_port")
    settings = config.load(tmp_path, embedded={name: 20_000 + number for number, name in enumerate(names)})
    private = (*(tmp_path / name for name in ("homeserver", "logs", "secrets", "storage")), settings.run_dir)
    for folder in (tmp_path, *private):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    prepare(settings)
    assert {folder: stat.S_IMODE(folder.stat().st_mode) for folder in private} == dict.fromkeys(private, 0o700)


def test_a_second_start_keeps_every_secret_and_follows_a_new_port(tmp_path: Path) -> None:
    def start(port: int) -> tuple[dict[str, Any], dict[str, Any], str]:
        settings = config.load(tmp_path, homeserver={"listen_port": port})
        ensure_registration(settings)
        synapse.prepare(settings, tmp_path / "homeserver" / "registration.yaml", port + 1)
        home = tmp_path / "homeserver"
        files = [yaml.safe_load((home / name).read_text()) for name in ("registration.yaml", "homeserver.yaml")]
        return files[0], files[1], (home / "signing.key").read_text()

    (first, first_server, key), (second, second_server, same_key) = start(9000), start(9100)
    assert key == same_key
    assert first | {"url": second["url"]} == second
    assert second["url"] == "http://127.0.0.1:9100"
    assert second_server["listeners"][0]["port"] == 9101
    secrets = json.loads((tmp_path / "secrets" / "homeserver.json").read_text())
    assert all(first_server[name] == second_server[name] == value for name, value in secrets.items())


def test_the_registration_of_a_homeserver_of_ones_own_is_never_rewritten(tmp_path: Path) -> None:
    def registered(port: int) -> str:
        flags = {"url": "https://matrix.example.org", "server_name": "example.org", "listen_port": port}
        ensure_registration(config.load(tmp_path, homeserver=flags))
        return (tmp_path / "homeserver" / "registration.yaml").read_text()

    assert registered(9000) == registered(9100)
