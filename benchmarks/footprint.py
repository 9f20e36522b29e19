"""How long `opsroom up` takes to the ops room, and what everything costs in memory.

Cold: an empty data directory. Warm: the same one again. Memory, in MB: each component, the control plane, the
supervisor, and one native agent before and after its first turn. RSS counts shared pages in full, PSS its share.

    .venv/bin/python -m benchmarks.footprint [--backend process|docker] [--starts 3] [--web]
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from benchmarks import _figures as figures
from benchmarks._figures import Memory
from tests.support import up
from tests.support.person import person
from tests.support.provider import ScriptedProvider
from tests.support.stack import Stack, opened

NATIVE_AGENT = (b"-m", b"runtime")
SETTLED_S = 3.0


async def seconds_to_the_ops_room(folder: Path, flags: list[str], environment: Mapping[str, str]) -> float:
    """Start, wait until the operator can see the ops room, stop."""
    begun = time.monotonic()
    running = await up.start(folder, *flags, **environment)
    info = await running.info()
    password = Path(info["password_file"]).read_text().strip()
    async with person(info["homeserver"], "op", password) as op:
        await op.until(lambda: info["ops_room"] in op.rooms, "the ops room")
        took = time.monotonic() - begun
    await running.stop()
    return took


async def starts(count: int, flags: list[str]) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {"cold": [], "warm": []}
    async with ScriptedProvider() as provider:
        environment = {"OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": provider.base_url}
        for _ in range(count):
            root = Path(tempfile.mkdtemp(prefix="ob-"))
            for values in took.values():
                values.append(await seconds_to_the_ops_room(root / "w", flags, environment))
            shutil.rmtree(root, ignore_errors=True)
    return took


def agent_pids(socket_folder: Path) -> list[int]:
    """Processes of the native agent whose door is below this folder: the whole sandbox of it."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            mounts = (folder / "mountinfo").read_bytes()
        except OSError:  # it has just ended, or is not ours to look into
            continue
        if arguments[-3:-1] == list(NATIVE_AGENT) and os.fsencode(str(socket_folder)) in mounts:
            found.append(int(folder.name))
    return found


async def memory(backend: str) -> dict[str, Memory]:
    async with opened("--no-web", "--backend", backend) as stack:
        room = await stack.worker("idle")
        await asyncio.sleep(SETTLED_S)
        rows = {
            name.replace("_", " "): Memory.of(pid)
            for name, pid in sorted(stack.info["pids"].items())
            if pid is not None
        }
        rows["supervisor"] = Memory.of(stack.running.process.pid)
        rows["agent before a turn"] = agent_memory(stack)
        rows["whole stack, one idle agent"] = sum(rows.values(), Memory(0, 0))
        await stack.op.answer_to(await stack.ask(room, "idle", "hello"), "You said")
        await asyncio.sleep(SETTLED_S)
        rows["agent after a turn"] = agent_memory(stack)
        rows["control plane after a turn"] = Memory.of(stack.info["pids"]["control_plane"])
        return rows


def agent_memory(stack: Stack) -> Memory:
    """The native agent's processes together; bubblewrap and the launcher are a few hundred kilobytes."""
    pids = agent_pids(stack.data_dir / "run" / "agents")
    assert pids, "no native agent runs"
    return sum((Memory.of(pid) for pid in pids), Memory(0, 0))


def report(took: dict[str, list[float]], rows: dict[str, Memory]) -> str:
    lines = [
        figures.table(
            ["start", "n", "median s", "best s", "worst s"],
            [[name, len(values), median(values), min(values), max(values)] for name, values in took.items()],
        ),
        "",
        figures.table(
            ["resident memory", "RSS MB", "PSS MB"], [[name, round(m.rss), round(m.pss)] for name, m in rows.items()]
        ),
        f"control plane, RSS {figures.verdict(rows['control plane'].rss, 90, ' MB')}",
        f"idle native agent, RSS {figures.verdict(rows['agent before a turn'].rss, 70, ' MB')}",
    ]
    whole = rows["whole stack, one idle agent"]
    for kind, value in (("RSS", whole.rss), ("PSS", whole.pss)):
        lines.append(f"whole stack with one idle agent, {kind} {figures.verdict(value, 450, ' MB')}")
    return "\n".join(lines)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=["process", "docker"], default="process")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--web", action="store_true", help="with the web client, which is built first if need be")
    options = parser.parse_args()
    flags = ["--backend", options.backend, *([] if options.web else ["--no-web"])]
    print(figures.load())
    took = await starts(options.starts, flags)
    print(report(took, await memory(options.backend)))
    print(figures.load())


if __name__ == "__main__":
    asyncio.run(main())
