"""What a machine that was suspended for a while is noticed by."""

import asyncio

import pytest

from appservice.reconcile import suspended
from appservice.reconcile.suspended import Clocks, jumped, watch


@pytest.mark.parametrize(
    ("wall", "steady", "is_jump"),
    [
        (10.0, 10.0, False),
        (12.0, 10.0, False),
        (3600.0, 3600.0, False),  # we were busy, or stopped: appointments went on
        (29.0, 0.0, False),
        (31.0, 0.0, True),
        (3610.0, 10.0, True),
        (-3590.0, 10.0, True),  # somebody set it back
    ],
)
def test_clocks_that_come_apart_are_a_jump(wall: float, steady: float, is_jump: bool) -> None:
    before = Clocks(wall=1_000_000.0, steady=50.0)

    assert jumped(before, Clocks(wall=before.wall + wall, steady=before.steady + steady)) is is_jump


async def test_everything_is_looked_at_once_after_each_suspend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspended, "LOOK_EVERY_S", 0.0)
    over = asyncio.Event()
    readings = iter([(0, 0), (10, 10), (3620, 20), (3630, 30), (7240, 40), (7250, 50)])
    looks: list[int] = []
    taken = 0

    def clocks() -> Clocks:
        nonlocal taken
        wall, steady = next(readings, (7250, 50))
        taken += 1
        if taken == 6:
            over.set()
        return Clocks(wall=wall, steady=steady)

    task = asyncio.create_task(watch(lambda: looks.append(taken), clocks=clocks))
    await asyncio.wait_for(over.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert looks == [3, 5]
