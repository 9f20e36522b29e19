"""What a running agent finds when it looks around in its sandbox as a local process (containers: test_in_docker)."""

import asyncio

from tests.support.inside import Insider, gateway_alone_answers, own_token_is_the_only_secret
from tests.support.stack import Stack


async def test_from_inside_a_process_sandbox_only_the_gateway_answers(stack: Stack) -> None:
    await gateway_alone_answers(await Insider.made(stack, "scout"))


async def test_inside_a_process_sandbox_there_is_no_secret_but_its_own_token(stack: Stack) -> None:
    insider, _ = await asyncio.gather(Insider.made(stack, "spy"), stack.worker("target"))
    await own_token_is_the_only_secret(insider, "target")


async def test_what_an_agent_has_locked_away_is_kept_and_keeps_nothing_else_back(stack: Stack) -> None:
    insider = await Insider.made(stack, "locksmith")
    await insider.run("mkdir shut; echo one > shut/kept.txt; echo one > mine.txt")

    await insider.run("chmod 000 shut; chmod 000 mine.txt; echo two >> mine.txt; echo milk > note.txt")

    told = "Not all my files are saved: The folder shut cannot be read"
    await stack.op.until(lambda: any(told in message.text for message in stack.op.messages.values()), "a word on it")
    kept = await stack.files("agents/locksmith/")
    assert kept["agents/locksmith/note.txt"] == b"milk\n"
    assert kept["agents/locksmith/shut/kept.txt"] == kept["agents/locksmith/mine.txt"] == b"one\n"

    await insider.run("chmod 311 .")  # nothing in it can be listed any more

    told = "The folder . cannot be read"
    await stack.op.until(lambda: any(told in message.text for message in stack.op.messages.values()), "a word on it")
    assert kept.keys() <= (await stack.files("agents/locksmith/")).keys()
