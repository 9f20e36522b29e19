"""The supervisor, with real small processes."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from appservice.embedded import probes
from appservice.embedded import supervisor as supervising
from appservice.embedded.child import Component
from appservice.embedded.supervisor import Limits, Supervisor, trim
from appservice.errors import Unavailable
from tests.support.children import SERVER, free_port, python, runs, until

FOREVER = "import time\nprint('up', flush=True)\ntime.sleep(600)"
QUICK = Limits(first_s=0.01, longest_s=0.05, failed_starts=3)


async def alive(_pid: int) -> bool:
    return True


async def never(_pid: int) -> bool:
    return False


class Watched:
    """A supervisor and what it said."""

    def __init__(self, logs: Path, limits: Limits = QUICK) -> None:
        self.said: list[str] = []
        self.logs = logs
        self.supervisor = Supervisor(logs, say=self.said.append, limits=limits)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    made = Watched(tmp_path / "logs")
    yield made
    await made.supervisor.stop()


async def test_a_component_is_started_and_what_it_prints_is_in_its_log(watched: Watched) -> None:
    await watched.supervisor.start([Component(name="one", argv=python(FOREVER), probe=alive)])
    assert runs(watched.supervisor.pids["one"])
    assert any("one ready" in line for line in watched.said)
    await until(lambda: "up" in (watched.logs / "one.log").read_text())


async def test_a_component_gets_no_environment_but_its_own(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-children")
    code = "import os, time\nprint(sorted(os.environ), flush=True)\ntime.sleep(600)"
    await watched.supervisor.start([Component(name="one", argv=python(code), probe=alive, environment={"MINE": "yes"})])
    log = watched.logs / "one.log"
    await until(lambda: "MINE" in log.read_text())
    assert "OPENAI_API_KEY" not in log.read_text()


async def test_a_killed_component_comes_back_as_a_new_process(watched: Watched) -> None:
    await watched.supervisor.start([Component(name="one", argv=python(FOREVER), probe=alive)])
    first = watched.supervisor.pids["one"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: watched.supervisor.pids.get("one", first) != first)
    await until(lambda: any("one is back" in line for line in watched.said))
    assert any("SIGKILL" in line for line in watched.said)


async def test_a_component_that_cannot_start_is_given_up_in_one_sentence(watched: Watched) -> None:
    broken = Component(name="one", argv=python("import sys; sys.exit('the cellar is full')"), probe=never)
    with pytest.raises(Unavailable) as caught:
        await watched.supervisor.start([broken])
    assert "one did not start in 3 tries (exit code 1)" in str(caught.value)
    assert "the cellar is full" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_component_that_has_run_is_given_more_tries_than_one_that_never_did(tmp_path: Path) -> None:
    watched = Watched(tmp_path, Limits(first_s=0.01, longest_s=0.02, failed_starts=2, failed_restarts=5))
    mark = tmp_path / "ran"
    code = f"import os, sys, time\nos.path.exists({str(mark)!r}) and sys.exit(1)\nopen({str(mark)!r}, 'w')\n{FOREVER}"

    pids: list[int] = []

    async def only_the_first(pid: int) -> bool:
        pids.append(pid)
        return mark.exists() and pid == pids[0]

    await watched.supervisor.start([Component(name="one", argv=python(code), probe=only_the_first)])
    try:
        os.kill(watched.supervisor.pids["one"], signal.SIGKILL)
        assert "one did not start in 5 tries" in await watched.supervisor.failed()
    finally:
        await watched.supervisor.stop()


async def test_a_component_that_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    watched = Watched(tmp_path, Limits(first_s=0.01, deaths=4))
    await watched.supervisor.start([Component(name="one", argv=python("import time; time.sleep(0.05)"), probe=alive)])
    try:
        assert "one ended 4 times" in await watched.supervisor.failed()
        await until(lambda: not watched.supervisor.pids)
    finally:
        await watched.supervisor.stop()


async def test_a_program_that_is_not_installed_is_named(watched: Watched) -> None:
    missing = Component(name="one", argv=("/no/such/program",), probe=alive)
    with pytest.raises(Unavailable, match="one"):
        await watched.supervisor.start([missing])


async def test_a_component_that_never_answers_is_stopped_and_tried_again(tmp_path: Path) -> None:
    watched = Watched(tmp_path, Limits(first_s=0.01, failed_starts=2))
    silent = Component(name="one", argv=python(FOREVER), probe=never, ready_s=0.3)
    with pytest.raises(Unavailable, match="no answer within"):
        await watched.supervisor.start([silent])
    assert not watched.supervisor.pids
    await watched.supervisor.stop()


async def test_one_whose_turn_it_is_not_may_take_its_time(tmp_path: Path) -> None:
    watched = Watched(tmp_path, Limits(first_s=0.01, failed_starts=1))
    others = ["process 7"] * 4

    async def its_turn(_pid: int) -> bool:
        return not others

    spare = Component(
        name="one",
        argv=python(FOREVER),
        probe=its_turn,
        ready_s=0.05,
        waits_for=lambda _pid: others.pop() if others else "",
    )
    await watched.supervisor.start([spare])
    assert watched.said[0] == "one waits for process 7, which does its work"
    assert [line[:9] for line in watched.said[1:]] == ["one ready"]
    await watched.supervisor.stop()


async def test_an_answer_by_a_stranger_is_not_readiness(tmp_path: Path) -> None:
    port = free_port()
    stranger = subprocess.Popen(python(SERVER, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watched = Watched(tmp_path, Limits(first_s=0.01, failed_starts=1))
    try:
        own = probes.on_port(port, "/")
        await until(lambda: stranger.poll() is None)
        async with asyncio.timeout(20):
            while not await own(stranger.pid):
                await asyncio.sleep(0.05)
        deaf = Component(name="one", argv=python(FOREVER), probe=own, ready_s=1)
        with pytest.raises(Unavailable, match="one did not start"):
            await watched.supervisor.start([deaf])
    finally:
        stranger.kill()
        stranger.wait()
        await watched.supervisor.stop()


async def test_stages_start_in_order_and_stop_in_reverse(watched: Watched, tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = """
import signal, sys, time
def note(word):
    with open(sys.argv[2], "a") as f:
        f.write(word + " " + sys.argv[1] + "\\n")
