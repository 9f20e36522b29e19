"""What one data directory runs: its ports, its registration, its components."""

import os
import secrets
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from appservice import config
from appservice.config import Settings
from appservice.embedded import ports, probes, synapse
from appservice.embedded.child import Component
from appservice.embedded.files import write_private
from appservice.embedded.ports import Want
from appservice.errors import Conflict
from appservice.gateway.layout import EnvoyFixed
from appservice.homeserver import registration as registrations
from appservice.homeserver.registration import Registration
from appservice.storage import seaweed
from appservice.store import lease

HOMESERVER, GATEWAY, STORAGE, CONTROL_PLANE = "homeserver", "gateway", "storage", "control-plane"
OPERATOR_SOCKET = "operator.sock"
_FRUGAL = {"MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1"}
_FRUGAL_GO = {"GOGC": "5"}  # with a GOMEMLIMIT it cleans up all the time: a tenth of a core while idle, for 12 MB less
_WANTED = {
    "client_port": ("the web client", 8080),
    "homeserver_port": ("the homeserver", 8008),
    "storage_port": ("the storage", 8333),
    "storage_master_port": ("the storage's master", 8334),
    "storage_volume_port": ("the storage's volumes", 8335),
    "storage_filer_port": ("the storage's filer", 8336),
}
_API_PORT = 8700
_NOT_WORTH_A_WORD = ("storage_master_port", "storage_volume_port", "storage_filer_port")  # nobody calls them


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A prepared data directory. `foundations` start before the control plane. `shared_secret`: '' when the
    homeserver is not ours."""

    settings: Settings
    registration: Registration
    foundations: tuple[Component, ...]
    control_plane: Component
    shared_secret: str = field(default="", repr=False)

    @property
    def operator_socket(self) -> Path:
        return self.settings.run_dir / OPERATOR_SOCKET

    @property
    def password_file(self) -> Path:
        return self.settings.secrets_dir / "operator-password"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Settings with every port chosen. `said`: a sentence for each port that is not the wanted one. `changes`: what
    the next start must know, once this one has proved good."""

    settings: Settings
    said: tuple[str, ...]
    changes: dict[str, Any]


def settle(data_dir: Path, flags: dict[str, Any], reserved: ExitStack, *, web: bool = True) -> Settled:
    """Read the settings and choose what ports are still open; they stay ours until `reserved` is closed. Nothing is
    written.

    Raises `Invalid` for wrong settings, `Conflict` when the port that a homeserver of yours calls is taken.
    """
    settings = config.load(data_dir, **flags)
    chosen = ports.choose(_wants(settings, web=web), reserved)
    numbers = {name: one.port for name, one in chosen.items()}
    listen, api = numbers.pop("listen_port"), numbers.pop("api_port", 0)
    if listen != settings.homeserver.listen_port and not settings.own_homeserver:
        raise Conflict(
            f"port {settings.homeserver.listen_port} is taken, and the homeserver was told to reach Opsroom there.",
            fix="Stop what listens there, or name another port with --listen and register Opsroom again.",
        )
    changes = config.merged(flags, _changes(settings, numbers, listen, api) | _own_name(settings))
    said = tuple(one.said for one in chosen.values() if one.said and one.name not in _NOT_WORTH_A_WORD)
    return Settled(settings=config.load(data_dir, **changes), said=said, changes=changes)


