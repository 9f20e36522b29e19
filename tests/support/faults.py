"""What a killed part may not do: lose, repeat or leave behind. Kills for real, and looks at what is left.

A storm is a stream of mentions and applies at random (seeded) moments while processes are killed; its figures are for
the tests and for `benchmarks/faults.py`.
"""

import asyncio
import os
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from appservice import config
from appservice.backends.door import door
from appservice.backends.process_state import ProcessState
from appservice.embedded import upfile
from appservice.errors import Unavailable
from appservice.storage.connect import connect
from tests.support.children import runs
from tests.support.person import Message
from tests.support.provider import Say
from tests.support.stack import Stack, worker_yaml

PATIENCE_S = 120.0
WORDS = 10
WHOLE = [f"word{n}" for n in range(1, WORDS + 1)]
NOTE = "_My files are not saved yet"  # what an agent adds when storage was away at the end of its turn
_OPEN = {
    "events": "SELECT count(*) FROM inbox WHERE done = 0",
    "sends": "SELECT count(*) FROM outbox WHERE state = 'pending'",
    "turns": "SELECT count(*) FROM turns WHERE state IN ('queued', 'working')",
    "commands": "SELECT count(*) FROM commands WHERE done = 0",
}


def pid_of(stack: Stack, part: str) -> int:
    """The process that is a part now; 0 while there is none."""
    try:
        return int(upfile.read(stack.data_dir)["pids"][part] or 0)
    except (Unavailable, ValueError):
        return 0


async def until(condition: Any, what: str, timeout_s: float = PATIENCE_S) -> Any:
    """Poll until the condition gives something true; that."""
    deadline = monotonic() + timeout_s
    while not (found := condition()):
        assert monotonic() < deadline, f"not in {timeout_s:.0f} s: {what}"
        await asyncio.sleep(0.05)
    return found


async def kill(stack: Stack, part: str, how: signal.Signals = signal.SIGKILL) -> int:
    """Kill a part that `opsroom up` keeps running; the process id it had."""
    pid = await until(lambda: pid_of(stack, part), f"a {part} to kill")
    os.kill(pid, how)
    await until(lambda: not runs(pid), f"the end of the {part}")
    return int(pid)


def hit(stack: Stack, name: str, how: signal.Signals) -> None:
    """Send a signal to all processes of an agent; those that end with the first of them are gone already."""
    for pid in agent_pids(stack, name):
        with suppress(ProcessLookupError):
            os.kill(pid, how)


async def replaced(stack: Stack, part: str, old: int) -> None:
    """Wait until another process has taken the place of a killed one."""
    await until(lambda: pid_of(stack, part) not in (0, old), f"another {part}")


def open_rows(stack: Stack) -> dict[str, int]:
    """Work that is not done, by kind; nothing when all is."""
    with closing(sqlite3.connect(f"file:{stack.data_dir / 'opsroom.db'}?mode=ro", uri=True)) as db:
        counts = {what: db.execute(sql).fetchone()[0] for what, sql in _OPEN.items()}
    return {what: count for what, count in counts.items() if count}


def attempts(stack: Stack, question: str) -> int:
    """How often a question was delivered to its agent."""
    with closing(sqlite3.connect(f"file:{stack.data_dir / 'opsroom.db'}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT attempt FROM turns WHERE event_id = ?", (question,)).fetchone()[0])


def is_deleting(stack: Stack, name: str) -> bool:
    """Whether a Worker is on its way out, as the store has it."""
    with closing(sqlite3.connect(f"file:{stack.data_dir / 'opsroom.db'}?mode=ro", uri=True)) as db:
        return bool(db.execute("SELECT deleting FROM resources WHERE name = ?", (name,)).fetchone()[0])


def dead_letters(stack: Stack) -> int:
    """Events that could not be sent and never will be."""
    with closing(sqlite3.connect(f"file:{stack.data_dir / 'opsroom.db'}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM outbox WHERE state = 'dead'").fetchone()[0])


async def all_done(stack: Stack, timeout_s: float = PATIENCE_S) -> None:
    """Wait until no row is open; the rows that are when time is up."""
    deadline = monotonic() + timeout_s
    while left := open_rows(stack):
        assert monotonic() < deadline, f"still open: {left}"
        await asyncio.sleep(0.1)


async def traces(stack: Stack) -> dict[str, set[str]]:
    """Agents by each kind of thing that is made for one, as found in the world and not in the store."""
    settings = config.load(stack.data_dir, installation=stack.installation)
    stored, users = connect(settings)
    try:
        people = set(await users.names())
    finally:
        await users.close()
        await stored.close()
    grants = (stack.data_dir / "gateway" / "xds" / "ecds-grants.json").read_text()
    return {
        "sandboxes": _folders(stack.data_dir / "sandboxes"),
        "processes": set(_processes(stack.data_dir / "sandboxes")),
        "secrets": _folders(stack.data_dir / "agents"),
        "doors": _folders(settings.run_dir / "agents"),
        "consumers": set(re.findall(r"ctl\|([a-z0-9-]+)", grants)),
        "storage users": people,
    }


def expected(stack: Stack, names: Sequence[str]) -> dict[str, set[str]]:
    """What `traces` finds when exactly these agents run as local processes."""
    settings = config.load(stack.data_dir, installation=stack.installation)
    doors = {door(settings, name).agent_dir.name for name in names}
    kinds = ("sandboxes", "processes", "secrets", "consumers", "storage users")
    return {"doors": doors, **{kind: set(names) for kind in kinds}}


def twice(stack: Stack) -> list[str]:
    """Agents that run in more than one process at a time."""
    return [name for name, count in Counter(_processes(stack.data_dir / "sandboxes")).items() if count > 1]


