"""The native agent as processes: how it starts and ends, and the forwarder between its sandbox and its door."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.children import free_port, runs
from tests.support.provider import Say
from tests.support.runtime import REPOSITORY, Bench, Heard, children, until


class TestProcess:
    async def test_sigterm_stores_the_files_ends_the_turns_and_exits_with_0(self, bench: Bench) -> None:
        bench.provider.when("novel", Say(words=400, hold_after=20))
        async with bench.agent() as agent:
            heard = Heard()
            asking = asyncio.create_task(agent.ask("novel", heard=heard))
            await until(lambda: "word20" in heard.text)
            (agent.workspace / "late.txt").write_text("late")
            agent.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(agent.process.wait(), 20) == 0
            await asyncio.wait([asking])
            assert asking.exception() is not None or heard.state != "COMPLETED"
        stored = await bench.stored()
        assert stored["late.txt"] == b"late"
        assert any("word20" in text.decode() for path, text in stored.items() if "sessions" in path)

    async def test_takes_over_the_socket_of_a_run_that_was_killed(self, bench: Bench) -> None:
        async with bench.agent() as agent:
            os.kill(agent.pid, signal.SIGKILL)
            await agent.process.wait()
        assert (bench.agent_dir / "a2a.sock").exists()
        async with bench.agent() as agent:
            assert (await agent.ask("hello")).state == "COMPLETED"

    async def test_the_model_libraries_are_only_loaded_while_they_are_needed(self, bench: Bench) -> None:
        async with bench.agent(OPSROOM_BRAIN_IDLE_S="0.2") as agent:
            assert children(agent.pid) == [] and agent.memory_mb() < 70
            await agent.ask("hello")
            await until(lambda: not children(agent.pid))
            assert agent.memory_mb() < 70
            assert (await agent.ask("hello")).state == "COMPLETED"

    async def test_dies_with_nothing_left_over(self, bench: Bench) -> None:
        async with bench.agent() as agent:
            await agent.ask("hello")
            (brain,) = children(agent.pid)
            os.kill(agent.pid, signal.SIGKILL)
            await agent.process.wait()
            await until(lambda: not runs(brain))


class TestForwarder:
    async def test_passes_a_stream_that_is_closed_on_one_side(self, tmp_path: Path) -> None:
        async with forwarder(tmp_path, shout) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x" * 1_000_000)
            writer.write_eof()
            assert await reader.read() == b"X" * 1_000_000
            writer.close()

    async def test_passes_pieces_on_as_they_come(self, tmp_path: Path) -> None:
        async with forwarder(tmp_path, echo) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for piece in (b"one", b"two"):
                writer.write(piece)
                assert await asyncio.wait_for(reader.readexactly(3), 5) == piece
            writer.close()

    async def test_closes_at_once_when_the_gateway_is_away(self, tmp_path: Path) -> None:
        async with forwarder(tmp_path, None) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer only after the other side has closed."""
    writer.write((await reader.read()).upper())
    writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def forwarder(folder: Path, behind: Callable[..., Awaitable[None]] | None) -> AsyncIterator[int]:
    """The forwarder alone, as it runs beside images of other people; its port."""
    port = free_port()
    server = await asyncio.start_unix_server(behind, str(folder / "gateway.sock")) if behind else None
    env = {"OPSROOM_GATEWAY_DIR": str(folder), "OPSROOM_FORWARD_PORT": str(port), "PATH": os.environ["PATH"]}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "runtime.forwarder", env=env, cwd=REPOSITORY)
    try:
        await until_listening(port)
        yield port
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
        if server is not None:
            server.close()


async def until_listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
