"""What every backend promises, on the real Docker Engine and on real sandboxed processes."""

import asyncio
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from appservice.backends.docker_container import AGENT_LABEL, HASH_LABEL, INSTALLATION_LABEL
from appservice.backends.inside import agent_user, write_token
from appservice.backends.protocol import AGENT_DIR, SECRETS_DIR, Backend, Limits
from appservice.errors import Invalid, Unavailable
from tests.support.backends import DEADLINE_S, TEST_IMAGE, Events, Place, ask, tell

KILL_ITSELF = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
EAT_MEMORY = "eaten = []\nwhile True:\n    eaten.append(b'x' * 10**7)"
FORK = """
import os, signal, time
children = []
try:
    while len(children) < 200:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
except OSError:
    pass
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
answer = len(children)
"""


def can_write(path: str) -> str:
    return f"""
try:
    with open({path!r}, "w") as file:
        file.write("x")
    answer = True
except OSError:
    answer = False
"""


async def test_every_call_may_be_repeated(place: Place, backend: Backend) -> None:
    sandbox = place.sandbox()
    assert (await backend.observe("alice")).state == "absent"
    await backend.stop("alice")
    await backend.remove("alice")

    await backend.create(sandbox)
    first = await backend.observe("alice")
    await backend.create(sandbox)
    assert (first.state, first.spec_hash) == ("created", sandbox.spec_hash)
    assert (await backend.observe("alice")).id == first.id

    await backend.start("alice")
    running = await backend.observe("alice")
    await backend.start("alice")
    assert running.state == "running"
    assert running.running_since
    assert (await backend.observe("alice")).id == running.id

    await backend.stop("alice")
    await backend.stop("alice")
    assert (await backend.observe("alice")).state == "exited"

    await backend.remove("alice")
    await backend.remove("alice")
    assert (await backend.observe("alice")).state == "absent"


async def test_a_stopped_sandbox_starts_again(place: Place, backend: Backend) -> None:
    sandbox = place.sandbox()
    await place.run(backend, sandbox)
    await backend.stop("alice")
    await backend.start("alice")
    assert await ask(sandbox, "answer = 'again'") == "again"


async def test_starting_what_was_never_made_is_an_error_that_says_so(backend: Backend) -> None:
    with pytest.raises(Unavailable, match="alice"):
        await backend.start("alice")


@pytest.mark.parametrize("name", ["../alice", "", "-x", "Alice", "a/b"])
async def test_a_name_that_could_be_a_path_or_an_option_is_refused(backend: Backend, name: str) -> None:
    with pytest.raises(Invalid):
        await backend.remove(name)


async def test_a_new_hash_makes_a_new_sandbox(place: Place, backend: Backend) -> None:
    await place.run(backend, place.sandbox())
    before = await backend.observe("alice")
    changed = place.sandbox(revision="2")
    await backend.create(changed)
    created = await backend.observe("alice")
    assert (created.state, created.spec_hash) == ("created", changed.spec_hash)
    await place.run(backend, changed)
    assert (await backend.observe("alice")).id != before.id
    assert list(await backend.observe_all()) == ["alice"]


async def test_labels_are_on_the_sandbox_and_a_changed_one_makes_it_anew(place: Place, backend: Backend) -> None:
    plain, labelled = (replace(place.sandbox(), labels=labels) for labels in ({}, {"example.org/tier": "demo"}))
    await backend.create(plain)
    assert "example.org/tier" not in place.labels("alice")

    await backend.create(labelled)
    assert place.labels("alice").items() >= labelled.labels.items()
    assert (await backend.observe("alice")).spec_hash == labelled.spec_hash != plain.spec_hash

    await backend.start("alice")
    assert place.labels("alice").items() >= labelled.labels.items()


