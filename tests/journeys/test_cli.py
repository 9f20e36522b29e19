"""The commands of the room in a shell, as processes of their own, at a whole running Opsroom."""

import asyncio
import json
import os
import pty
import re
import shutil
import signal
import subprocess
from asyncio.subprocess import PIPE
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from appservice.cli.completion import SHELLS
from tests.support import up
from tests.support.stack import Stack, document, worker_yaml
from tests.support.up import Ended

Run = Callable[..., Coroutine[Any, Any, Ended]]


@pytest.fixture
def cli(stack: Stack) -> Run:
    """`opsroom ...` on the data directory of the stack."""

    async def run(*words: object, **environment: str) -> Ended:
        return await up.opsroom(*words, OPSROOM_DATA_DIR=str(stack.data_dir), **environment)

    return run


@pytest.fixture
async def alice(cli: Run, tmp_path: Path) -> Path:
    """A worker that is there, and its file."""
    file = tmp_path / "cli-alice.yaml"
    file.write_text(worker_yaml("cli-alice", state="Stopped", soul="brief") + "# a remark\n")
    done = await cli("apply", "-f", file)
    assert done.code == 0, done
    return file


async def test_a_file_is_applied_and_waited_for(cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "first.yaml"
    file.write_text(worker_yaml("cli-first", state="Stopped"))

    planned = await cli("apply", "-f", file, "--dry-run")
    assert "create worker/cli-first" in planned.out
    assert "There is no" in (await cli("get", "worker/cli-first")).err
    done = await cli("apply", "-f", file)
    assert (done.code, done.out.strip()) == (0, "created worker/cli-first — stopped.")
    assert "working" in done.err
    again = await cli("apply", "-f", file)
    assert "No changes" in again.out

    file.write_text(worker_yaml("cli-first", state="Stopped", modle="x"))
    wrong = await cli("apply", "-f", file)
    assert wrong.code == 2
    assert "Did you mean model?" in wrong.err
    assert "first.yaml has 1 problem" in wrong.err
    assert "line 8" in wrong.err
    assert wrong.out == ""
    assert (await cli("delete", "worker/cli-first", "--yes")).code == 0


async def test_folders_and_standard_input_are_applied_as_one(cli: Run, stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(worker_yaml("cli-dir-a", state="Stopped"))
    (tmp_path / "b.yml").write_text("---\n" + worker_yaml("cli-dir-b", state="Stopped"))
    (tmp_path / "notes.txt").write_text("not this")
    done = await cli("apply", "-f", tmp_path, "--no-wait")
    assert done.out.splitlines() == ["created worker/cli-dir-a", "created worker/cli-dir-b"]
    (tmp_path / "b.yml").write_text(worker_yaml("cli-dir-b", state="Asleep"))
    wrong = await cli("apply", "-f", tmp_path)
    assert (wrong.code, "b.yml, line 7" in wrong.err) == (2, True)

    process = await asyncio.create_subprocess_exec(
        *(*up.OPSROOM, "diff", "-f", "-", "--data-dir", str(stack.data_dir)), stdin=PIPE, stdout=PIPE
    )
    out, _ = await process.communicate(worker_yaml("cli-dir-a", state="Stopped", model="other").encode())
    assert "spec.model: gpt-test → other; from its next turn on" in out.decode()
    nothing = await cli("apply")
    assert (nothing.code, "-f team.yaml" in nothing.err) == (2, True)


async def test_objects_are_shown_in_every_form(cli: Run, alice: Path) -> None:
    table = (await cli("get", "workers")).out.splitlines()
    assert table[0].split()[:3] == ["NAME", "STATE", "MODEL"]
    [row] = [line for line in table if line.startswith("cli-alice ")]
    assert row.index("Stopped") == table[0].index("STATE")
    wide = (await cli("get", "worker", "cli-alice", "-o", "wide")).out.splitlines()
    assert {"MATRIX", "ROOM", "GENERATION"} <= set(wide[0].split())
    assert "@agent-cli-alice:" in wide[1]

    found = yaml.safe_load((await cli("get", "worker/cli-alice", "-o", "yaml")).out)
    assert found["spec"] == {"model": "gpt-test", "soul": "brief", "state": "Stopped"}
    assert found["status"]["phase"] == "Stopped"
    assert json.loads((await cli("get", "worker/cli-alice", "-o", "json")).out) == found
    every: dict[str, Any] = json.loads((await cli("get", "all", "-o", "json")).out)
    assert found in every["items"]
    assert "worker/cli-alice" in (await cli("get", "all", "-o", "name")).out.splitlines()
    assert (await cli("get", "workers", "-l", "nobody=has", "-o", "name")).out.strip() == ""


async def test_what_the_room_says_is_said_here(cli: Run, stack: Stack, alice: Path) -> None:
    described = await cli("describe", "worker/cli-alice")
    assert "worker/cli-alice" in described.out
    assert "Conditions" in described.out
    assert "**" not in described.out
    assert "created by @op" in (await cli("history", "cli-alice")).out
    assert "may ask" in (await cli("explain", stack.op.user, "cli-alice")).out
    assert "objects are well" in (await cli("status")).out
    assert "@op → worker/cli-alice (apply, rule: operator)" in (await cli("audit", "cli-alice")).out
    assert "# a remark" in (await cli("edit", "worker/cli-alice")).out
    assert "# a remark" in (await cli("export")).out

    assert "changed worker/cli-alice" in (await cli("set", "worker/cli-alice", "soul=Be kind: always.")).out
    assert "spec.soul: Be kind: always. → brief" in (await cli("diff", "-f", alice)).out
    assert "changed worker/cli-alice" in (await cli("rollback", "cli-alice")).out
    assert "soul: brief" in (await cli("get", "worker/cli-alice", "-o", "yaml")).out
    assert "Paused" in (await cli("pause", "worker/cli-alice")).out
    assert "Paused" in (await cli("get", "worker/cli-alice")).out
    assert (await cli("resume", "worker/cli-alice")).code == 0

    for words, code, said in (
        (("describe", "worker/cli-alicia"), 1, "Did you mean"),
        (("set", "worker/cli-alice", "modle=x"), 2, "Did you mean model?"),
        (("restart", "human/nobody"), 1, "there is no"),
    ):
        wrong = await cli(*words)
        assert (wrong.code, wrong.out) == (code, "")
        assert said.lower() in wrong.err.lower()
    assert (await cli("get", "frogs/x")).code == 2
    assert (await cli("delete")).code == 2
    assert (await cli("get", "-o", "xml")).code == 2


async def test_an_edit_is_applied_or_kept(cli: Run, stack: Stack, alice: Path, tmp_path: Path) -> None:
    async def edit(script: str) -> tuple[int, str]:
        """On a terminal, which is where an editor is."""
        editor = tmp_path / "editor"
        editor.write_text(f"#!/bin/sh -e\n{script}\n")
        editor.chmod(0o755)
        here, there = pty.openpty()
        more = {"OPSROOM_DATA_DIR": str(stack.data_dir), "EDITOR": str(editor), "TMPDIR": str(tmp_path)}
        process = await asyncio.create_subprocess_exec(
            *(*up.OPSROOM, "edit", "worker/cli-alice"), stdin=there, stdout=there, stderr=PIPE, env=os.environ | more
        )
        _, told = await process.communicate()
        os.close(here)
        os.close(there)
        return process.returncode or 0, told.decode()

    def kept(told: str) -> Path:
        found = re.search(r"kept in (\S+)\. ", told)
        assert found, told
        return Path(found[1])

    assert await edit(":") == (0, "Nothing was changed.\n")
    code, _ = await edit("sed -i 's/soul: brief/soul: kind/' $1")
    assert (code, "soul: kind" in (await cli("get", "worker/cli-alice", "-o", "yaml")).out) == (0, True)
    code, told = await edit("sed -i 's/soul: kind/soul: [/' $1")
    assert (code, "soul: [" in kept(told).read_text()) == (2, True)
    code, told = await edit("sed -i 's/soul: kind/soul: lost/' $1; exit 3")
    assert (code, "soul: lost" in kept(told).read_text()) == (1, True)
    meanwhile = f"{' '.join(up.OPSROOM)} set cli-alice model=meanwhile; sed -i 's/soul: kind/soul: mine/' $1"
    code, told = await edit(meanwhile)
    assert (code, "it has changed while you edited it" in told) == (1, True)
    assert "soul: mine" in kept(told).read_text()
    now = (await cli("get", "worker/cli-alice", "-o", "yaml")).out
    assert ("model: meanwhile" in now, "soul: kind" in now) == (True, True)


async def test_waiting_for_a_condition_a_phase_and_an_end(cli: Run, alice: Path) -> None:
    ready = await cli("wait", "worker/cli-alice", "--for=condition=Ready", "--timeout", "30s")
    assert (ready.code, ready.out.strip()) == (0, "worker/cli-alice: condition=Ready")
    waiting = asyncio.create_task(cli("wait", "cli-alice", "--for", "phase=Running", "--timeout", "60"))
    assert (await cli("set", "cli-alice", "state=Running")).code == 0
    assert (await waiting).code == 0
    late = await cli("wait", "cli-alice", "--for", "phase=Stopped", "--timeout", "1s")
    assert (late.code, "is not Stopped after 1s" in late.err) == (1, True)
    assert (await cli("wait", "cli-nobody")).code == 1
    assert (await cli("wait", "cli-alice", "--for", "luck")).code == 2
    assert (await cli("wait", "cli-alice", "--timeout", "soon")).code == 2

    end = asyncio.create_task(cli("wait", "cli-alice", "--for", "delete", "--timeout", "60"))
    gone = await cli("delete", "worker/cli-alice", "--files", "delete", "--yes")
    assert (gone.code, "Deleted worker/cli-alice" in gone.out) == (0, True)
    assert (await end).code == 0


async def test_what_happened_and_what_was_written(cli: Run, stack: Stack) -> None:
    await stack.worker("cli-talker")
    events = (await cli("events", "worker/cli-talker")).out.splitlines()
    assert events[0].split() == ["AGE", "WHAT", "TIMES", "MESSAGE"]
    assert any("SandboxReady" in line for line in events)

    log = stack.data_dir / "sandboxes" / "cli-talker" / "log"
    with log.open("a") as written:  # its process's stdout
        written.write("first line\n")
        written.flush()
        assert (await cli("logs", "cli-talker", "-n", "1")).out == "first line\n"
        process = await asyncio.create_subprocess_exec(
            *(*up.OPSROOM, "logs", "cli-talker", "-f", "--data-dir", str(stack.data_dir)), stdout=PIPE
        )
        assert process.stdout
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"first line\n"
        written.write("second line\n")
        written.flush()
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"second line\n"
        process.terminate()
        await process.wait()


async def test_changes_are_followed(stack: Stack, alice: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*up.OPSROOM, "get", "worker/cli-alice", "-w", "--data-dir", str(stack.data_dir)),
        stdout=PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # tests in the background would ignore it
    )
    assert process.stdout
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"worker/cli-alice  Stopped  gpt-test  native\n"
    await stack.command("!set cli-alice model=followed")
    updating, done = (f"worker/cli-alice  {state}  followed  native\n".encode() for state in ("Updating", "Stopped"))
    while (line := await asyncio.wait_for(process.stdout.readline(), 30)) != done:
        assert line == updating
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130


async def test_a_team_is_listed_with_how_many_are_ready(cli: Run, tmp_path: Path) -> None:
    spec = {
        "leader": "{name: cli-lead, model: m, state: Stopped}",
        "workers": "[{name: cli-w, model: m, state: Stopped}]",
    }
    (tmp_path / "team.yaml").write_text(document("Team", "cli-team", **spec))
    assert (await cli("apply", "-f", tmp_path / "team.yaml", "--no-wait")).code == 0
    head, row = (await cli("get", "team/cli-team")).out.splitlines()
    assert head.split()[:3] == ["NAME", "STATE", "LEADER"]
    assert row[head.index("LEADER") :].startswith("cli-lead")
    part = await cli("set", "worker/cli-w", "model=x")
    assert (part.code, "is part of team/cli-team" in part.err) == (1, True)

    (tmp_path / "team.yaml").write_text(document("Team", "cli-team", **spec | {"workers": "[]"}))
    for no_wait in ((), ("--no-wait",)):
        smaller = await cli("apply", "-f", tmp_path / "team.yaml", *no_wait)
        assert (smaller.code, smaller.out, "Say --yes to do it." in smaller.err) == (2, "", True)
    assert "destroys worker/cli-w." in smaller.err
    done = await cli("apply", "-f", tmp_path / "team.yaml", "--no-wait", "--yes")
    assert (done.code, done.out) == (0, "changed team/cli-team\n")


async def test_another_opsroom_is_asked_with_a_token(cli: Run, stack: Stack, alice: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(stack.op.token + "\n")
    at = {"OPSROOM_SERVER": stack.info["api"], "OPSROOM_TOKEN_FILE": str(token)}
    elsewhere = {"OPSROOM_DATA_DIR": str(tmp_path / "nothing-here")}
    found = await up.opsroom("get", "worker/cli-alice", "-o", "name", **at, **elsewhere)
    assert found.out.strip() == "worker/cli-alice"
    flags = ("--server", stack.info["api"], "--token-file", token)
    assert "cli-alice" in (await up.opsroom("describe", "cli-alice", *flags, **elsewhere)).out

    token.write_text("syt_of_nobody")
    refused = await up.opsroom("get", **at, **elsewhere)
    assert (refused.code, "does not know this access token" in refused.err) == (3, True)
    somebody = await stack.somebody("cli-guest")
    token.write_text(somebody.token)
    assert (await up.opsroom("get", **at, **elsewhere)).code == 3
    assert (await up.opsroom("status", **at, **elsewhere)).code == 3

    assert (await up.opsroom("get", **elsewhere)).code == 5
    away = await up.opsroom("get", "--server", "http://127.0.0.1:9", "--token-file", token)
    assert (away.code, "does not answer" in away.err) == (5, True)
    for flags_ in (("--server", "ops.example.org"), ("--server", "https://ops.example.org")):
        assert (await up.opsroom("get", *flags_)).code == 2
    clear = await up.opsroom("get", "--server", "http://ops.example.org", "--token-file", token)
    assert (clear.code, "in the clear" in clear.err) == (2, True)


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_shell_accepts_its_completion(shell: str) -> None:
    script = (await up.opsroom("completion", shell)).out
    assert "--filename" in script or "filename" in script
    assert "opsroom get all -o name" in script
    if shutil.which(shell):
        flag = ["--no-execute"] if shell == "fish" else ["-n"]
        checked = subprocess.run([shell, *flag], input=script, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


async def test_bash_completes_commands_flags_and_names(cli: Run, stack: Stack, alice: Path, tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text((await up.opsroom("completion", "bash")).out)
    (tmp_path / "opsroom").write_text(f'#!/bin/sh\nexec {" ".join(up.OPSROOM)} "$@"\n')
    (tmp_path / "opsroom").chmod(0o755)

    def completed(*words: str) -> list[str]:
        line = " ".join(f"'{word}'" for word in words)
        body = (
            f"source {script}; COMP_WORDS=(opsroom {line}); COMP_CWORD={len(words)}; _opsroom;"
            ' printf "%s\\n" "${COMPREPLY[@]}"'
        )
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "OPSROOM_DATA_DIR": str(stack.data_dir)}
        return subprocess.run(["bash", "-c", body], capture_output=True, text=True, env=environment).stdout.split()

    assert set(completed("des")) == {"describe", "desc"}
    assert completed("get", "-o", "y") == ["yaml"]
    assert "--no-wait" in completed("apply", "--")
    assert "worker/cli-alice" in await asyncio.to_thread(completed, "describe", "worker/")
