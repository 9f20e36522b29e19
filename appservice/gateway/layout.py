"""Where the gateway's files and sockets are, and what of the rest of the installation it must know."""

import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from appservice.config import Settings

# File names below the gateway's root; Envoy runs in that folder and knows them by these relative names.
BOOTSTRAP = "bootstrap.json"
SCRIPT = "gateway.lua"
LISTENERS = "xds/lds.json"
ROUTES = "xds/rds.json"
CLUSTERS = "xds/cds.json"
JWT = "xds/ecds-jwt.json"
DENY = "xds/ecds-deny.json"
GRANTS = "xds/ecds-grants.json"
USAGE_LOG = "log/usage.jsonl"

TOKEN_HEADER = "x-opsroom-token"  # noqa: S105 - the name of a header
CONSUMER_HEADER = "x-opsroom-consumer"

_SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def key_file(provider: str) -> str:
    return f"xds/sds-{provider}.json"


def is_plain(name: str) -> bool:
    """Whether the name can be part of a file name and of a statistic's name."""
    return _PLAIN_NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyFixed:
    """What stays as long as the processes run. `storage`: URL of the S3 endpoint, '' = none. `ca_file`: certificates
    that providers are checked against. `debug_port`: also listen on 127.0.0.1; 0 = not."""

    root: Path
    run_dir: Path
    signing_key: Path
    storage: str = ""
    bucket: str = "opsroom"
    ca_file: str = _SYSTEM_BUNDLE
    debug_port: int = 0

    @property
    def socket(self) -> Path:
        """The door of the agents: the only socket in a folder that is mounted into their sandboxes."""
        return self.run_dir / "gateway" / "gateway.sock"

    @property
    def control_socket(self) -> Path:
        return control_socket(self.run_dir)

    @property
    def admin_socket(self) -> Path:
        return self.run_dir / "envoy-admin.sock"

    @classmethod
    def from_settings(cls, settings: Settings, *, storage: str = "") -> "EnvoyFixed":
        """`storage`: the endpoint when it was chosen at start and the settings do not know it."""
        return cls(
            root=settings.gateway_root,
            run_dir=settings.run_dir,
            signing_key=settings.secrets_dir / "consumer-key.pem",
            storage=storage or settings.storage.endpoint,
            bucket=settings.storage.bucket,
            ca_file=ca_bundle(),
            debug_port=settings.gateway.debug_port,
        )


def control_socket(run_dir: Path) -> Path:
    """The control plane's own socket, which only the gateway uses."""
    return run_dir / "control.sock"


def ca_bundle() -> str:
    """File of the certificates this machine trusts: SSL_CERT_FILE, else the system's."""
    return os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or _SYSTEM_BUNDLE
