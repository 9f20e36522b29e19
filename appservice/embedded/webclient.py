"""The web client: built once from npm with the shell in `deploy/web`, then served to the operator's browser.

Nothing of the client is in the wheel (it is AGPL or GPL); the user's machine builds it at set-up. A build is current
when it carries the fingerprint of the sources it was made from.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from appservice.embedded import npm
from appservice.errors import Unavailable
from appservice.paths import shipped

Progress = Callable[[str], None]

_FINGERPRINT = "built-from"
_FREE_NEEDED = 700 * 1024 * 1024  # npm's packages while it builds; 32 MB stay
_NPM_LIMIT_S = 900.0
_BUILD_LIMIT_S = 300.0
_LOCK_POLL_S = 0.5
_NPM_CI = (
    *("npm", "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", "--no-progress"),
    *("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"),
)


def dist_folder(data_dir: Path) -> Path:
    """Where the built client belongs: beside its sources in a checkout, else below the data directory."""
    checkout = shipped("pyproject.toml").is_file()
    return shipped("deploy", "web", "dist") if checkout else data_dir / "web" / "dist"


def is_current(target: Path) -> bool:
    """Whether `target` holds a build of the sources that we ship."""
    mark = target / _FINGERPRINT
    return mark.is_file() and mark.read_text() == fingerprint(shipped("deploy", "web"))


def fingerprint(sources: Path) -> str:
    """Hash of every file that goes into a build."""
    digest = hashlib.sha256()
    for path in _source_files(sources):
        digest.update(f"{path.relative_to(sources).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _source_files(sources: Path) -> Iterator[Path]:
    for name in ("build.mjs", "package.json", "package-lock.json"):
        yield sources / name
    yield from sorted(path for path in (sources / "src").rglob("*") if path.is_file())


async def build(target: Path, *, progress: Progress) -> Path:
    """Make `target` a current build and answer it; a build that is current already is kept.

    Works in a folder `build` beside the target, which also keeps the log. Two callers build once: the second waits.
    Cancelling ends npm. Raises Unavailable with the way to mend.
    """
    if await asyncio.to_thread(is_current, target):
        return target
    await npm.check_tools()
    work = target.parent / "build"
    try:
        work.mkdir(parents=True, exist_ok=True)
        async with _locked(work / "lock", progress):
            if not await asyncio.to_thread(is_current, target):
                await _build(target, work, progress)
    except OSError as error:
        raise Unavailable(
            f"The web client could not be built in {work}: {error.strerror or error}.",
            fix="Free some disk space or mend the folder's permissions, then start again.",
        ) from error
    return target


async def _build(target: Path, work: Path, progress: Progress) -> None:
    sources = shipped("deploy", "web")
    _check_disk(work)
    shell, log, began = work / "shell", work / "web.log", monotonic()
    try:
        await asyncio.to_thread(_copy_sources, sources, shell)
        log.unlink(missing_ok=True)
        progress("Web client: fetching its packages from npm, once.")
        await npm.run(_NPM_CI, shell, log, limit_s=_NPM_LIMIT_S)
        progress("Web client: building.")
        await npm.run(("node", "build.mjs"), shell, log, limit_s=_BUILD_LIMIT_S)
        (shell / "dist" / _FINGERPRINT).write_text(fingerprint(sources))
        await asyncio.to_thread(_swap_in, shell / "dist", target, work / "old")
    finally:
        await asyncio.to_thread(shutil.rmtree, shell, ignore_errors=True)
    progress(f"Web client: built in {monotonic() - began:.0f} s.")


def _copy_sources(sources: Path, shell: Path) -> None:
    shutil.rmtree(shell, ignore_errors=True)
    for path in _source_files(sources):
        copy = shell / path.relative_to(sources)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())  # not copy(): a read-only installation would give read-only copies


def _swap_in(built: Path, target: Path, old: Path) -> None:
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    built.rename(target)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.asynccontextmanager
async def _locked(path: Path, progress: Progress) -> AsyncIterator[None]:
    """Hold a lock that the system frees when we die."""
    told = False
    with path.open("w") as file:
        while not _try_lock(file.fileno()):
            if not told:
                progress("Web client: another Opsroom is building it; waiting.")
                told = True
            await asyncio.sleep(_LOCK_POLL_S)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_disk(work: Path) -> None:
    free = shutil.disk_usage(work).free
    if free < _FREE_NEEDED:
        raise Unavailable(
            f"The web client needs {_FREE_NEEDED >> 20} MB to build in {work}; {free >> 20} MB are free.",
            fix="Free some disk space, then start again.",
        )


_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}


def client_app(dist: Path, *, base_url: str, server_name: str) -> web.Application:
    """Serve a built client whose homeserver is `base_url`, as the browser reaches it."""
    config = _config(dist, base_url.rstrip("/"), server_name)
    headers = _security_headers(base_url)

    async def read_config(_: web.Request) -> web.Response:
        return web.json_response(config)

    async def read_index(_: web.Request) -> web.FileResponse:
        return web.FileResponse(dist / "index.html")

    async def read_frame(_: web.Request) -> web.FileResponse:
        return web.FileResponse(dist / "usercontent" / "index.html")

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(headers)
        response.headers[hdrs.CACHE_CONTROL] = _caching(request.path)
        if isinstance(response, web.FileResponse) and response.status == 200:
            kind = _TYPES.get(Path(request.path).suffix)
            if kind:
                response.headers[hdrs.CONTENT_TYPE] = kind

    app = web.Application()
    app.on_response_prepare.append(add_headers)
    app.router.add_get("/", read_index)
    app.router.add_get("/config.json", read_config)
    app.router.add_get("/usercontent/", read_frame)
    app.router.add_static("/", dist)
    return app


def _config(dist: Path, base_url: str, server_name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((dist / "config.json").read_text())
    config["default_server_config"] = {"m.homeserver": {"base_url": base_url, "server_name": server_name}}
    config["enable_presence_by_hs_url"] = {base_url: False}
    return config


def _caching(path: str) -> str:
    """Assets carry their hash in their name; the rest is asked for again, and the page itself is never kept."""
    if path.startswith("/assets/"):
        return "public, max-age=31536000, immutable"
    if path in ("/", "/index.html", "/config.json"):
        return "no-store"
    return "no-cache"


def _security_headers(base_url: str) -> Mapping[str, str]:
    parts = urlsplit(base_url)
    homeserver = f"{parts.scheme}://{parts.netloc}"
    policy = {
        "default-src": "'none'",
        "script-src": "'self' 'wasm-unsafe-eval'",  # the recorder of voice messages is WASM
        "style-src": "'self' 'unsafe-inline'",
        "connect-src": f"'self' {homeserver} blob: data:",
        "img-src": f"'self' {homeserver} blob: data:",
        "media-src": f"'self' {homeserver} blob: data:",
        "font-src": "'self' data:",
        "frame-src": "'self' blob:",
        "frame-ancestors": "'self'",
        "worker-src": "'self' blob:",
        "form-action": "'self'",
        "base-uri": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
