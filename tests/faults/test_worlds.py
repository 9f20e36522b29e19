"""A file that is edited at random, again and again, while parts are killed and somebody changes rooms by hand: in the
end all is as it has it, whatever was there before, and another start writes nothing.

A world goes on from the one before it, on the same stack; after A_STACK of them another stack begins anew. STACK_WORLDS
says how many, or which: `2`, `400`, `400-800`.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from appservice.errors import Unavailable
from tests.support import faults, reality
from tests.support.stack import Stack, opened

pytestmark = pytest.mark.timeout(400)

FIRST, _, END = os.environ.get("STACK_WORLDS", "2").rpartition("-")
A_STACK = 20  # `opsroom up` gives up on a part that ends 60 times in ten minutes
STACKS = range(int(FIRST or 0) // A_STACK, -(-int(END) // A_STACK))
PARTS = ("control_plane", "control_plane", "homeserver", "storage", "gateway")


@dataclass(slots=True)
class World:
    """A stack, which of them it is, and the file that was applied to it last."""

    stack: Stack
    number: int
    documents: Sequence[Mapping[str, Any]] = ()


@pytest.fixture(scope="module")
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with opened("--no-web", "--backend", "process") as stack:
        yield World(stack, request.param)


async def shake(world: World, *, seed: int) -> str:
    """Edit the file up to three times, each perhaps with a kill at some moment; its text, once it is applied."""
    chance, stack = random.Random(seed), world.stack
    for _ in range(chance.randint(1, 3)):
        world.documents = reality.edited(chance, world.documents) if world.documents else reality.company(chance)
        text = reality.text_of(world.documents)
        event = await stack.op.say(stack.ops_room, f"!apply --prune --yes\n```yaml\n{text}```")
        if chance.random() < 0.5:
            part = chance.choice(PARTS)
            await asyncio.sleep(chance.uniform(0.0, 1.5))
            killed = await faults.kill(stack, part)
            if part != "homeserver" and chance.random() < 0.5:
                await meddle(stack, chance)
            await faults.replaced(stack, part, killed)
        elif chance.random() < 0.5:
            await meddle(stack, chance)
        told = (await stack.op.ended(event, 2 * faults.PATIENCE_S)).text
        assert "goes on trying" not in told, told
    return text


async def meddle(stack: Stack, chance: random.Random) -> None:
    """Change a room by hand, as far as the homeserver lets an operator."""
    room = chance.choice(sorted(reality.rooms_of(stack).values()) or [stack.ops_room])
    path, what = f"rooms/{quote(room)}", chance.choice(["name", "topic", "kick", "ban"])
    try:
        if what in ("name", "topic"):
            await stack.op.call("PUT", f"{path}/state/m.room.{what}", {what: "by hand"})
        elif room in stack.op.rooms:
            inside = await stack.op.call("GET", f"{path}/joined_members")
            if agents := sorted(user for user in inside["joined"] if user.startswith("@agent-")):
                await stack.op.call("POST", f"{path}/{what}", {"user_id": chance.choice(agents)})
    except RuntimeError:
        pass  # not hers to change, or gone meanwhile


async def settled(stack: Stack, text: str) -> None:
    """Until nothing is on its way in or out."""
    await faults.all_done(stack)
    reread = await stack.command(f"!apply --prune --yes\n```yaml\n{text}```", faults.PATIENCE_S)
    assert "No changes" in reread.text, reread.text


async def comes_to(stack: Stack, text: str, wanted: dict[str, Any]) -> None:
    """Wait until all is as the file has it, or show how it differs."""
    deadline = asyncio.get_running_loop().time() + faults.PATIENCE_S
    while (found := await patiently(lambda: reality.found(stack, text))) != wanted:
        assert asyncio.get_running_loop().time() < deadline, differences(found, wanted)
        await asyncio.sleep(0.5)


async def patiently(look: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """What is seen, once the parts that were killed are back."""
    deadline = asyncio.get_running_loop().time() + faults.PATIENCE_S
    while True:
        try:
            return await look()
        except Unavailable:
            assert asyncio.get_running_loop().time() < deadline, "a part does not come back"
            await asyncio.sleep(0.5)


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Where two of the same form differ, one level down."""
    told = []
    for what in wanted:
        one, two = (dict(it[what]) if isinstance(it[what], dict) else {"": it[what]} for it in (found, wanted))
        told += [
            f"{what} {key}: {one.get(key)}, not {two.get(key)}" for key in one | two if one.get(key) != two.get(key)
        ]
    return "\n".join(told)


@pytest.mark.parametrize("nth", range(min(A_STACK, int(END))))
@pytest.mark.parametrize("world", STACKS, indirect=True)
async def test_whatever_happened_before_all_is_as_the_last_file_has_it(world: World, nth: int) -> None:
    text, stack = await shake(world, seed=world.number * A_STACK + nth), world.stack
    await settled(stack, text)
    await comes_to(stack, text, await reality.should(stack, text))

    before = await patiently(lambda: reality.fingerprint(stack))
    await faults.replaced(stack, "control_plane", await faults.kill(stack, "control_plane"))
    await settled(stack, text)
    after = await patiently(lambda: reality.fingerprint(stack))
    assert after == before, differences(after, before)
