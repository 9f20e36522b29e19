"""What a running agent finds when it looks around in its sandbox as a local process (containers: test_in_docker)."""

import asyncio

from tests.support.inside import Insider, gateway_alone_answers, own_token_is_the_only_secret
from tests.support.stack import Stack


async def test_from_inside_a_process_sandbox_only_the_gateway_answers(stack: Stack) -> None:
    await gateway_alone_answers(await Insider.made(stack, "scout"))


async def test_inside_a_process_sandbox_there_is_no_secret_but_its_own_token(stack: Stack) -> None:
    insider, _ = await asyncio.gather(Insider.made(stack, "spy"), stack.worker("target"))
    await own_token_is_the_only_secret(insider, "target")
