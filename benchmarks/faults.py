"""kill -9 at random moments: is every mention answered exactly once, every apply done, and nothing left over?

Each row is an Opsroom of its own on real components, with answers that take a second and a half, so that kills hit
turns in flight. `whole`: answered with the whole text; the rest of `once` got a sentence that says why not. `calls` is
how often the model was asked: a second call for a turn is allowed, a second answer is not. Workers are deleted at the
end; `left` counts what then remains of sandboxes, folders, consumers, storage users and unsent events.

    .venv/bin/python -m benchmarks.faults [--only "control plane" ...] [--seed 7]
"""

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex

from appservice.backends.choose import default_image
from appservice.backends.image import build_worker_image, is_current
from appservice.config import Settings
from benchmarks import _figures
from tests.support import faults
from tests.support.engine import Engine, own_engine
from tests.support.faults import Storm
from tests.support.inside import containers
from tests.support.stack import Stack, opened

HEAD = ("killed", "kills", "mentions", "once", "whole", "applies", "done", "calls", "left", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is killed, how often, during how much work, with so many seconds between two kills."""

    what: str
    kills: tuple[str, ...]
    mentions: int
    applies: int
    gap_s: tuple[float, float] = (0.3, 2.5)
    docker: bool = False


CASES = (
    Case(what="control plane", kills=("control_plane",) * 20, mentions=50, applies=10),
    Case(what="homeserver", kills=("homeserver",) * 5, mentions=25, applies=5, gap_s=(1, 6)),
    Case(what="both of them", kills=("control_plane", "homeserver") * 4, mentions=25, applies=5, gap_s=(0.3, 3)),
    Case(what="gateway", kills=("gateway",) * 5, mentions=25, applies=5, gap_s=(4, 7)),
    Case(what="storage", kills=("storage",) * 5, mentions=25, applies=5, gap_s=(1, 4)),
    Case(what="agent (process)", kills=("agent",) * 6, mentions=25, applies=4, gap_s=(4, 7)),
    Case(what="agent (container)", kills=("container",) * 5, mentions=20, applies=3, gap_s=(5, 8), docker=True),
    Case(what="Docker Engine", kills=("engine",) * 3, mentions=20, applies=3, gap_s=(10, 15), docker=True),
)


@asynccontextmanager
async def running(case: Case) -> AsyncIterator[tuple[Stack, Engine | None]]:
    """An Opsroom; with containers in an engine of its own, which may be killed."""
    async with AsyncExitStack() as exits:
        if not case.docker:
            yield await exits.enter_async_context(opened()), None
            return
        if not await is_current():
            await build_worker_image(progress=print)
        engine = await exits.enter_async_context(own_engine())
        await engine.start()
        await engine.load(default_image(Settings()))
        environment = {"OPSROOM_INSTALLATION": f"t{token_hex(4)}", "OPSROOM_AGENTS__DOCKER_HOST": engine.host}
        yield await exits.enter_async_context(opened("--no-web", "--backend", "docker", **environment)), engine


def killers(storm: Storm, engine: Engine | None) -> dict[str, Callable[[], Awaitable[None]]]:
    """How to kill what `opsroom up` does not keep: an agent, its container, the engine."""
    names = list(storm.rooms)

    def victim() -> str:
        return names[sum(storm.kills.values()) % len(names)]

    async def agent() -> None:
        for pid in faults.agent_pids(storm.stack, victim()):
            os.kill(pid, signal.SIGKILL)

    async def container() -> None:
        for one in containers(storm.stack.installation, victim(), host=engine.host if engine else ""):
            one.kill()

    async def docker_engine() -> None:
        if engine:
            await engine.kill()
            await engine.start()

    return {"agent": agent, "container": container, "engine": docker_engine}


async def measure(case: Case, seed: int) -> list[object]:
    async with running(case) as (stack, engine):
        storm = await Storm.prepare(stack, seed=seed)
        storm.others = killers(storm, engine)
        await storm.run(mentions=case.mentions, applies=case.applies, kills=case.kills, gap_s=case.gap_s)
        for event, texts in storm.wrong_answers():
            print(f"  not whole: {event} {texts}", flush=True)
        for wrong in storm.wrong_applies():
            print(f"  not done: {wrong}", flush=True)
        await faults.delete_all(stack, storm.workers)
        await faults.all_done(stack)
        left = sum(len(names) for names in (await faults.traces(stack)).values()) + len(faults.twice(stack))
        left += faults.dead_letters(stack)
        left += len(containers(stack.installation, host=engine.host)) if engine else 0
        whole, done = case.mentions - len(storm.wrong_answers()), case.applies - len(storm.wrong_applies())
        kills = sum(storm.kills.values())
        asked = (len(storm.questions), storm.answered_once(), whole)
        return [case.what, kills, *asked, len(storm.applies), done, storm.model_calls(), left, f"{storm.took_s:.0f}"]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[case.what for case in CASES])
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    print(_figures.load(), flush=True)
    rows = []
    for case in CASES:
        if not options.only or case.what in options.only:
            rows.append(await measure(case, options.seed))
            print(_figures.table(HEAD, rows[-1:]), flush=True)
    print(f"\n{_figures.table(HEAD, rows)}\n{_figures.load()}")


if __name__ == "__main__":
    asyncio.run(main())
