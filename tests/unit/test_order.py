"""Whose turn it is to change something."""

import asyncio

from appservice.ops.order import Order


async def test_each_has_its_turn_once_all_before_it_have_left() -> None:
    order, done = Order(), list[str]()
    for name in "abc":
        order.take(name)

    async def work(name: str) -> None:
        await order.turn(name)
        done.append(name)
        order.leave(name)

    last = asyncio.create_task(work("c"))
    order.leave("b")
    await work("a")
    await last
    assert done == ["a", "c"]


async def test_who_has_left_or_never_took_a_place_waits_for_nobody() -> None:
    order = Order()
    order.take("slow")
    order.take("asks a person")
    order.leave("asks a person")
    for name in ("asks a person", "came by another door"):
        await order.turn(name)
    order.leave("asks a person")
