"""How long a lost database takes to come back from the journal, and how long it takes to write one.

A real homeserver and the control plane's own writer and reader, without agents: what is measured is the store and the
room. Half of the objects are Workers with a long text, the rest Teams of three; one in fifty is too large for an event
and is fetched as a file.

    .venv/bin/python -m benchmarks.restore [--objects 200]
"""

import argparse
import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from appservice import logs
from appservice.store import objects
from benchmarks import _figures as figures
from tests.journeys.test_teams import TEAM
from tests.support.journalled import declare, journalled
from tests.support.stack import worker_yaml


def document(number: int) -> str:
    if number % 50 == 0:
        return worker_yaml(f"w{number}", soul="x" * 70_000)
    if number % 2 == 0:
        return worker_yaml(f"w{number}", soul="You are terse. " * 100)
    return TEAM.format(team=f"t{number}")


async def measure(root: Path, count: int) -> str:
    async with journalled(root) as bed:
        store = await bed.store()
        for number in range(count):
            await declare(store, document(number))
        begun = time.monotonic()
        await bed.publish(store)
        published = time.monotonic()
        again = await bed.store("again.db")
        read = time.monotonic()
        done = await bed.rebuilt(again)
        restored = time.monotonic()
        assert (done.objects, done.problems) == (count, [])
        same = [one.key for one in await objects.every(store)] == [one.key for one in await objects.every(again)]
        assert same
        parts = len(await objects.every(again)) - count
        rows = [
            ["published to the journal", count, published - begun, (published - begun) / count * 1000],
            [f"restored, with {parts} agents of teams", count, restored - read, (restored - read) / count * 1000],
        ]
        return figures.table(["", "objects", "seconds", "ms each"], rows)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=200)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="br-") as root:
        logs.configure("warning")
        print(figures.load())
        print(await measure(Path(root), options.objects))
        print(figures.load(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
