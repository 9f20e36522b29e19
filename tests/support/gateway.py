"""A real Envoy behind its unix socket, with a scripted provider, a control plane of one handler and a recording
storage behind it.

    async def test_x(gateway: Bed):
        answer = await gateway.chat("alice", "gpt-a")            # Answer(status, headers, json)
        await gateway.apply(revoked=frozenset({token.jti}))      # the base state with changes

One Envoy for the whole run; each test begins with the base state, an empty record and new tokens.
"""

import asyncio
import hashlib
import io
import json
import shutil
import signal
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from appservice.gateway import demo
from appservice.gateway.envoy import EnvoyGateway, command, prepare
from appservice.gateway.layout import EnvoyFixed
from appservice.gateway.protocol import Consumer, GatewayState, Provider, Token, Usage
from tests.support.provider import ScriptedProvider

BUCKET = "opsroom"
SECRETS = ("sk-first-secret", "sk-second-secret", "sk-third-secret")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as a server behind the gateway saw it; `path` as it came over the wire."""

    method: str
    path: str
    headers: Mapping[str, str]
    size: int
    digest: str


@dataclass(slots=True)
class Recorder:
    """A server that notes what arrives and streams `answer` back."""

    answer: bytes = b"stored"
    seen: list[Seen] = field(default_factory=list)

    def app(self, *routes: web.RouteDef) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_routes(routes)
        app.router.add_route("*", "/{path:.*}", self._note)
        return app

    async def _note(self, request: web.Request) -> web.StreamResponse:
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_chunked(1 << 16):
            digest.update(chunk)
            size += len(chunk)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.method, request.raw_path, headers, size, digest.hexdigest()))
        return web.Response(body=self.answer)


@dataclass(slots=True, kw_only=True)
class Bed:
    """See the module's docstring."""

    fixed: EnvoyFixed
    gateway: EnvoyGateway
    provider: ScriptedProvider
    control: Recorder
    storage: Recorder
    http: aiohttp.ClientSession
    base: GatewayState
    tls_port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        return (self.fixed.root.parent / "envoy.log").read_text()

    def token(self, consumer: str, *, ttl_s: int = 600) -> Token:
        return self.gateway.issue(consumer, now=int(time.time()), ttl_s=ttl_s)

    async def apply(self, **changes: Any) -> bool:
        """The base state with these changes."""
        return await self.gateway.apply(replace(self.base, **changes))

    async def start(self) -> None:
        with (self.fixed.root.parent / "envoy.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", *command(self.fixed)),
                cwd=self.fixed.root,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(60):
            while (await self.gateway.healthy()).level != "ok" or not self.fixed.socket.exists():
                assert self.process.returncode is None, self.log
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()

    async def ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, data: bytes | None = None
    ) -> Answer:
        url = URL(f"http://gateway{path}", encoded=True)
        body = None if data is None else io.BytesIO(data)  # aiohttp warns of large bytes
        async with self.http.request(method, url, headers=headers, data=body) as answer:
            return Answer(answer.status, dict(answer.headers), await answer.read())

    async def chat(
        self,
        who: str | Token | None,
        model: str,
        *,
        text: str = "hello there",
        path: str = "/v1/chat/completions",
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()
        sent = {"content-type": "application/json", **self.bearer(who), **(headers or {})}
        return await self.ask("POST", path, headers=sent, data=body if raw is None else raw)

    @asynccontextmanager
    async def stream(self, who: str | Token, model: str, text: str) -> AsyncIterator[aiohttp.ClientResponse]:
        body = {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": text}],
        }
        async with self.http.post("http://gateway/v1/chat/completions", json=body, headers=self.bearer(who)) as answer:
            assert answer.status == 200
            yield answer

    def bearer(self, who: str | Token | None) -> dict[str, str]:
        if who is None:
            return {}
        token = self.token(who) if isinstance(who, str) else who
        return {"authorization": f"Bearer {token.text}"}

    async def usage(self, count: int, *, of: str) -> list[Usage]:
        """The first calls of a consumer, as soon as so many are logged."""
        found: list[Usage] = []
        async with asyncio.timeout(60):
            async for _, entries in self.gateway.usage(0):
                found += [entry for entry in entries if entry.consumer == of]
                if len(found) >= count:
                    break
        return found


async def words(answer: aiohttp.ClientResponse, limit: int | None = None) -> list[str]:
    """The words of a streamed answer, up to its end or to the limit."""
    found: list[str] = []
    async for line in answer.content:
        if not line.startswith(b"data: {"):
            continue
        for choice in json.loads(line[6:])["choices"]:
            found += [choice["delta"]["content"]] if "content" in choice["delta"] else []
        if len(found) == limit:
            break
    return found


def base_state(provider: ScriptedProvider, control_socket: Path, tls_port: int) -> GatewayState:
    first, second, third = SECRETS
    root = f"http://127.0.0.1:{provider.port}"
    providers = (
        Provider(name="first", base_url=f"{root}/v1", key=first),
        Provider(name="second", base_url=f"{root}/openai/v1", key=second, header="api-key", prefix=""),
        Provider(name="keyless", base_url=f"{root}/v1"),
        Provider(name="tls", base_url=f"https://localhost:{tls_port}/v1", key=third),
        Provider(name="wrong-name", base_url=f"https://127.0.0.1:{tls_port}/v1", key=third),
        Provider(name="demo", base_url="http://demo.invalid/demo/v1", socket=str(control_socket)),
    )
    routes = {
        "gpt-a": "first",
        "gpt-b": "second",
        "llama": "keyless",
        "tls-c": "tls",
        "tls-d": "wrong-name",
        "demo": "demo",
    }
    everything = frozenset(routes)
    consumers = (
        Consumer(name="alice", models=everything | {"nowhere"}),
        Consumer(name="bob", models=frozenset({"gpt-b"})),
    )
    return GatewayState(consumers=consumers, providers=providers, routes=tuple(routes.items()))


@asynccontextmanager
async def serving(app: web.Application, **where: Any) -> AsyncIterator[int]:
    """Serve on a unix socket (`path`), else on a free port, which is given."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.UnixSite(runner, where["path"]) if "path" in where else web.TCPSite(runner, "127.0.0.1", 0, **where)
        await site.start()
        address = runner.addresses[0]
        yield 0 if isinstance(address, str) else address[1]
    finally:
        await runner.cleanup()


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for `localhost` that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    number, end = x509.random_serial_number(), now + timedelta(days=1)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), number, now, end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "ca.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "both.pem").write_bytes(pem + signed.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return folder / "ca.pem", context


@asynccontextmanager
async def bed(*, storage_endpoint: str = "", bucket: str = BUCKET) -> AsyncIterator[Bed]:
    """Start everything; `storage_endpoint`: a real storage instead of the recorder."""
    root = Path(tempfile.mkdtemp(prefix="ogw-"))
    control, storage = Recorder(), Recorder()
    ca_file, context = certificate(root)
    run_dir = root / "run"
    run_dir.mkdir()
    async with (
        ScriptedProvider() as provider,
        serving(control.app(*demo.routes()), path=str(run_dir / "control.sock")),
        serving(storage.app()) as storage_port,
        serving(control.app(), ssl_context=context) as tls_port,
    ):
        fixed = EnvoyFixed(
            root=root / "gateway",
            run_dir=run_dir,
            signing_key=root / "secrets" / "consumer-key.pem",
            storage=storage_endpoint or f"http://127.0.0.1:{storage_port}",
            bucket=bucket,
            ca_file=str(ca_file),
        )
        prepare(fixed)
        connector = aiohttp.UnixConnector(str(fixed.socket), force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as http:
            one = Bed(
                fixed=fixed,
                gateway=EnvoyGateway(fixed),
                provider=provider,
                control=control,
                storage=storage,
                http=http,
                base=base_state(provider, fixed.control_socket, tls_port),
                tls_port=tls_port,
            )
            try:
                await one.start()
                yield one
            finally:
                await one.stop()
                await one.gateway.close()
                shutil.rmtree(root)


@pytest.fixture(scope="session")
async def gateway_bed() -> AsyncIterator[Bed]:
    """One Envoy for the whole run."""
    async with bed() as one:
        yield one


@pytest.fixture
async def gateway(gateway_bed: Bed) -> Bed:
    """The Envoy of the run, in its base state."""
    gateway_bed.provider.reset()
    gateway_bed.control.seen.clear()
    gateway_bed.storage.seen.clear()
    await gateway_bed.apply()
    return gateway_bed
