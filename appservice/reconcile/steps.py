"""What a sandbox needs next: a pure function of what is wanted and what is there, and how a step is told as a
condition."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from appservice.backends.protocol import Observed
from appservice.errors import OpsroomError
from appservice.store.status import Condition


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


async def told(type_: str, step: Callable[[], Awaitable[Done]]) -> tuple[Condition, OpsroomError | None]:
    """Run a step and tell it as a condition, with the error when it failed."""
    begun = time.monotonic()
    try:
        done = await step()
    except OpsroomError as error:
        reason = "".join(part.capitalize() for part in error.code.split("-"))
        took = time.monotonic() - begun
        return Condition(type=type_, status="False", reason=reason, message=str(error), took_s=took), error
    took = time.monotonic() - begun
    return Condition(type=type_, status="True", reason=done.reason, message=done.message, took_s=took), None


def blocked(type_: str, by: str) -> Condition:
    return Condition(type=type_, status="False", reason="Waiting", message=f"Waits for {by}.")
