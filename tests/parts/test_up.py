"""`opsroom up` with the real stack: Synapse, Envoy, SeaweedFS and the control plane."""

import json
import os
import signal
import socket
from pathlib import Path

import aiohttp
import pytest
import yaml

from appservice.embedded.files import check_disk
from appservice.embedded.synapse import homeserver_yaml
from appservice.errors import Limit
from appservice.store import lease
from tests.support.children import free_port, until
from tests.support.synapse import SERVER_NAME, running_synapse
from tests.support.up import Running, all_gone, opsroom, pids, start

KEYS = {
    *("homeserver", "server_name", "operator", "password_file", "ops_room", "client", "data_dir"),
    *("api", "backend", "gateway", "storage", "pids"),
}
PARTS = {"control_plane", "homeserver", "gateway", "storage"}


async def test_info_says_exactly_what_scripts_rely_on(up: Running) -> None:
    info = await up.info()
    assert set(info) == KEYS
    assert set(info["pids"]) == PARTS
    assert info["operator"] == "@op:ops.local"
    assert info["ops_room"].startswith("!")
    assert len(pids(info)) == 4
    assert info["api"].startswith("http://127.0.0.1:")


async def test_the_operator_can_log_in_and_is_in_the_ops_room(up: Running) -> None:
    info = await up.info()
    login = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": info["operator"]},
        "password": Path(info["password_file"]).read_text().strip(),
    }
    async with aiohttp.ClientSession(info["homeserver"]) as http:
        async with http.post("/_matrix/client/v3/login", json=login) as answer:
            token = (await answer.json())["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        async with http.get("/_matrix/client/v3/joined_rooms", headers=headers) as answer:
            assert info["ops_room"] in (await answer.json())["joined_rooms"]


async def test_a_second_up_on_the_same_folder_is_refused_in_a_sentence(up: Running) -> None:
    refused = await opsroom("up", "--data-dir", up.data_dir, "--no-web")
    assert refused.code == 1
    assert f"another `opsroom up` (process {up.process.pid}) already runs" in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    assert up.process.returncode is None


async def test_up_behind_a_control_plane_that_works_already_names_it_and_starts_nothing(up_dir: Path) -> None:
    with lease.at_once(up_dir / "opsroom.db"):
        refused = await opsroom("up", "--data-dir", up_dir, "--no-web")
    assert refused.code == 1
    assert f"process {os.getpid()} on {socket.gethostname()} works on {up_dir / 'opsroom.db'}." in refused.err
    assert "Stop it first" in refused.err
    assert sorted(path.name for path in up_dir.iterdir()) == ["opsroom.db.lock", "up.lock"]


async def test_doctor_finds_nothing_wrong_and_says_so_line_by_line(up: Running) -> None:
    await up.info()
    told = await opsroom("doctor", "--data-dir", up.data_dir)
    assert "FAIL" not in told.out, told.out
    assert told.code == 0
    machine = json.loads((await opsroom("doctor", "--json", "--data-dir", up.data_dir)).out)
    assert {"control plane", "homeserver", "gateway", "storage", "disk", "registration", "clock"} <= {
        check["part"] for check in machine["checks"]
    }


async def test_provider_keys_reach_the_control_plane_and_nothing_else(up: Running) -> None:
    info = await up.info()
    for name, pid in info["pids"].items():
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert (b"sk-test-of-up" in environment) is (name == "control_plane"), name


async def test_no_secret_is_in_a_command_line_or_readable_by_others(up: Running) -> None:
    info = await up.info()
    secrets = up.data_dir / "secrets"
    known = [text for file in secrets.iterdir() if len(text := file.read_text().strip()) < 100]
    for pid in pids(info):
        command = Path(f"/proc/{pid}/cmdline").read_text()
        assert not any(secret in command for secret in known)
    private = [*secrets.iterdir(), up.data_dir / "up.json", up.data_dir / "homeserver" / "registration.yaml"]
    assert [path for path in private if path.stat().st_mode & 0o077] == []
    assert not any(secret in (up.data_dir / "opsroom.yaml").read_text() for secret in known)


@pytest.mark.parametrize("part", ["control_plane", "storage", "gateway", "homeserver"])
async def test_a_killed_part_comes_back_and_info_knows_its_new_process(up: Running, part: str) -> None:
    before = (await up.info())["pids"][part]
    os.kill(before, signal.SIGKILL)
    name = part.replace("_", "-")
    await up.says(f"{name} ended (SIGKILL)")
    await up.says(f"{name} is back")
    after = (await up.info())["pids"][part]
    assert after
    assert after != before


async def test_ctrl_c_stops_everything_and_the_next_start_resumes_the_same_world(up_dir: Path) -> None:
    first = await start(up_dir)
    was = await first.info()
    assert await first.stop(signal.SIGINT) == 0
    assert all_gone(pids(was))
    assert (await opsroom("info", "--data-dir", up_dir)).code == 5
    password = Path(was["password_file"]).read_text()
    second = await start(up_dir)
    now = await second.info()
    same = ("ops_room", "operator", "homeserver", "storage", "password_file")
    assert {key: now[key] for key in same} == {key: was[key] for key in same}
    assert Path(now["password_file"]).read_text() == password
    assert await second.stop(signal.SIGTERM) == 0
    assert all_gone(pids(now))


async def test_a_second_ctrl_c_ends_everything_at_once(up_dir: Path) -> None:
    running = await start(up_dir)
    info = await running.info()
    running.process.send_signal(signal.SIGINT)
    await running.says("stopping")
    assert await running.stop(signal.SIGINT) == 130
    assert all_gone(pids(info))


async def test_ctrl_c_while_it_starts_leaves_nothing(up_dir: Path) -> None:
    running = await start(up_dir)
    await running.says("homeserver ready")
    assert await running.stop() == 130
    assert (await opsroom("info", "--data-dir", up_dir)).code == 5


async def test_kill_9_of_up_takes_all_its_parts_with_it(up_dir: Path) -> None:
    running = await start(up_dir)
    parts = pids(await running.info())
    running.process.kill()
    await running.process.wait()
    await until(lambda: all_gone(parts))
    assert (await opsroom("info", "--data-dir", up_dir)).code == 5


async def test_busy_ports_are_stepped_over_and_named(up_dir: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = busy.getsockname()[1]
        up_dir.mkdir(parents=True)
        (up_dir / "opsroom.yaml").write_text(yaml.safe_dump({"embedded": {"homeserver_port": taken}}))
        running = await start(up_dir)
        line = await running.says(f"Port {taken} is taken")
        assert str(os.getpid()) in line
        info = await running.info()
        assert info["homeserver"] != f"http://127.0.0.1:{taken}"
        await running.stop()


async def test_a_part_that_cannot_start_is_named_and_the_rest_shut_down(up_dir: Path) -> None:
    (up_dir / "homeserver").mkdir(parents=True)
    (up_dir / "homeserver" / "homeserver.db").write_text("this is no database, and long enough to be read as one" * 90)
    running = await start(up_dir)
    assert await running.ended() == 5
    assert "homeserver did not start in 4 tries" in running.said
    assert "everything is stopped" in running.said
    assert "Traceback" not in running.said


async def test_the_server_name_of_a_world_cannot_change(up_dir: Path) -> None:
    home = up_dir / "homeserver"
    home.mkdir(parents=True)
    document = homeserver_yaml("first.local", home, home / "registration.yaml", 1)
    (home / "homeserver.yaml").write_text(yaml.safe_dump(document))
    refused = await opsroom("up", "--data-dir", up_dir, "--no-web", OPSROOM_HOMESERVER__SERVER_NAME="second.local")
    assert refused.code == 2
    assert "belongs to the homeserver `first.local`" in refused.err


def test_too_little_disk_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(Limit, match="MB are free"):
        check_disk(tmp_path, least=10**18)


async def test_with_a_homeserver_of_ones_own_it_explains_waits_and_goes_on(up_dir: Path) -> None:
    port, listen = free_port(), free_port()
    running = await start(
        up_dir,
        *("--homeserver", f"http://127.0.0.1:{port}", "--server-name", SERVER_NAME, "--operator", f"@me:{SERVER_NAME}"),
        *("--listen", f"127.0.0.1:{listen}", "--no-web", "--backend", "process"),
    )
    await running.says("app_service_config_files")
    registration = up_dir / "homeserver" / "registration.yaml"
    async with running_synapse(up_dir.parent / "own", registration, port=port):
        await running.says("knows Opsroom")
        info = await running.info()
        assert info["homeserver"] == f"http://127.0.0.1:{port}"
        assert info["operator"] == f"@me:{SERVER_NAME}"
        assert info["password_file"] is None
        assert info["pids"]["homeserver"] is None
        assert await running.stop() == 0


async def test_opsroom_alone_gives_next_steps_instead_of_an_error(tmp_path: Path) -> None:
    told = await opsroom(OPSROOM_DATA_DIR=str(tmp_path))
    assert told.code == 0
    assert "opsroom up" in told.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "--homeserver", "http://x"), "--server-name"),
        (("up", "--listen", "nonsense"), "HOST:PORT"),
        (("up", "--backend", "moon"), "moon"),
        (("frobnicate",), "frobnicate"),
    ],
)
async def test_wrong_usage_is_exit_code_2_and_a_sentence(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    told = await opsroom(*arguments, OPSROOM_DATA_DIR=str(tmp_path / "w"))
    assert told.code == 2
    assert said in told.err
    assert "Traceback" not in told.err