def sandbox_of(stack: Stack, name: str) -> ProcessState:
    return ProcessState(folder=stack.data_dir / "sandboxes" / name)


def agent_pids(stack: Stack, name: str) -> list[int]:
    """Every process in an agent's sandbox, from the outside."""
    first = sandbox_of(stack, name).first_process()
    if first is None:
        return []
    found, todo = [], [first]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            todo += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            continue
    return found


def _folders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _processes(folder: Path) -> list[str]:
    """Names of agents whose launcher lives: one entry a launcher that no other of the same agent has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            said = (entry / "cmdline").read_bytes().decode(errors="replace")
            parent = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
            above = Path(f"/proc/{parent}/cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError):
            continue
        name = re.search(rf"{re.escape(str(folder))}/([a-z0-9-]+)", said)
        if name and str(folder) not in above:
            found.append(name.group(1))
    return found


@dataclass(slots=True, kw_only=True)
class Storm:
    """Mentions and applies in a stream, and what came of each."""

    stack: Stack
    seed: int
    rooms: dict[str, str]
    rng: Random = field(init=False)
    questions: list[str] = field(default_factory=list)
    applies: dict[str, str] = field(default_factory=dict)  # event -> the worker it is about
    kills: Counter[str] = field(default_factory=Counter)
    others: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)  # how to kill what is no part
    took_s: float = 0.0

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)

    @classmethod
    async def prepare(cls, stack: Stack, *, seed: int, agents: Sequence[str] = ("north", "south")) -> "Storm":
        """Make the agents that are asked; answers take a second and a half, so that kills hit turns in flight."""
        stack.provider.when("storm", Say(words=WORDS, delay=0.12, first=0.2))
        rooms = dict(zip(agents, await asyncio.gather(*(stack.worker(name) for name in agents)), strict=True))
        return cls(stack=stack, seed=seed, rooms=rooms)

    async def run(
        self,
        *,
        mentions: int,
        applies: int,
        kills: Sequence[str],
        gap_s: tuple[float, float] = (0.3, 2.5),
    ) -> None:
        """`kills`: the parts to kill, one after the other; each a random time after the one before came back."""
        begun = monotonic()
        gaps = [self.rng.uniform(*gap_s) for _ in kills]
        length = sum(gaps) + 0.4 * len(kills)
        moments = sorted((self.rng.uniform(0, length), n < applies, n) for n in range(applies + mentions))
        killer = asyncio.create_task(self._kill(kills, gaps))
        try:
            async with asyncio.TaskGroup() as tasks:
                for at, is_apply, number in moments:
                    await asyncio.sleep(max(0.0, begun + at - monotonic()))
                    tasks.create_task(self._apply(number) if is_apply else self._mention(number))
            await killer
        finally:
            killer.cancel()
        await self._everything_answered()
        self.took_s = monotonic() - begun

    async def _kill(self, parts: Sequence[str], gaps: Sequence[float]) -> None:
        for part, gap in zip(parts, gaps, strict=True):
            await asyncio.sleep(gap)
            self.kills[part] += 1
            if part in self.others:
                await self.others[part]()
            else:
                await replaced(self.stack, part, await kill(self.stack, part))

    async def _mention(self, number: int) -> None:
        name = list(self.rooms)[number % len(self.rooms)]
        self.questions.append(await self.stack.ask(self.rooms[name], name, f"storm number {number}"))

    async def _apply(self, number: int) -> None:
        """Every second one makes a worker, the others change one."""
        name = f"made-{number}" if number % 2 == 0 else next(iter(self.rooms))
        text = worker_yaml(name, soul=f"Number {number}.")
        self.applies[await self.stack.op.upload(self.stack.ops_room, f"{name}.yaml", text.encode())] = name

    async def _everything_answered(self) -> None:
        op = self.stack.op
        for event in self.questions:
            await op.until(partial(op.answers, event), f"an answer to {event}", PATIENCE_S)
        for event in self.applies:
            await op.ended(event, PATIENCE_S)
        await all_done(self.stack)
        await self.stack.command("!version", PATIENCE_S)  # by now all that was sent before has been seen
        await all_done(self.stack)

    # -- what came of it ----------------------------------------------------------------------------------------

    def wrong_answers(self) -> list[tuple[str, list[str]]]:
        """Questions without exactly one whole answer."""
        found = {event: self.stack.op.answers(event) for event in self.questions}
        return [
            (event, _texts(them)) for event, them in found.items() if [_words(message) for message in them] != [WHOLE]
        ]

    def wrong_applies(self) -> list[tuple[str, list[str], list[str]]]:
        """Applies without 👀 and ✅ once each and one answer that says "ready"."""
        wrong = []
        for event, name in self.applies.items():
            marks = sorted(key for target, key, _ in self.stack.op.reactions if target == event)
            texts = _texts(self.stack.op.answers(event))
            if marks != ["✅", "👀"] or len(texts) != 1 or f"`worker/{name}` — ready" not in texts[0]:
                wrong.append((name, marks, texts))
        return wrong

    @property
    def workers(self) -> list[str]:
        return sorted({*self.rooms, *self.applies.values()})

    def answered_once(self) -> int:
        """Questions with one answer, be it a sentence that says why there is no other."""
        return sum(len(them := self.stack.op.answers(event)) == 1 and bool(them[0].text) for event in self.questions)

    def model_calls(self) -> int:
        return sum("storm number" in call.prompt for call in self.stack.provider.calls)


def _texts(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages]


def _words(message: Message) -> list[str]:
    return message.text.partition(NOTE)[0].split()


async def delete_all(stack: Stack, names: Sequence[str]) -> None:
    for name in names:
        answer = await stack.command(f"!delete worker/{name} --files delete --yes", PATIENCE_S)
        assert "Deleted" in answer.text, answer.text
