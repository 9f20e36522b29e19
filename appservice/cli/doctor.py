"""`opsroom doctor`: every part checked from outside, then what the control plane finds from inside."""

import asyncio
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import yaml

from appservice import config
from appservice.cli import console
from appservice.config import Settings
from appservice.embedded import probes, upfile
from appservice.embedded.world import OPERATOR_SOCKET, registration_path
from appservice.errors import OpsroomError, Unavailable
from appservice.health import Health, Level
from appservice.homeserver import registration as registrations

_LEAST_FREE = 500 * 10**6
_MOST_SKEW_S = 5.0
_WORDS: Mapping[Level, tuple[str, str]] = {
    "ok": ("ok  ", console.GREEN),
    "warn": ("WARN", console.YELLOW),
    "fail": ("FAIL", console.RED),
}


def doctor(data_dir: Path, *, as_json: bool) -> int:
    """Print one line a check; 1 when one of them failed."""
    checks = asyncio.run(check(data_dir))
    if as_json:
        console.answer(json.dumps({"checks": [asdict(one) for one in checks]}, indent=2))
    else:
        for one in checks:
            console.answer(_line(one))
    return 1 if any(one.level == "fail" for one in checks) else 0


async def check(data_dir: Path) -> list[Health]:
    """Look at everything; what cannot be looked at is a failed check, not an error. Of two good words on one part, that
    of the control plane is kept: it looks deeper."""
    try:
        facts = upfile.read(data_dir)
    except Unavailable as error:
        return [_health("opsroom up", "fail", error.what, error.problems[0].fix)]
    settings = config.load(data_dir)
    checks = [*_processes(facts, settings), _disk(data_dir), _registration(settings)]
    checks.append(await _clock(str(facts["homeserver"])))
    checks.append(await _known(settings))
    inside = await _inside(settings.run_dir / OPERATOR_SOCKET)
    told = {one.part for one in inside}
    return [one for one in checks if one.level != "ok" or one.part not in told] + inside


def _processes(facts: Mapping[str, Any], settings: Settings) -> list[Health]:
    """The parts that `up` keeps running. What is the operator's own has no process here."""
    ours = {
        "control_plane": True,
        "homeserver": settings.own_homeserver,
        "gateway": settings.own_gateway,
        "storage": settings.own_storage,
    }
    return [_process(name, facts["pids"][name], settings.logs_dir) for name, own in ours.items() if own]


def _process(name: str, pid: int | None, logs: Path) -> Health:
    part = name.replace("_", " ")
    if pid:
        return _health(part, "ok", f"process {pid}")
    log = logs / f"{name.replace('_', '-')}.log"
    return _health(part, "fail", "does not run", f"It is being started again; see {log}.")


def _disk(data_dir: Path) -> Health:
    free = shutil.disk_usage(data_dir).free
    detail = f"{free / 10**9:.1f} GB free at {data_dir}"
    if free < _LEAST_FREE:
        return _health("disk", "fail", detail, "Free some space: below that nothing can be stored.")
    return _health("disk", "ok", detail)


def _registration(settings: Settings) -> Health:
    """Is the file that the homeserver loaded the one that today's settings need?"""
    path = registration_path(settings)
    try:
        there = registrations.load(path)
    except OpsroomError as error:
        return _health("registration", "fail", error.what, error.problems[0].fix)
    wanted = registrations.registration_document(
        settings,
        url=there.url if settings.homeserver.public_url == "" and not settings.own_homeserver else settings.public_url,
        as_token=there.as_token,
        hs_token=there.hs_token,
        sender_localpart=there.sender_localpart,
    )
    written = yaml.safe_load(path.read_text("utf-8"))
    different = sorted(name for name in wanted if written.get(name) != wanted[name])
    if different:
        fix = "Delete it, start `opsroom up` again, and have the homeserver load the new one."
        return _health("registration", "warn", f"{path} is not what the settings say: {', '.join(different)}", fix)
    return _health("registration", "ok", str(path))


async def _clock(homeserver: str) -> Health:
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http,
            http.get(f"{homeserver}/_matrix/client/versions") as answer,
        ):
            stamp = answer.headers.get("Date", "")
    except (aiohttp.ClientError, TimeoutError) as error:
        return _health("homeserver", "fail", f"{homeserver} does not answer ({type(error).__name__})", "Is it running?")
    if not stamp:
        return _health("clock", "warn", f"{homeserver} does not tell its time")
    skew = abs((datetime.now(UTC) - parsedate_to_datetime(stamp)).total_seconds())
    if skew > _MOST_SKEW_S:
        return _health("clock", "warn", f"{skew:.0f} s apart from the homeserver", "Let both machines use NTP.")
    return _health("clock", "ok", "equal to the homeserver's")


async def _known(settings: Settings) -> Health:
    """Has the homeserver loaded our registration?"""
    try:
        token = registrations.load(registration_path(settings)).as_token
    except OpsroomError as error:
        return _health("as_token", "fail", error.what, error.problems[0].fix)
    if await probes.whoami(settings.homeserver.url, token):
        return _health("as_token", "ok", "the homeserver knows us")
    fix = "List the registration under app_service_config_files and restart the homeserver."
    return _health("as_token", "fail", "the homeserver does not know our registration", fix)


async def _inside(socket: Path) -> list[Health]:
    try:
        told = await probes.ask(socket, "GET", "/doctor", patience_s=30)
    except Unavailable as error:
        return [_health("control plane", "fail", error.what, error.problems[0].fix)]
    return [Health(**one) for one in told["checks"]]


def _health(part: str, level: Level, detail: str, fix: str = "") -> Health:
    return Health(part=part, level=level, detail=detail.rstrip("."), fix=fix)


def _line(one: Health) -> str:
    word, colour = _WORDS[one.level]
    line = f"{console.paint(word, colour, sys.stdout)}  {one.part:<14} {one.detail}"
    return f"{line}\n      {one.fix}" if one.fix else line
