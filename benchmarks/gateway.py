"""What the gateway costs a call, and how fast a revoked token is refused.

Three ways to the same provider, alternating in random order within one run: direct, through an Envoy that only
forwards, and through the whole chain (token, deny list, body, grants, key). Then: time from `apply` of a revocation to
the first 401 that a client in a loop sees.

    .venv/bin/python -m benchmarks.gateway [--calls 1000] [--consumers 100] [--revocations 50]
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from appservice.gateway.envoy import EnvoyGateway, command, find_envoy, prepare
from appservice.gateway.layout import EnvoyFixed
from appservice.gateway.listener import FILTERS, TYPE
from appservice.gateway.protocol import Consumer, GatewayState, Provider

MODEL = "gpt-bench"
ANSWER = json.dumps({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}).encode()
BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "x" * 1500}]}).encode()
WARM_UP = 100


class InstantProvider(asyncio.Protocol):
    """Answers each call at once."""

    def __init__(self) -> None:
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pending += data
        while (length := whole_message(self._pending)) is not None:
            self._pending = self._pending[length:]
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(ANSWER)}\r\n\r\n"
            self._transport.write(head.encode() + ANSWER)


def whole_message(data: bytes) -> int | None:
    """Length of the first HTTP message in the data, if it is whole."""
    head, found, _ = data.partition(b"\r\n\r\n")
    if not found:
        return None
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    end = len(head) + 4 + (int(lengths[0].split(b":")[1]) if lengths else 0)
    return end if len(data) >= end else None


def run_provider(tell: Connection) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(InstantProvider, "127.0.0.1", 0)
        tell.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


class Client:
    """One connection that is kept; calls one after the other."""

    def __init__(self, *, socket: Path | None = None, port: int = 0) -> None:
        self._socket, self._port = socket, port
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, token: str) -> int:
        """The status of the answer."""
        if self._writer is None:
            if self._socket is not None:
                self._reader, self._writer = await asyncio.open_unix_connection(str(self._socket))
            else:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {token}\r\ncontent-length: {len(BODY)}\r\n\r\n"
        )
        self._writer.write(head.encode() + BODY)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = whole_message(answer + b"x" * 65536)
        assert length is not None
        await self._reader.readexactly(length - len(answer))
        if b"connection: close" in answer.lower():
            await self.close()
        return int(answer.split(b" ", 2)[1])

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@asynccontextmanager
async def provider() -> AsyncIterator[int]:
    """The port of an instant provider in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run_provider, args=(theirs,), daemon=True)
    process.start()
    try:
        yield await asyncio.to_thread(ours.recv)
    finally:
        process.kill()
        process.join()


@asynccontextmanager
async def envoy(argv: Sequence[str], root: Path, socket: Path) -> AsyncIterator[None]:
    with (root / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*argv, cwd=root, stdout=log, stderr=log)
    try:
        async with asyncio.timeout(20):
            while not socket.exists():
                assert process.returncode is None, (root / "envoy.log").read_text()
                await asyncio.sleep(0.02)
        yield
    finally:
        process.terminate()
        await process.wait()


