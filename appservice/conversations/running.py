"""A turn while it runs, and what its end means for the room."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from appservice.conversations.calling import Calls
from appservice.homeserver import content
from appservice.runtimes.a2a import Agent
from appservice.runtimes.wire import Update
from appservice.store.database import Connection
from appservice.store.turns import Turn, TurnState

ATTEMPTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A turn that was taken up, as it reads now: it may have been edited while it waited. `facts`: what its agent is
    told beside the question."""

    turn: Turn
    facts: Mapping[str, object]


@dataclass(slots=True)
class Running:
    """A turn while it waits or runs. `stop` is set with the name of who stopped it; `quiet`: with nothing to say, if
    nothing was said yet."""

    turn: Turn
    taken: Delivery | None = None  # and not yet delivered
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    stopped_by: str = ""
    quiet: bool = False
    task_id: str = ""
    text: str = ""
    lost: bool = False  # the agent broke off: whether it is there again must be asked, not assumed
    heard: bool = True  # the agent has taken the last delivery; one that it has not does not count
    attempts: int = ATTEMPTS  # it may have


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    state: TurnState
    text: str
    error: str = ""
    again: bool = False  # the same question may succeed soon


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """What the runner needs to know of agents: `door` to one, `user` it speaks as, whether it is `awake` as far as is
    known (asking it would cost each turn a round trip), `wake` it, the `brief` for a turn, read in a unit, and whom an
    answer `calls`; `wake` and `brief` raise OpsroomError with the reason when it may not run or does not come up."""

    door: Callable[[str], Agent]
    user: Callable[[str], str]
    awake: Callable[[str], bool]
    wake: Callable[[str], Awaitable[None]]
    brief: Callable[[Connection, Turn], Awaitable[Mapping[str, object]]]
    calls: Callable[[Turn, str], Awaitable[Calls]]


def outcome_of(running: Running, update: Update) -> Outcome:
    """What the agent's last word means for the room."""
    if update.state == "done":
        return Outcome(state="done", text=running.text or "*(no answer)*")
    if update.state == "stopped":
        by = running.stopped_by or "the agent"
        return Outcome(state="stopped", text=with_note(running.text, f"Stopped by {by}."))
    text = with_note(running.text, update.error)
    return Outcome(state="failed", text=text, error=update.error, again=update.retry)


def stopped(running: Running, when: str) -> Outcome:
    if running.quiet and not running.text:
        return Outcome(state="stopped", text="")
    return Outcome(state="stopped", text=with_note(running.text, f"Stopped by {running.stopped_by} {when}."))


def with_note(text: str, note: str) -> str:
    return f"{content.closed(text.rstrip())}\n\n*{note}*" if text.strip() else note