def prepare(settings: Settings) -> World:
    """Write the files of everything that we start, and say how to start it."""
    for folder in (settings.run_dir, settings.secrets_dir, settings.logs_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    registration = ensure_registration(settings)
    foundations, shared_secret = [], ""
    if settings.own_homeserver:
        component, shared_secret = _homeserver(settings, registration)
        foundations.append(component)
    if settings.own_gateway:
        foundations.append(_gateway(settings))
    if settings.own_storage:
        foundations.append(_storage(settings))
    return World(
        settings=settings,
        registration=registration,
        foundations=tuple(foundations),
        control_plane=_control_plane(settings),
        shared_secret=shared_secret,
    )


def _own_name(settings: Settings) -> dict[str, Any]:
    """A new Opsroom gets a name of its own, so that several can share a Docker Engine or a storage server."""
    unnamed = settings.installation == Settings.model_fields["installation"].default
    if not unnamed or (settings.data_dir / config.SETTINGS_FILE).exists():
        return {}
    return {"installation": f"ops-{sha256(str(settings.data_dir).encode()).hexdigest()[:6]}"}


def registration_path(settings: Settings) -> Path:
    return settings.homeserver.registration or _own_registration(settings)


def _own_registration(settings: Settings) -> Path:
    return settings.data_dir / "homeserver" / "registration.yaml"


def ensure_registration(settings: Settings) -> Registration:
    """Write the registration when there is none. That of our own homeserver follows the settings, its tokens stay;
    one that a homeserver of yours has loaded is never touched."""
    path = registration_path(settings)
    if path.exists() and not settings.own_homeserver:
        return registrations.load(path)
    old = registrations.load(path) if path.exists() else None
    document = registrations.registration_document(
        settings,
        url=settings.public_url,
        as_token=old.as_token if old else secrets.token_hex(32),
        hs_token=old.hs_token if old else secrets.token_hex(32),
        sender_localpart=old.sender_localpart if old else f"opsroom-{secrets.token_hex(5)}",
    )
    write_private(path, yaml.safe_dump(document, sort_keys=False))
    return registrations.load(path)


def _wants(settings: Settings, *, web: bool) -> list[Want]:
    """Ports that will be opened; the order decides who gives way."""
    ours = {"client": web, "homeserver": settings.own_homeserver, "storage": settings.own_storage}
    wants = [Want(name="listen_port", label="the control plane", port=settings.homeserver.listen_port)]
    if settings.api.listen_host:
        wants.append(Want(name="api_port", label="the REST API", port=settings.api.listen_port or _API_PORT))
    for name, (label, usual) in _WANTED.items():
        part = name.partition("_")[0]
        if ours[part]:
            port = getattr(settings.embedded, name) or usual
            wants.append(
                Want(name=name, label=label, port=port, also=(seaweed.GRPC_OFFSET,) if part == "storage" else ())
            )
    return wants


def _changes(settings: Settings, numbers: dict[str, int], listen: int, api: int) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "embedded": numbers,
        "homeserver": {"listen_port": listen},
        "api": {"listen_port": api},
    }
    if "homeserver_port" in numbers:
        changes["homeserver"]["url"] = f"http://{ports.HOST}:{numbers['homeserver_port']}"
        changes["homeserver"]["registration"] = str(_own_registration(settings))  # not that of a folder copied from
    if "storage_port" in numbers:
        changes["storage"] = {
            "endpoint": f"http://{ports.HOST}:{numbers['storage_port']}",
            "secret_key_file": str(settings.secrets_dir / "storage.key"),
        }
    return changes


def _homeserver(settings: Settings, registration: Registration) -> tuple[Component, str]:
    port = settings.embedded.homeserver_port
    prepared = synapse.prepare(settings, registration_path(settings), port)
    sender = f"@{registration.sender_localpart}:{settings.server_name}"
    component = Component(
        name=HOMESERVER,
        argv=synapse.command(prepared),
        probe=probes.homeserver(port, registration.as_token, sender),
        cwd=settings.data_dir / "homeserver",
        environment=_FRUGAL,
        stop_s=3,
    )
    return component, prepared.shared_secret


def _gateway(settings: Settings) -> Component:
    """`opsroom gateway` writes Envoy's files and becomes Envoy; what it reads from the environment is no secret."""
    read = ("OPSROOM_GATEWAY__", "OPSROOM_STORAGE__ENDPOINT", "OPSROOM_STORAGE__BUCKET", "SSL_CERT_FILE")
    return Component(
        name=GATEWAY,
        argv=_ourselves("gateway", settings),
        probe=probes.on_socket(EnvoyFixed.from_settings(settings).admin_socket, "/ready", expect="LIVE"),
        environment={name: value for name, value in os.environ.items() if name.startswith(read)},
        stop_s=3,
    )


def _storage(settings: Settings) -> Component:
    """It needs 16 s to end when asked to; what it acknowledged survives SIGKILL, so it is not waited for."""
    own = settings.embedded
    chosen = seaweed.Ports(
        s3=own.storage_port,
        master=own.storage_master_port,
        volume=own.storage_volume_port,
        filer=own.storage_filer_port,
    )
    home = settings.data_dir / "storage"
    prepared = seaweed.prepare(home, settings.secrets_dir, chosen, access_key=settings.storage.access_key)
    return Component(
        name=STORAGE,
        argv=tuple(seaweed.command(prepared)),
        probe=probes.on_port(chosen.s3, "/healthz"),
        cwd=home,
        environment=_FRUGAL_GO,
        stop_s=2,
    )


def _control_plane(settings: Settings) -> Component:
    """It alone gets our whole environment: provider keys may be in it."""
    listen = settings.homeserver.listen_port
    chosen = {"OPSROOM_HOMESERVER__LISTEN_PORT": str(listen), "OPSROOM_API__LISTEN_PORT": str(settings.api.listen_port)}
    return Component(
        name=CONTROL_PLANE,
        argv=_ourselves("serve", settings),
        probe=probes.both(
            probes.on_port(listen, "/healthz"), probes.on_socket(settings.run_dir / OPERATOR_SOCKET, "/info")
        ),
        environment={**os.environ, **_FRUGAL, **chosen},
        stage=1,
        stop_s=4,
        waits_for=partial(lease.somebody_else, settings.database),
    )


def _ourselves(verb: str, settings: Settings) -> tuple[str, ...]:
    return (sys.executable, "-m", "appservice.cli", verb, "--data-dir", str(settings.data_dir))
