"""`opsroom backup` and `opsroom restore`: what the control plane keeps, as one file, and back.

    manifest.json    which format, which schema, whether there are keys
    opsroom.db       the store as it was at one moment, taken while it is in use
    opsroom.yaml     the settings without secrets
    keys             only when asked for: secrets/, registration.yaml and the whole opsroom.yaml, encrypted

Keys are a tar of their own within Fernet (AES-128-CBC with HMAC), whose key scrypt makes of a passphrase.
"""

import base64
import io
import json
import os
import secrets
import shutil
import sqlite3
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from time import time
from typing import Any, get_args

import yaml
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import BaseModel, SecretStr

from appservice import __version__, config
from appservice.config import SETTINGS_FILE, Settings
from appservice.embedded.files import LOCK_FILE, only_one
from appservice.embedded.world import registration_path
from appservice.errors import Conflict, Denied, Invalid, Limit, NotFound
from appservice.store import lease, migrate, restored

FORMAT = 1
MANIFEST, DATABASE, KEYS = "manifest.json", "opsroom.db", "keys"
REGISTRATION = "registration.yaml"
LOCKS = (LOCK_FILE, DATABASE + lease.ENDING)
LEAST_PASSPHRASE = 8
_SCRYPT = {"n": 2**15, "r": 8, "p": 1}  # 32 MiB and a tenth of a second
_SMALL = 16 * 2**20
_BROKEN = (tarfile.TarError, EOFError, zlib.error, ValueError, KeyError, TypeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """`made_at`: when the backup was made; `keys`: whether they are back, too; `before`: where that lies which was
    there before, None when nothing was."""

    made_at: str
    keys: bool
    before: Path | None


# -- making ----------------------------------------------------------------------------------------------------------


def make(data_dir: Path, target: Path, *, passphrase: str = "") -> int:
    """Write the backup; how many objects are in it. With a passphrase the keys are in it, too.

    It may run beside the control plane. Raises NotFound when there is nothing to keep, Conflict when it would replace
    anything but an older backup.
    """
    settings = config.load(data_dir)
    if not settings.database.exists():
        raise NotFound(f"there is no Opsroom in {data_dir}.", fix="Name its folder with --data-dir.")
    if target.exists() and not _is_backup(target):
        raise Conflict(
            f"{target} is there already and is no backup of Opsroom. Nothing was changed.",
            fix="Name a new file; only an older backup is replaced.",
        )
    salt = secrets.token_bytes(16) if passphrase else b""
    fresh, copied = (target.with_name(f"{target.name}.{end}") for end in ("new", "db.new"))
    try:
        with closing(sqlite3.connect(settings.database, timeout=30)) as source:
            schema = migrate.check(source)
            migrate.copy(source, copied)
        with closing(sqlite3.connect(copied)) as kept:
            [(count,)] = kept.execute("SELECT count(*) FROM resources WHERE owner = ''").fetchall()
        manifest = {
            "format": FORMAT,
            "program": __version__,
            "schema": schema,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "installation": settings.installation,
            "salt": base64.b64encode(salt).decode() or None,
        }
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        with tarfile.open(fresh, "w:gz", compresslevel=6) as tar:
            _add(tar, MANIFEST, json.dumps(manifest, indent=2).encode())
            tar.add(copied, DATABASE, filter=_nobodys)
            if (path := data_dir / SETTINGS_FILE).exists():
                _add(tar, SETTINGS_FILE, _without_secrets(path))
            if passphrase:
                _add(tar, KEYS, _encrypted_keys(settings, _fernet(passphrase, salt)))
        fresh.replace(target)
    finally:
        for path in (fresh, copied):
            path.unlink(missing_ok=True)
    return int(count)


def _is_backup(path: Path) -> bool:
    """Whether it has a manifest of ours; what comes after that may be damaged."""
    try:
        with tarfile.open(path, "r:*") as tar:
            first = tar.next()
            said = json.loads(_small(tar, first)) if first is not None and first.name == MANIFEST else {}
    except (*_BROKEN, OSError):
        return False
    return isinstance(said, dict) and {"format", "schema", "salt"} <= said.keys()


def _encrypted_keys(settings: Settings, fernet: Fernet) -> bytes:
    data = fernet.encrypt(_keys(settings))
    if len(data) > _SMALL:
        raise Limit(
            f"what is in {settings.secrets_dir} is too much for a backup with keys: {len(data) / 2**20:.0f} MiB once"
            f" it is encrypted, of {_SMALL >> 20} at most.",
            fix="Move what is no secret of Opsroom to another folder.",
        )
    return data


def _is_secret(name: str) -> bool:
    """Whether a name in the keys leads to a file below secrets/, and nowhere else."""
    parts = PurePosixPath(name).parts
    return len(parts) > 1 and parts[0] == "secrets" and ".." not in parts


def _keys(settings: Settings) -> bytes:
    """A tar of what opens something."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        files = sorted(path for path in settings.secrets_dir.rglob("*") if path.is_file())
        for path in files:
            _add(tar, path.relative_to(settings.data_dir).as_posix(), path.read_bytes())
        for name, path in (
            (REGISTRATION, registration_path(settings)),
            (SETTINGS_FILE, settings.data_dir / SETTINGS_FILE),
        ):
            if path.exists():
                _add(tar, name, path.read_bytes())
    return made.getvalue()


def _without_secrets(path: Path) -> bytes:
    """The settings as they are written; made anew when somebody wrote a secret into them."""
    data = path.read_bytes()
    written = yaml.safe_load(data) or {}
    bare = _bare(written, Settings)
    return data if bare == written else yaml.safe_dump(bare, sort_keys=False).encode()


def _bare(value: Any, model: type[BaseModel]) -> Any:
    if isinstance(value, list):
        return [_bare(one, model) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, part in value.items():
        inner = [model.model_fields[name].annotation] if name in model.model_fields else []
        inner += [each for one in inner for each in get_args(one)]
        section = next((one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)), None)
        if SecretStr not in inner:
            kept[name] = _bare(part, section) if section else part
    return kept


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o600
    tar.addfile(entry, io.BytesIO(data))


def _nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Who made it is nobody's business."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o600
    return entry


def _fernet(passphrase: str, salt: bytes) -> Fernet:
    key = Scrypt(salt=salt, length=32, **_SCRYPT).derive(passphrase.encode())
    return Fernet(base64.urlsafe_b64encode(key))


# -- reading ---------------------------------------------------------------------------------------------------------


def restore(
    source: Path, data_dir: Path, *, passphrase: str = "", without_keys: bool = False, force: bool = False
) -> Restored:
    """Put a backup where it belongs, in one step for a new folder; nothing is touched before all of it is read.

    With `force` the folder may have something in it: what the backup has takes the place of what is there, which is
    kept in a folder beside; all else stays. Keys come back with their passphrase; `without_keys` leaves them out.
    Raises OpsroomError with a sentence.
    """
    if not source.is_file():
        raise NotFound(f"there is no file {source}.")
    is_new = not data_dir.is_dir()
    with unused(data_dir):
        if not (is_new or force) and any(path.name not in LOCKS for path in data_dir.iterdir()):
            raise Conflict(
                f"{data_dir} is not empty.",
                fix="Name another --data-dir, or give --force: what is replaced is kept beside.",
            )
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        fresh = data_dir.with_name(f".{data_dir.name}.restore-{secrets.token_hex(4)}")
        fresh.mkdir(mode=0o700)
        try:
            manifest = _unpack(source, fresh, passphrase, without_keys=without_keys)
            before = None if is_new else _lay_over(fresh, data_dir)
            if is_new:
                fresh.rename(data_dir)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return Restored(
        made_at=str(manifest.get("made_at", "")), keys=bool(manifest["salt"]) and not without_keys, before=before
    )


@contextmanager
def unused(data_dir: Path) -> Iterator[None]:
    """Hold a data directory that nothing runs on, and the right to work on its database. Raises Conflict."""
    with ExitStack() as locks:
        if data_dir.is_dir():
            locks.enter_context(only_one(data_dir))
            locks.enter_context(lease.at_once(data_dir / DATABASE))
        yield


def _unpack(source: Path, fresh: Path, passphrase: str, *, without_keys: bool) -> Mapping[str, Any]:
    """Write a backup's files into an empty folder and check them."""
    try:
        with tarfile.open(source, "r:*") as tar:
            manifest = json.loads(_small(tar, MANIFEST))
            salt = _checked(manifest)
            if salt and not (passphrase or without_keys):
                raise Invalid(
                    "this backup has keys in it, which are encrypted.",
                    fix="Name the file of their passphrase with --passphrase-file, or leave them out: --without-keys.",
                )
            with (fresh / DATABASE).open("xb") as file:
                shutil.copyfileobj(_file(tar, DATABASE), file)
            if SETTINGS_FILE in tar.getnames():
                (fresh / SETTINGS_FILE).write_bytes(_small(tar, SETTINGS_FILE))
            if salt and not without_keys:
                _unpack_keys(_fernet(passphrase, salt).decrypt(_small(tar, KEYS)), fresh)
    except InvalidToken as error:
        raise Denied("the passphrase is not the one that this backup was made with. Nothing was changed.") from error
    except _BROKEN as error:
        raise Invalid(f"{source} is no backup of Opsroom, or it is damaged. Nothing was changed.") from error
    for path in fresh.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    _check_database(fresh / DATABASE, source)
    with closing(sqlite3.connect(fresh / DATABASE)) as database:
        restored.forget_the_past(database, now=time())
    return dict(manifest)


def _checked(manifest: Mapping[str, Any]) -> bytes:
    """The salt of its keys, b'' for none."""
    if int(manifest["format"]) > FORMAT:
        raise Conflict(
            f"this backup has format {manifest['format']}, and this program knows {FORMAT} at most.",
            fix="Nothing was changed. Install the newer Opsroom that made it.",
        )
    return base64.b64decode(manifest["salt"] or "")


def _unpack_keys(data: bytes, fresh: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for entry in tar.getmembers():
            places = {REGISTRATION: fresh / "homeserver" / REGISTRATION, SETTINGS_FILE: fresh / SETTINGS_FILE}
            path = places.get(entry.name) or (fresh / entry.name if _is_secret(entry.name) else None)
            if path is None:
                raise ValueError(entry.name)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_bytes(_small(tar, entry.name))


def _file(tar: tarfile.TarFile, name: str | tarfile.TarInfo) -> Any:
    found = tar.extractfile(name)
    if found is None:
        raise ValueError(f"{name} is no file")
    return found


def _small(tar: tarfile.TarFile, name: str | tarfile.TarInfo) -> bytes:
    data: bytes = _file(tar, name).read(_SMALL + 1)
    if len(data) > _SMALL:
        raise ValueError(f"{name} is too large")
    return data


def _check_database(path: Path, source: Path) -> None:
    try:
        with closing(sqlite3.connect(path)) as database:
            [(said,)] = database.execute("PRAGMA quick_check(1)").fetchall()
            version = migrate.check(database)
    except sqlite3.DatabaseError as error:
        raise Invalid(f"the database in {source} is damaged. Nothing was changed.") from error
    if said != "ok" or not version:
        raise Invalid(f"the database in {source} is damaged. Nothing was changed.")


def _lay_over(fresh: Path, data_dir: Path) -> Path | None:
    """Let the files of a backup take the place of those that are there, each in one step, the database last. Returns
    where the old ones are."""
    before = data_dir / f"before-restore-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    before.mkdir(mode=0o700)
    files = [path for path in fresh.rglob("*") if path.is_file() and path.name != DATABASE]
    for path in [*sorted(files), fresh / DATABASE]:
        name = path.relative_to(fresh)
        old = data_dir / name
        old.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if old.exists():
            (before / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.name == DATABASE:
            _put_aside(old, before)
        elif old.exists():
            shutil.copy2(old, before / name)
        os.replace(path, old)
    if any(before.iterdir()):
        return before
    before.rmdir()
    return None


def _put_aside(database: Path, before: Path) -> None:
    """Copy the old database and leave nothing of it that would be taken for a part of the new one."""
    logs = [database.with_name(database.name + end) for end in ("-wal", "-shm")]
    try:
        if database.exists():
            with closing(sqlite3.connect(database)) as old:
                migrate.copy(old, before / database.name)
    except sqlite3.DatabaseError:  # perhaps that is why it is replaced
        for path in (database, *logs):
            with suppress(FileNotFoundError):
                shutil.copy2(path, before / path.name)
    for path in logs:
        path.unlink(missing_ok=True)