def bare_bootstrap(socket: Path, port: int) -> dict[str, object]:
    """An Envoy that forwards and does nothing else."""
    http = TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = {"@type": FILTERS + "router.v3.Router"}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "provider"}}
    manager = {
        "@type": http,
        "stat_prefix": "bare",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    pipe = {"pipe": {"path": str(socket)}}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    cluster = {"name": "provider", "load_assignment": {"cluster_name": "provider", "endpoints": endpoints}}
    return {"static_resources": {"listeners": [{"address": pipe, "filter_chains": [chain]}], "clusters": [cluster]}}


@dataclass(frozen=True, slots=True)
class Bench:
    ways: dict[str, Client]
    gateway: EnvoyGateway
    state: GatewayState


@asynccontextmanager
async def bench(consumers: int) -> AsyncIterator[Bench]:
    root = Path(tempfile.mkdtemp(prefix="ogb-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, root)
        port = await stack.enter_async_context(provider())
        (root / "bare.json").write_text(json.dumps(bare_bootstrap(root / "bare.sock", port)))
        bare = [find_envoy(), "-c", "bare.json", "--disable-hot-restart", "--concurrency", "2"]
        await stack.enter_async_context(envoy(bare, root, root / "bare.sock"))
        fixed = EnvoyFixed(root=root / "gateway", run_dir=root / "run", signing_key=root / "key.pem")
        prepare(fixed)
        await stack.enter_async_context(envoy(command(fixed), fixed.root, fixed.socket))
        gateway = EnvoyGateway(fixed)
        stack.push_async_callback(gateway.close)
        state = GatewayState(
            consumers=tuple(Consumer(name=f"agent{n}", models=frozenset({MODEL})) for n in range(consumers)),
            providers=(Provider(name="bench", base_url=f"http://127.0.0.1:{port}/v1", key="sk-bench"),),
            routes=((MODEL, "bench"),),
        )
        await gateway.apply(state)
        ways = {
            "direct": Client(port=port),
            "bare Envoy": Client(socket=root / "bare.sock"),
            "whole chain": Client(socket=fixed.socket),
        }
        for client in ways.values():
            await stack.enter_async_context(client)
        yield Bench(ways, gateway, state)


async def measure_calls(setup: Bench, calls: int) -> dict[str, list[float]]:
    """Milliseconds of each call, by way."""
    token = setup.gateway.issue("agent0", now=int(time.time()), ttl_s=3600).text
    took: dict[str, list[float]] = {name: [] for name in setup.ways}
    for number in range(calls + WARM_UP):
        for name in random.sample(list(setup.ways), len(setup.ways)):
            start = time.perf_counter()
            status = await setup.ways[name].call(token)
            if number >= WARM_UP:
                took[name].append((time.perf_counter() - start) * 1000)
            assert status == 200, f"{name}: {status}"
    return took


async def measure_revocations(setup: Bench, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds to the first 401 that a client in a loop sees, and until `apply` returned."""
    client = setup.ways["whole chain"]
    refused: list[float] = []
    applied: list[float] = []
    revoked: set[str] = set()
    for _ in range(count):
        token = setup.gateway.issue("agent0", now=int(time.time()), ttl_s=3600)
        assert await client.call(token.text) == 200
        revoked.add(token.jti)
        start = time.perf_counter()
        change = asyncio.create_task(setup.gateway.apply(replace(setup.state, revoked=frozenset(revoked))))
        while await client.call(token.text) != 401:
            pass
        refused.append((time.perf_counter() - start) * 1000)
        await change
        applied.append((time.perf_counter() - start) * 1000)
    return refused, applied


def percentiles(values: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98]


def report(took: dict[str, list[float]], refused: list[float], applied: list[float]) -> str:
    figures = {name: percentiles(values) for name, values in took.items()}
    lines = [f"{'way':<14}{'p50 ms':>9}{'p99 ms':>9}{'x direct':>18}{'x bare Envoy':>18}"]
    for name, (p50, p99) in figures.items():
        ratios = [f"{p50 / figures[to][0]:.2f} / {p99 / figures[to][1]:.2f}" for to in ("direct", "bare Envoy")]
        lines.append(f"{name:<14}{p50:>9.3f}{p99:>9.3f}" + "".join(f"{ratio:>18}" for ratio in ratios))
    whole = figures["whole chain"]
    for to in ("direct", "bare Envoy"):
        added = (whole[0] - figures[to][0], whole[1] - figures[to][1])
        lines.append(f"the whole chain adds to {to}: p50 {added[0]:.3f} ms, p99 {added[1]:.3f} ms")
    for what, values in (("revocation to first 401", refused), ("revocation confirmed", applied)):
        p50, p99 = percentiles(values)
        lines.append(f"{what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {max(values):.1f} ms ({len(values)} times)")
    return "\n".join(lines)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--consumers", type=int, default=100)
    parser.add_argument("--revocations", type=int, default=50)
    options = parser.parse_args()
    async with bench(options.consumers) as setup:
        took = await measure_calls(setup, options.calls)
        refused, applied = await measure_revocations(setup, options.revocations)
    print(f"{options.calls} calls each way in random order, {len(BODY)} bytes, {options.consumers} consumers")
    print(report(took, refused, applied))


if __name__ == "__main__":
    asyncio.run(main())
