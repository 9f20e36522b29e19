"""Many agents at once: a Team from upload to Active, a file of workers, and a pass over everything with nothing to do.

Bare: the same number of sandboxes made and started by the backend alone, as many at once as Opsroom does; each counts
until its A2A server answers. The idle pass: the control plane is started again, and every object and room is looked at
once; what it sent to the homeserver is counted by its own metrics.

    .venv/bin/python -m benchmarks.teams [--team 10] [--workers 100] [--people 0]
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from pathlib import Path

import aiohttp

from appservice.backends.process import ProcessBackend
from appservice.config import load
from benchmarks import _figures as figures
from benchmarks._figures import Memory
from benchmarks.upload import answers, bare_sandbox
from tests.support import faults
from tests.support.stack import Stack, document, opened, worker_yaml

PATIENCE_S = 1200.0
QUIET_S = 3.0
COUNTED = ("opsroom_reconcile_passes", "opsroom_homeserver_reads", "opsroom_homeserver_writes")


def team_yaml(name: str, size: int) -> str:
    members = [f"{{name: {name}-{n}, model: gpt-test}}" for n in range(size - 1)]
    return document("Team", name, leader=f"{{name: {name}-lead, model: gpt-test}}", workers=f"[{', '.join(members)}]")


async def bare_starts(stack: Stack, count: int) -> float:
    """Seconds until that many sandboxes answer."""
    root = Path(tempfile.mkdtemp(prefix="ob-"))
    backend = ProcessBackend(state_dir=root / "sandboxes", installation="bench")
    gate = asyncio.Semaphore(load(stack.data_dir).parallel)
    sandboxes = [await bare_sandbox(stack, root, f"bare{n}") for n in range(count)]

    async def start(number: int) -> None:
        async with gate:
            await backend.create(sandboxes[number])
            await backend.start(sandboxes[number].name)
            await answers(sandboxes[number].agent_dir / "a2a.sock")

    begun = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(start(number))
    took = time.monotonic() - begun
    for sandbox in sandboxes:
        await backend.remove(sandbox.name)
    await backend.close()
    shutil.rmtree(root, ignore_errors=True)
    return took


async def applied(stack: Stack, text: str) -> float:
    begun = time.monotonic()
    event = await stack.op.upload(stack.ops_room, "many.yaml", text.encode())
    await stack.op.ended(event, PATIENCE_S)
    return time.monotonic() - begun


async def metrics(stack: Stack) -> dict[str, float]:
    url = f"http://127.0.0.1:{load(stack.data_dir).homeserver.listen_port}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        lines = [line for line in (await answer.text()).splitlines() if line.startswith("opsroom_")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def quiet(stack: Stack) -> float:
    """Wait until nothing was done for three seconds; how long after the first answer the last thing was."""
    done: tuple[float, ...] = ()
    begun = at = time.monotonic()
    while time.monotonic() - at < QUIET_S:
        try:
            found = await metrics(stack)
        except aiohttp.ClientError:  # it is starting
            await asyncio.sleep(0.05)
            begun = at = time.monotonic()
            continue
        now = tuple(found[name] for name in COUNTED)
        if now != done:
            done, at = now, time.monotonic()
        await asyncio.sleep(0.1)
    return at - begun


async def used(stack: Stack) -> dict[str, float]:
    """Processor seconds of each part so far."""
    pids = (await stack.running.info())["pids"]
    return {part: figures.cpu_s(pid) for part, pid in pids.items() if pid}


async def idle_pass(stack: Stack) -> tuple[float, dict[str, float]]:
    """Seconds from the first answer after a start until nothing is left to do, and what was counted meanwhile."""
    await faults.replaced(stack, "control_plane", await faults.kill(stack, "control_plane"))
    return await quiet(stack), await metrics(stack)


async def measure(team: int, workers: int, people: int) -> None:
    async with opened("--no-web", "--backend", "process") as stack:
        bare = await bare_starts(stack, team)
        took = await applied(stack, team_yaml("crew", team))
        print(f"team of {team}, upload to Active: {took:.1f} s; as many bare starts: {bare:.1f} s; x {took / bare:.2f}")
        if workers:
            await quiet(stack)
            before = await used(stack)
            took = await applied(stack, "---\n".join(worker_yaml(f"w{n}") for n in range(workers)))
            after = await used(stack)
            pid = (await stack.running.info())["pids"]["control_plane"]
            memory = Memory.of(pid).rss
            print(f"{workers} workers in one file, upload to ready: {took:.1f} s; control plane {memory:.0f} MB")
            print("of that, processor seconds: " + ", ".join(f"{n} {after[n] - before[n]:.1f}" for n in after))
        if people:
            text = "---\n".join(document("Human", f"h{n}", displayName="x", permissionLevel=3) for n in range(people))
            print(f"{people} people in one file: {await applied(stack, text):.1f} s")
        print(f"after that, until every room is as declared: {await quiet(stack):.1f} s")
        took, found = await idle_pass(stack)
        print(
            f"a pass over {found['opsroom_objects']:.0f} objects with nothing to do: {took * 1000:.0f} ms at most,"
            f" {found['opsroom_reconcile_passes']:.0f} passes, {found['opsroom_homeserver_reads']:.0f} reads and"
            f" {found['opsroom_homeserver_writes']:.0f} writes at the homeserver"
        )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--team", type=int, default=10)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--people", type=int, default=0)
    options = parser.parse_args()
    print(figures.load())
    await measure(options.team, options.workers, options.people)
    print(figures.load())


if __name__ == "__main__":
    asyncio.run(main())
