"""Synapse as `opsroom up` runs it: one process, SQLite, loopback, no federation; its files and its command line."""

import base64
import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from appservice.config import Settings
from appservice.embedded.files import kept_secret, write_private
from appservice.errors import Invalid

_SECRETS = ("registration_shared_secret", "macaroon_secret_key", "form_secret")
_LIBERAL = {"per_second": 100, "burst_count": 500}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What it takes to run it. `shared_secret` makes accounts."""

    config: Path
    shared_secret: str

    def __repr__(self) -> str:
        return f"Prepared({str(self.config)!r})"


def prepare(settings: Settings, registration: Path, port: int) -> Prepared:
    """Write its files below DATA_DIR/homeserver. Secrets and the signing key are made once and kept.

    Raises `Invalid` when the server name is not that of the data: a homeserver keeps its name for life.
    """
    home = settings.data_dir / "homeserver"
    (home / "media").mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    _check_name(home / "homeserver.yaml", settings.server_name)
    kept = json.loads(kept_secret(settings.secrets_dir / "homeserver.json", _new_secrets))
    kept_secret(home / "signing.key", _new_signing_key)
    write_private(home / "log.yaml", yaml.safe_dump(_logging()))
    document = homeserver_yaml(settings.server_name, home, registration, port) | kept
    write_private(home / "homeserver.yaml", yaml.safe_dump(document, sort_keys=False))
    secret = kept["registration_shared_secret"]
    write_private(settings.registration_secret, secret + "\n")
    return Prepared(config=home / "homeserver.yaml", shared_secret=secret)


def command(prepared: Prepared) -> tuple[str, ...]:
    """Give the argv of the homeserver."""
    return (sys.executable, "-m", "synapse.app.homeserver", "-c", str(prepared.config))


def homeserver_yaml(server_name: str, home: Path, registration: Path, port: int) -> dict[str, Any]:
    """Everything but the secrets."""
    return {
        "server_name": server_name,
        "public_baseurl": f"http://127.0.0.1:{port}/",
        "pid_file": str(home / "homeserver.pid"),
        "listeners": [_listener(port)],
        "database": {"name": "sqlite3", "args": {"database": str(home / "homeserver.db")}},
        "log_config": str(home / "log.yaml"),
        "media_store_path": str(home / "media"),
        "signing_key_path": str(home / "signing.key"),
        "app_service_config_files": [str(registration)],
        "default_room_version": "12",
        "max_upload_size": "50M",
        "redaction_retention_period": "5m",  # of a removed password nothing is to be left in the database
        "auto_accept_invites": {"enabled": True, "only_from_local_users": True},
        "enable_registration": False,
        "bcrypt_rounds": 8,  # passwords of a few local people on loopback
        **_alone(),
        **_less_work(),
        **_limits(),
    }


def _listener(port: int) -> dict[str, Any]:
    return {
        "port": port,
        "type": "http",
        "tls": False,
        "bind_addresses": ["127.0.0.1"],
        "x_forwarded": False,
        "resources": [{"names": ["client"], "compress": False}],
    }


def _alone() -> dict[str, Any]:
    return {
        "report_stats": False,
        "trusted_key_servers": [],
        "suppress_key_server_warning": True,
        "federation_domain_whitelist": [],
        "send_federation": False,
        "allow_public_rooms_over_federation": False,
    }


def _less_work() -> dict[str, Any]:
    return {
        "presence": {"enabled": False},
        "user_directory": {"enabled": False},
        "url_preview_enabled": False,
        "enable_room_list_search": False,
        "track_appservice_user_ips": False,
        "enable_metrics": False,
    }


def _limits() -> dict[str, Any]:
    """For people; agents have none. Joins of agents fill the bucket that people share, so that one is large."""
    return {
        "rc_message": {"per_second": 50, "burst_count": 200},
        "rc_registration": {"per_second": 50, "burst_count": 200},
        "rc_login": {
            "address": {"per_second": 5, "burst_count": 20},
            "account": {"per_second": 5, "burst_count": 20},
            "failed_attempts": {"per_second": 0.2, "burst_count": 5},
        },
        "rc_joins": {"local": _LIBERAL.copy(), "remote": {"per_second": 1, "burst_count": 1}},
        "rc_joins_per_room": _LIBERAL.copy(),
        "rc_invites": {"per_room": _LIBERAL.copy(), "per_user": _LIBERAL.copy(), "per_issuer": _LIBERAL.copy()},
        "rc_room_creation": {"per_second": 20, "burst_count": 100},
    }


def _logging() -> dict[str, Any]:
    """To stderr, which the supervisor keeps in one file. INFO for everything would cost a line a request."""
    return {
        "version": 1,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {"synapse.appservice": {"level": "INFO"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "disable_existing_loggers": False,
    }


def _check_name(config: Path, server_name: str) -> None:
    if not config.exists():
        return
    was = (yaml.safe_load(config.read_text("utf-8")) or {}).get("server_name")
    if was != server_name:
        raise Invalid(
            f"this data directory belongs to the homeserver `{was}`; it cannot become `{server_name}`.",
            fix="Leave --server-name out, or start a new world with another --data-dir.",
        )


def _new_secrets() -> str:
    return json.dumps({name: secrets.token_hex(32) for name in _SECRETS})


def _new_signing_key() -> str:
    """In the form `signedjson` reads: algorithm, version, seed."""
    seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return f"ed25519 a_{secrets.token_hex(2)} {seed}"
