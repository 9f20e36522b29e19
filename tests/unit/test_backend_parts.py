"""The pure halves of the backends."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from appservice.backends import bubblewrap, seccomp
from appservice.backends.events import RESYNC, EventQueue
from appservice.backends.image import agent_requirements
from appservice.backends.inside import environment, exit_phrase
from appservice.backends.process_state import LOG_BYTES, Identity, ProcessState
from appservice.backends.protocol import BackendEvent, Sandbox

ALLOW, REFUSE = 0x7FFF0000, 0x00050001
SANDBOX = Sandbox(
    name="alice", image="i", gateway_dir=Path("/d/gateway"), agent_dir=Path("/d/agent"), secrets_dir=Path("/d/secrets")
)


def run_filter(program: bytes, *, architecture: int, number: int, argument: int = 0) -> int:
    """What the kernel would do: load, compare and jump as classic BPF says."""
    code = list(struct.iter_unpack("=HBBI", program))
    data = {0: number, 4: architecture, 16: argument}
    at, value = 0, 0
    while True:
        operation, hit, miss, constant = code[at]
        at += 1
        if operation == 0x20:
            value = data[constant]
        elif operation == 0x06:
            return int(constant)
        else:
            holds = value == constant if operation == 0x15 else value >= constant
            at += hit if holds else miss


@pytest.mark.parametrize(
    ("number", "argument", "verdict"),
    [
        pytest.param(0, 0, ALLOW, id="read"),
        pytest.param(41, 1, ALLOW, id="unix socket"),
        pytest.param(41, 2, ALLOW, id="internet socket"),
        pytest.param(41, 40, REFUSE, id="vsock"),
        pytest.param(40, 40, ALLOW, id="another call with that argument"),
        pytest.param(101, 0, REFUSE, id="ptrace, the first of the list"),
        pytest.param(165, 0, REFUSE, id="mount"),
        pytest.param(272, 0, REFUSE, id="unshare"),
        pytest.param(442, 0, REFUSE, id="mount_setattr, the last of the list"),
        pytest.param(443, 0, ALLOW, id="one beyond the list"),
        pytest.param(0x40000000 + 165, 0, REFUSE, id="x32"),
    ],
)
def test_the_filter_refuses_what_it_names(number: int, argument: int, verdict: int) -> None:
    program = seccomp.program("x86_64")
    assert run_filter(program, architecture=0xC000003E, number=number, argument=argument) == verdict


def test_the_filter_refuses_another_architectures_numbers() -> None:
    assert run_filter(seccomp.program("x86_64"), architecture=0x40000003, number=0) == REFUSE


def test_an_architecture_without_a_list_is_not_filtered_and_says_so() -> None:
    assert not seccomp.has_filter("riscv64")
    assert run_filter(seccomp.program("riscv64"), architecture=1, number=165) == ALLOW


@pytest.mark.parametrize(
    ("code", "phrase"),
    [(None, ""), (0, ""), (3, "exit code 3"), (137, "killed by SIGKILL"), (255, "exit code 255")],
)
def test_how_a_program_ended_is_said_in_a_phrase(code: int | None, phrase: str) -> None:
    assert exit_phrase(code) == phrase


def test_a_declared_variable_cannot_change_the_agents_name_or_home() -> None:
    found = environment(replace(SANDBOX, environment={"HOME": "/", "OPSROOM_AGENT": "bob", "LANG": "C"}))
    assert (found["HOME"], found["OPSROOM_AGENT"], found["LANG"]) == ("/home/agent", "alice", "C")


async def test_a_slow_reader_gets_one_resync_for_what_it_missed() -> None:
    queue = EventQueue(length=3)
    for n in range(4):
        queue.offer(BackendEvent(name=f"a{n}", action="die"))
    queue.offer(BackendEvent(name="later", action="die"))
    assert [await queue.next(), (await queue.next()).name] == [RESYNC, "later"]


def test_a_virtual_environment_needs_its_python_too(tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "base" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").write_text(f"home = {tmp_path}/base/bin\nversion = 3.12.1\n")
    (tmp_path / "base" / "bin" / "python3").touch()
    (tmp_path / "venv" / "bin" / "python").symlink_to(tmp_path / "base" / "bin" / "python3")
    found = bubblewrap.python_folders(str(tmp_path / "venv" / "bin" / "python"))
    assert found == [tmp_path / "venv", tmp_path / "base"]


def test_the_systems_python_needs_nothing_beyond_usr() -> None:
    assert bubblewrap.python_folders("/usr/bin/python3") == []


@pytest.mark.parametrize("stage", [True, False])
def test_a_sandbox_shares_no_namespace_and_no_folder_but_the_door(stage: bool) -> None:
    what = bubblewrap.launch(
        SANDBOX, python="/usr/bin/python3", command=None, etc=Path("/s/etc"), stage=stage, count_inside=False
    )
    assert {"--unshare-all", "--disable-userns", "--clearenv"} <= set(what.options)
    assert "--share-net" not in what.options
    writable = [what.options[at + 2] for at, option in enumerate(what.options) if option == "--bind"]
    assert writable == ["/run/opsroom/agent"]
    assert what.command == ("/usr/bin/python3", "-P", "-m", "runtime")
    assert {"/d/gateway", "/d/agent", "/d/secrets"} <= set(what.staged)


def test_a_process_of_another_boot_is_dead_whatever_its_pid() -> None:
    assert not Identity(pid=1, born="0", boot="another").alive()


def test_an_unfinished_creation_is_no_sandbox(tmp_path: Path) -> None:
    state = ProcessState(folder=tmp_path / "alice")
    state.folder.mkdir()
    (state.folder / "options").touch()
    assert state.observed(0).state == "absent"


def test_a_long_log_keeps_its_end(tmp_path: Path) -> None:
    state = ProcessState(folder=tmp_path)
    with state.log.open("ab") as writer:
        writer.write(b"x" * LOG_BYTES + b"\nlast words\n")
        writer.flush()
        state.trim_log()
        writer.write(b"more\n")
    assert state.log.stat().st_size == len(b"more\n")
    assert state.tail(2) == "last words\nmore\n"


def test_the_image_gets_what_the_agents_extra_declares() -> None:
    found = agent_requirements()
    assert any(one.startswith("pydantic-ai-slim") for one in found)
    assert not any(one.startswith(("docker", "mautrix", "matrix-synapse")) for one in found)
