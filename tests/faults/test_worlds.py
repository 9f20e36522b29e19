"""Files at random, one after the other, while parts are killed: in the end everything is as the last file has it, and
another start writes nothing."""

import asyncio
import os
import random
from collections.abc import AsyncIterator

import pytest

from tests.support import faults, reality
from tests.support.stack import Stack, opened

pytestmark = pytest.mark.timeout(400)

PARTS = ("control_plane", "control_plane", "homeserver", "storage", "gateway")


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[Stack]:
    async with opened("--no-web", "--backend", "process") as stack:
        yield stack


async def shake(stack: Stack, seed: int, *, files: int = 3) -> str:
    """Apply some files, with a kill at some moment of each; the last one, once it is applied."""
    chance = random.Random(seed)
    for _ in range(files):
        text = reality.text_of(reality.company(chance))
        event = await stack.op.say(stack.ops_room, f"!apply --prune --yes\n```yaml\n{text}```")
        if chance.random() < 0.5:
            part = chance.choice(PARTS)
            await asyncio.sleep(chance.uniform(0.0, 1.5))
            await faults.replaced(stack, part, await faults.kill(stack, part))
        await stack.op.ended(event, faults.PATIENCE_S)
    return text


async def settled(stack: Stack, text: str) -> None:
    """Until nothing is on its way in or out."""
    await faults.all_done(stack)
    reread = await stack.command(f"!apply --prune --yes\n```yaml\n{text}```", faults.PATIENCE_S)
    assert "No changes" in reread.text, reread.text


@pytest.mark.parametrize("seed", range(int(os.environ.get("OPSROOM_STACK_WORLDS", "2"))))
async def test_whatever_happened_before_all_is_as_the_last_file_has_it(world: Stack, seed: int) -> None:
    text = await shake(world, seed)
    await settled(world, text)
    wanted = reality.should(world, text)
    assert await reality.found(world, text) == wanted

    before = await reality.fingerprint(world)
    await faults.replaced(world, "control_plane", await faults.kill(world, "control_plane"))
    await settled(world, text)
    assert await reality.fingerprint(world) == before
