"""Building the web client with the real npm, and serving what was built."""

import asyncio
import gzip
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from appservice.embedded import webclient
from appservice.errors import Unavailable
from tests.support.browser import served
from tests.support.children import free_port, until

HOMESERVER = "http://127.0.0.1:8123"


@pytest_asyncio.fixture(loop_scope="session")
async def site(client_dist: Path) -> AsyncIterator[aiohttp.ClientSession]:
    app = webclient.client_app(client_dist, base_url=f"{HOMESERVER}/", server_name="ops.test")
    async with served(app) as url, aiohttp.ClientSession(url, auto_decompress=False) as session:
        yield session


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where to build, with a cache of npm that is empty."""
    monkeypatch.setenv("NPM_CONFIG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "web" / "dist"


def asset(dist: Path, pattern: str) -> str:
    return next(f"/assets/{path.name}" for path in (dist / "assets").glob(pattern))


def working_in(folder: Path) -> list[str]:
    """Processes whose working directory lies in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd").startswith(str(folder)):
                found.append(process.name)
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
    return found


async def test_the_configuration_names_the_homeserver(site: aiohttp.ClientSession) -> None:
    async with site.get("/config.json") as answer:
        config = await answer.json()
    assert config["default_server_config"] == {"m.homeserver": {"base_url": HOMESERVER, "server_name": "ops.test"}}
    assert (config["brand"], config["disable_custom_urls"]) == ("Opsroom", True)
    assert answer.headers["Cache-Control"] == "no-store"


async def test_the_page_may_talk_to_its_homeserver_and_to_nobody_else(site: aiohttp.ClientSession) -> None:
    async with site.get("/") as answer:
        page, headers = await answer.text(), answer.headers
    assert "<title>Opsroom</title>" in page
    assert f"connect-src 'self' {HOMESERVER} blob: data:;" in headers["Content-Security-Policy"]
    assert "script-src 'self' 'wasm-unsafe-eval';" in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [("*-main.js", "text/javascript; charset=utf-8"), ("*.wasm", "application/wasm"), ("*.woff2", "font/woff2")],
)
async def test_assets_have_their_type_and_may_be_kept(
    site: aiohttp.ClientSession, client_dist: Path, pattern: str, kind: str
) -> None:
    async with site.get(asset(client_dist, pattern)) as answer:
        assert answer.headers["Content-Type"] == kind
        assert "immutable" in answer.headers["Cache-Control"]


async def test_large_files_are_sent_compressed_to_those_who_can_read_it(
    site: aiohttp.ClientSession, client_dist: Path
) -> None:
    name = asset(client_dist, "*-main.js")
    async with site.get(name, headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        packed = await answer.read()
    async with site.get(name, headers={"Accept-Encoding": "identity"}) as answer:
        plain = await answer.read()
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 2


@pytest.mark.parametrize("path", ["/../npm.py", "/%2e%2e/build.mjs", "/assets/", "/nothing.js"])
async def test_nothing_else_is_served(site: aiohttp.ClientSession, path: str) -> None:
    async with site.get(path) as answer:
        assert answer.status in (403, 404)


async def test_a_current_build_is_kept(client_dist: Path) -> None:
    said: list[str] = []
    before = (client_dist / "index.html").stat().st_mtime_ns
    assert await webclient.build(client_dist, progress=said.append) == client_dist
    assert said == []
    assert (client_dist / "index.html").stat().st_mtime_ns == before


async def test_a_build_of_other_sources_is_not_current(target: Path) -> None:
    target.mkdir(parents=True)
    assert not webclient.is_current(target)
    (target / "built-from").write_text("other sources")
    assert not webclient.is_current(target)


async def test_missing_node_is_said_with_the_way_to_mend_it(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        Unavailable, match=r"there is no `node` on this machine[^.]*\. Install Node\.js 20\.11"
    ) as caught:
        await webclient.build(target, progress=print)
    assert not target.exists(), caught


@pytest.mark.usefixtures("client_dist")
async def test_an_unreachable_registry_is_said_with_the_way_to_mend_it(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable) as caught:
        await webclient.build(target, progress=print)
    assert "npm cannot reach its registry. Check the network" in str(caught.value)
    assert not target.exists()
    assert not (target.parent / "build" / "shell").exists()


@pytest.mark.usefixtures("client_dist")
async def test_a_cancelled_build_leaves_no_process_and_no_half_build(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{silent.getsockname()[1]}")
        build = asyncio.create_task(webclient.build(target, progress=print))
        await until(lambda: working_in(target.parent))
        build.cancel()
        with pytest.raises(asyncio.CancelledError):
            await build
    await until(lambda: not working_in(target.parent))
    assert not target.exists()
    assert not (target.parent / "build" / "shell").exists()
