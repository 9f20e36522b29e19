"""Two control planes on one database: the second waits, opens nothing, and goes on where the first one ended."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appservice import config
from tests.support import faults
from tests.support.away import another, held_off
from tests.support.provider import Say
from tests.support.stack import Stack, opened

pytestmark = pytest.mark.timeout(300)
WAITS = "which works on this database"


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[Stack]:
    """A stack of our own, because its control plane dies."""
    async with opened() as stack:
        yield stack


def waits(log: Path, pid: int) -> bool:
    return f"waits for process {pid} on {socket.gethostname()}, {WAITS}" in log.read_text()


async def test_a_second_control_plane_waits_and_takes_over_when_the_first_is_killed(
    guarded: Stack, tmp_path: Path
) -> None:
    room = await guarded.worker("heir")
    guarded.provider.when("a long answer", Say(words=40, delay=0.1))
    first, log = faults.pid_of(guarded, "control_plane"), tmp_path / "second.log"
    async with another(guarded, log) as second:
        await faults.until(lambda: waits(log, first), "the second one to wait")
        question = await guarded.ask(room, "heir", "a long answer")
        await guarded.op.answer_to(question, "word2")
        with held_off(guarded):
            os.kill(first, signal.SIGKILL)
            last = await guarded.ask(room, "heir", "and who are you?")
            await guarded.op.answer_to(question, "word40", faults.PATIENCE_S)
            await guarded.op.answer_to(last, "You said", faults.PATIENCE_S)
            await faults.all_done(guarded)
            assert log.read_text().count(WAITS) == 1
            assert "takes over the database" in log.read_text()

        theirs = guarded.data_dir / "logs" / "control-plane.log"
        await faults.until(lambda: waits(theirs, second.pid), "the supervisor's next one to wait")
        second.terminate()
        assert await asyncio.wait_for(second.wait(), 20) == 0
    await faults.replaced(guarded, "control_plane", first)
    assert "Opsroom" in (await guarded.command("!version", faults.PATIENCE_S)).text

    assert [len(guarded.op.answers(each)) for each in (question, last)] == [1, 1]
    assert guarded.op.answers(question)[0].text.split() == [f"word{n}" for n in range(1, 41)]
    assert faults.twice(guarded) == []
    assert await faults.traces(guarded) == faults.expected(guarded, ["heir"])


async def test_one_that_waits_opens_no_door_and_ends_when_it_is_told_to(guarded: Stack, tmp_path: Path) -> None:
    first, log = faults.pid_of(guarded, "control_plane"), tmp_path / "second.log"
    port = config.load(guarded.data_dir).homeserver.listen_port
    before = (guarded.data_dir / "opsroom.db.lock").read_text()
    async with another(guarded, log) as second:
        await faults.until(lambda: waits(log, first), "it to wait")
        assert port not in listening(second.pid)
        assert port in listening(first)
        second.terminate()
        assert await asyncio.wait_for(second.wait(), 30) == 0
    assert (guarded.data_dir / "opsroom.db.lock").read_text() == before
    assert "Opsroom" in (await guarded.command("!version")).text


def listening(pid: int) -> set[int]:
    """Ports on which a process accepts TCP connections."""
    sockets = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(fd))
        except FileNotFoundError:
            continue
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}