async def test_no_label_can_hide_a_sandbox_or_make_it_anothers(place: Place, backend: Backend) -> None:
    theirs = dict.fromkeys((INSTALLATION_LABEL, AGENT_LABEL, HASH_LABEL), "another")
    sandbox = replace(place.sandbox(), labels=theirs)
    await backend.create(sandbox)
    assert {name: one.spec_hash for name, one in (await backend.observe_all()).items()} == {"alice": sandbox.spec_hash}


async def test_a_life_is_reported_in_its_order(place: Place, backend: Backend, events: Events) -> None:
    await place.run(backend, place.sandbox())
    await backend.stop("alice")
    await backend.remove("alice")
    await events.until(("alice", "start"), ("alice", "die"), ("alice", "destroy"))


async def test_a_reader_that_is_cancelled_just_as_an_event_comes_ends(place: Place, backend: Backend) -> None:
    for _ in range(5):
        listening = Events(backend)
        await listening.until(("", "resync"))
        await backend.create(place.sandbox())
        await backend.remove("alice")
        async with asyncio.timeout(DEADLINE_S):
            await listening.close()


async def test_a_killed_agent_is_reported_and_seen_as_ended(place: Place, backend: Backend, events: Events) -> None:
    sandbox = place.sandbox()
    await place.run(backend, sandbox)
    await tell(sandbox, KILL_ITSELF)
    await events.until(("alice", "start"), ("alice", "die"))
    ended = await backend.observe("alice")
    assert (ended.state, ended.exit_code, ended.detail) == ("exited", 137, "killed by SIGKILL")


async def test_an_exit_code_is_kept(place: Place, backend: Backend, events: Events) -> None:
    sandbox = place.sandbox()
    await place.run(backend, sandbox)
    await tell(sandbox, "import os; os._exit(3)")
    await events.until(("alice", "die"))
    ended = await backend.observe("alice")
    assert (ended.exit_code, ended.detail) == (3, "exit code 3")


async def test_an_agent_over_its_memory_ends_and_says_why(place: Place, backend: Backend, events: Events) -> None:
    if "by control groups" not in backend.isolation and place.kind == "process":
        pytest.skip("without control groups a process over its memory gets an error of its own")
    sandbox = place.sandbox(limits=Limits(memory_bytes=96 * 2**20))
    await place.run(backend, sandbox)
    await tell(sandbox, EAT_MEMORY)
    await events.until(("alice", "oom"))
    await events.until(("alice", "die"))
    assert (await backend.observe("alice")).detail == "out of memory"


async def test_an_ended_agent_that_starts_again_has_no_old_reason(
    place: Place, backend: Backend, events: Events
) -> None:
    sandbox = place.sandbox(limits=Limits(memory_bytes=96 * 2**20))
    await place.run(backend, sandbox)
    await tell(sandbox, EAT_MEMORY)
    await events.until(("alice", "die"))
    await backend.start("alice")
    await ask(sandbox, "answer = 1")
    await backend.stop("alice")
    assert (await backend.observe("alice")).detail == "killed by SIGTERM"


async def test_an_agent_cannot_fork_beyond_its_limit(place: Place, backend: Backend) -> None:
    sandbox = place.sandbox(limits=Limits(pids=40))
    await place.run(backend, sandbox)
    assert 20 < await ask(sandbox, FORK) < 40


async def test_the_last_lines_of_the_log_are_returned(place: Place, backend: Backend) -> None:
    sandbox = place.sandbox()
    await place.run(backend, sandbox)
    await ask(sandbox, "import sys\nfor n in range(500):\n    print('line', n, file=sys.stderr, flush=True)")
    async with asyncio.timeout(DEADLINE_S):  # an engine copies them in its own time
        while (await backend.logs("alice", lines=3)).split("\n") != ["line 497", "line 498", "line 499", ""]:
            await asyncio.sleep(0.05)
    assert await backend.logs("nobody") == ""


async def test_a_rotated_token_is_read_inside_without_a_restart(place: Place, backend: Backend) -> None:
    sandbox = place.sandbox()
    await place.run(backend, sandbox)
    read = f"answer = open('{SECRETS_DIR}/token').read()"
    assert await ask(sandbox, read) == "token-of-alice"
    await write_token(sandbox.secrets_dir, "rotated")
    assert await ask(sandbox, read) == "rotated"
    assert not await ask(sandbox, can_write(f"{SECRETS_DIR}/token"))


