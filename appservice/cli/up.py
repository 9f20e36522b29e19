"""`opsroom up`: flags become settings, the first run asks one question, then the embedded stack takes over."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from appservice.cli import console
from appservice.config import SETTINGS_FILE
from appservice.errors import Invalid

_GREETING = """
Opsroom is up.

  client     {client}
  user       {operator}
  password   {password}
  ops room   {ops_room}

{first}
Ctrl-C stops everything; the same command brings it back as it was."""

_FIRST = """\
Open the client, log in, and type  !help  in the room "Ops room".
Then drop examples/alice.yaml into that room: it starts your first agent."""


def up(options: argparse.Namespace, data_dir: Path) -> int:
    """Start everything and stay until told to stop."""
    from appservice.embedded.up import Wish, run

    flags = settings_of(options)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    first = not (data_dir / SETTINGS_FILE).exists() and not options.provider_url
    if first and sys.stdin.isatty() and sys.stderr.isatty():
        from appservice.cli.firstrun import ask_for_provider

        ask_for_provider(data_dir)
    wish = Wish(data_dir=data_dir, flags=flags, web=not options.no_web)
    return asyncio.run(run(wish, say=console.say, greet=_greet))


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Flags as settings. Raises `Invalid` when one is missing that another needs."""
    host, port = _listen(options.listen)
    flags: dict[str, Any] = {
        "operator": options.operator,
        "homeserver": {
            "url": options.homeserver and options.homeserver.rstrip("/"),
            "server_name": options.server_name,
            "registration": _path(options.registration),
            "listen_host": host,
            "listen_port": port,
            "public_url": options.public_url,
        },
        "gateway": {"root": _path(options.gateway_root)},
        "storage": {
            "endpoint": options.storage_endpoint,
            "access_key": options.storage_access_key,
            "secret_key_file": _path(options.storage_secret_key_file),
            "users": options.storage_users,
        },
        "agents": {"backend": options.backend},
        "embedded": {"client_port": options.port},
    }
    if options.provider_url:
        url, key_file = options.provider_url.rstrip("/"), _path(options.provider_key_file)
        flags["providers"] = [_given({"name": "own", "base_url": url, "key_file": key_file})]
    if options.homeserver:
        if not options.server_name or not (options.operator or "").startswith("@"):
            raise Invalid(
                "a homeserver of your own has its name and its people already.",
                fix="Add --server-name example.org and --operator @you:example.org.",
            )
        flags["embedded"]["homeserver_port"] = 0
    if options.storage_endpoint:
        flags["embedded"]["storage_port"] = 0
    return _given(flags)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """Without what was not said."""
    kept = {name: _given(value) if isinstance(value, dict) else value for name, value in flags.items()}
    return {name: value for name, value in kept.items() if value is not None and value != {}}


def _listen(text: str | None) -> tuple[str | None, int | None]:
    if not text:
        return None, None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise Invalid(f"--listen {text} is not HOST:PORT.", fix="For example --listen 0.0.0.0:9000.")
    return host.strip("[]"), int(port)


def _path(path: Path | None) -> str | None:
    return str(path.expanduser().resolve()) if path else None


def _greet(facts: dict[str, Any]) -> None:
    password = f"in {facts['password_file']}" if facts["password_file"] else "the one you have there"
    client = facts["client"] or f"any Matrix client, with the homeserver {facts['homeserver']}"
    console.answer(_GREETING.format(**facts | {"client": client}, password=password, first=_FIRST))
