"""What a sandbox needs next: a pure function of what is wanted and what is there, and how a step is told as a
condition."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any

import structlog

from appservice.backends.protocol import Observed
from appservice.errors import OpsroomError, Unavailable
from appservice.store.status import Condition

log = structlog.get_logger()


class Want(Enum):
    RUNNING = "Running"
    STOPPED = "Sleeping"  # kept, not running
    ABSENT = "Stopped"


class Step(Enum):
    CREATE = "create"
    START = "start"
    STOP = "stop"
    REMOVE = "remove"


def sandbox_steps(want: Want, spec_hash: str, have: Observed) -> tuple[Step, ...]:
    """What is left to do, in order; empty when there is nothing to do. Creating replaces one with another hash."""
    if want is Want.ABSENT:
        return (Step.REMOVE,) if have.state != "absent" else ()
    if want is Want.STOPPED:
        return (Step.STOP,) if have.state == "running" else ()
    if have.state == "absent" or have.spec_hash != spec_hash:
        return (Step.CREATE, Step.START)
    return (Step.START,) if have.state != "running" else ()


def wanted(state: str, *, awake: bool) -> Want:
    """`state` as declared; `awake`: somebody needs a sleeping agent now."""
    if state == "Stopped":
        return Want.ABSENT
    return Want.STOPPED if state == "Sleeping" and not awake else Want.RUNNING


@dataclass(frozen=True, slots=True)
class Done:
    """A step that succeeded: CamelCase reason, sentence."""

    reason: str
    message: str = ""


class Waiting(Exception):
    """A step is not done, and nothing failed: `reason` in CamelCase, and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Steps that are told in here end after so long: with a condition, and not with their whole pass."""
    token = _ends_at.set(asyncio.get_running_loop().time() + seconds)
    try:
        yield
    finally:
        _ends_at.reset(token)


async def told(type_: str, step: Callable[[], Awaitable[Done]]) -> tuple[Condition, OpsroomError | None]:
    """Run a step and tell it as a condition, with the error when it failed: none of them ends the steps beside it."""
    begun = time.monotonic()
    try:
        async with asyncio.timeout_at(_ends_at.get()):
            done = await step()
    except Waiting as why:
        took = time.monotonic() - begun
        return Condition(type=type_, status="False", reason=why.reason, message=str(why), took_s=took), None
    except Exception as found:  # noqa: BLE001 - what a step breaks with is told, and ends nothing beside it
        error = _foreseen(found)
        reason = "".join(part.capitalize() for part in error.code.split("-"))
        took = time.monotonic() - begun
        return Condition(type=type_, status="False", reason=reason, message=str(error), took_s=took), error
    took = time.monotonic() - begun
    return Condition(type=type_, status="True", reason=done.reason, message=done.message, took_s=took), None


def _foreseen(error: Exception) -> OpsroomError:
    """As something that is tried again, with a sentence for the person who can mend it."""
    if isinstance(error, OpsroomError):
        return error
    if isinstance(error, TimeoutError):
        return Unavailable("This took too long and was broken off.", fix="It is tried again by itself.")
    if isinstance(error, OSError):
        what = f"The system said: {error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
        return Unavailable(f"{what}.", fix="See that the disk has room and Opsroom may write there.")
    log.error("step broke", exc_info=error)
    return Unavailable(
        f"Opsroom made a mistake here: {type(error).__name__}.", fix="Its log says where; please report it."
    )


async def unbroken(call: Coroutine[Any, Any, None]) -> None:
    """Await what cannot be called back once it is begun: whoever is cancelled meanwhile is so when it has ended."""
    task = asyncio.create_task(call)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("ended late, with an error", problem=str(error))
        raise


def blocked(type_: str, by: str) -> Condition:
    return Condition(type=type_, status="False", reason="Waiting", message=f"Waits for {by}.")