async def test_the_token_belongs_to_the_agent_alone(place: Place, backend: Backend) -> None:
    sandbox = place.sandbox()
    await place.run(backend, sandbox)
    found = (sandbox.secrets_dir / "token").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o400, agent_user().uid)
    assert stat.S_IMODE(sandbox.secrets_dir.stat().st_mode) == 0o700
    assert [file.name for file in sandbox.secrets_dir.iterdir()] == ["token"]


async def test_the_agent_writes_into_its_own_folder_only(place: Place, backend: Backend) -> None:
    sandbox = place.sandbox()
    await place.run(backend, sandbox)
    assert await ask(sandbox, can_write(f"{AGENT_DIR}/mine"))
    assert (sandbox.agent_dir / "mine").read_text() == "x"
    for path in ("/run/opsroom/gateway/x", f"{SECRETS_DIR}/x", "/x", "/etc/x", "/usr/x"):
        assert not await ask(sandbox, can_write(path)), path


async def test_folders_that_were_cleared_away_are_made_again(place: Place, backend: Backend) -> None:
    sandbox = place.sandbox()
    await place.run(backend, sandbox)
    await backend.stop("alice")
    shutil.rmtree(sandbox.agent_dir)
    await backend.create(sandbox)
    await backend.start("alice")
    assert await ask(sandbox, "answer = 'here'") == "here"


async def test_declared_variables_and_the_agents_name_reach_it(place: Place, backend: Backend) -> None:
    sandbox = place.sandbox()
    await place.run(backend, sandbox)
    found = await ask(sandbox, "import os; answer = dict(os.environ)")
    assert (found["GREETING"], found["OPSROOM_AGENT"], found["HOME"]) == ("hello", "alice", "/home/agent")


async def test_all_sandboxes_of_the_installation_are_listed_and_no_others(place: Place, backend: Backend) -> None:
    await backend.create(place.sandbox("alice"))
    await place.run(backend, place.sandbox("bob"))
    other = replace(place, installation=f"{place.installation}x", root=place.root / "other", made=[])
    stranger = other.backend()
    await stranger.create(other.sandbox("carol"))
    try:
        found = await backend.observe_all()
        assert {name: one.state for name, one in found.items()} == {"alice": "created", "bob": "running"}
    finally:
        await stranger.remove("carol")
        await stranger.close()


async def test_an_agent_outlives_the_control_plane_and_is_taken_over(place: Place, backend: Backend) -> None:
    sandbox = place.sandbox()
    await place.run(backend, sandbox)
    before = await backend.observe("alice")
    await backend.close()

    later = place.backend()
    listening = Events(later)
    try:
        await listening.until(("", "resync"))
        assert await later.observe("alice") == before
        assert await ask(sandbox, "answer = 'still here'") == "still here"
        await tell(sandbox, KILL_ITSELF)
        await listening.until(("alice", "die"))
        await later.start("alice")
        await ask(sandbox, "answer = 1")
        await later.stop("alice")
        assert (await later.observe("alice")).exit_code == 143
    finally:
        await listening.close()


async def test_an_image_that_is_not_there_is_an_error_that_says_how_to_get_it(backend: Backend) -> None:
    await backend.ensure_image(TEST_IMAGE)
    with pytest.raises((Invalid, Unavailable), match="opsroom/no-such-image") as caught:
        await backend.ensure_image("opsroom/no-such-image:1")
    assert caught.value.problems[0].fix


async def test_removing_leaves_nothing_behind(place: Place, backend: Backend) -> None:
    await place.run(backend, place.sandbox())
    await backend.remove("alice")
    assert await backend.observe_all() == {}
    assert not (place.root / "state" / "alice").exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/opsroom-{place.installation}/alice"))