signal.signal(signal.SIGTERM, lambda *_: (note("stop"), sys.exit(0)))
note("start")
time.sleep(600)
"""

    def started(name: str) -> Callable[[int], Awaitable[bool]]:
        async def probe(_pid: int) -> bool:
            return order.exists() and f"start {name}" in order.read_text()

        return probe

    await watched.supervisor.start(
        Component(name=name, argv=python(code, name, order), probe=started(name), stage=stage)
        for name, stage in (("roof", 2), ("ground", 0), ("wall", 1))
    )
    await watched.supervisor.stop()
    expected = ["start ground", "start wall", "start roof", "stop roof", "stop wall", "stop ground"]
    assert order.read_text().splitlines() == expected


async def test_one_that_ignores_sigterm_is_killed_with_its_own_children(watched: Watched) -> None:
    code = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""
    await watched.supervisor.start([Component(name="deaf", argv=python(code), probe=alive, stop_s=0.2)])
    log = watched.logs / "deaf.log"
    await until(lambda: log.read_text().strip())
    pids = [watched.supervisor.pids["deaf"], int(log.read_text())]
    await watched.supervisor.stop()
    await until(lambda: not any(runs(pid) for pid in pids))


async def test_nothing_is_restarted_after_a_stop(watched: Watched) -> None:
    await watched.supervisor.start([Component(name="one", argv=python(FOREVER), probe=alive)])
    pid = watched.supervisor.pids["one"]
    await watched.supervisor.stop()
    assert not runs(pid)
    assert not watched.supervisor.pids


async def test_a_killed_supervisor_leaves_no_children(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from appservice.embedded.child import Component
from appservice.embedded.supervisor import Supervisor

async def main():
    async def probe(pid):  # until it runs, it is not yet bound to our life
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(sys.executable.encode())
    supervisor = Supervisor(Path(sys.argv[1]), say=lambda line: None)
    code = "import time; time.sleep(600)"
    await supervisor.start(Component(name=n, argv=(sys.executable, "-c", code), probe=probe) for n in "ab")
    print(*supervisor.pids.values(), flush=True)
    await supervisor.failed()

asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout
    pids = [int(word) for word in (await parent.stdout.readline()).split()]
    assert len(pids) == 2
    assert all(runs(pid) for pid in pids)
    parent.kill()
    await parent.wait()
    await until(lambda: not any(runs(pid) for pid in pids))


async def test_the_delay_between_failed_starts_doubles_up_to_its_cap(watched: Watched) -> None:
    limits = Limits(first_s=0.1, longest_s=1.0)
    supervisor = Supervisor(watched.logs, say=watched.said.append, limits=limits)
    assert [supervisor.delay(failed) for failed in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    await supervisor.stop()


async def test_a_log_that_cannot_be_cut_keeps_no_other_from_being_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "_LOOK_AT_LOGS_S", 0.01)
    one = Watched(tmp_path, Limits(log_bytes=100))
    (tmp_path / "stuck.log.1").mkdir()
    try:
        for name in ("stuck", "other"):
            (tmp_path / f"{name}.log").write_text("x" * 1000)
        parts = [Component(name=name, argv=python(FOREVER), probe=alive) for name in ("stuck", "other")]
        await one.supervisor.start(parts)
        await until(lambda: (tmp_path / "other.log.1").exists())
    finally:
        await one.supervisor.stop()
    assert any("the log of stuck was not cut" in line for line in one.said)


def test_a_log_over_its_limit_is_cut_and_its_end_kept_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * 100 + b"newest\n")
        trim(log, 50)
        writer.write(b"after\n")
    assert log.read_bytes() == b"after\n"
    assert (tmp_path / "one.log.1").read_bytes().endswith(b"newest\n")
    assert (tmp_path / "one.log.1").stat().st_size == 50
