"""Files that only the owner may read, and the guards of a data directory: one `up` at a time, enough free disk."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from appservice.errors import Conflict, Limit

LOCK_FILE = "up.lock"
_LEAST_FREE = 500 * 10**6
_FULL = 50 * 10**6


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, mode 0600 from its first moment on; one that has this text already stays."""
    if path.exists() and path.read_text("utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """Return the secret in this file; make it the first time."""
    if not path.exists():
        write_private(path, make() + "\n")
    return path.read_text("utf-8").strip()


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data directory. The kernel lets go of it when we end, however that happens.

    Raises `Conflict` when another `opsroom up` has it.
    """
    with (data_dir / LOCK_FILE).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Conflict(
                f"another `opsroom up` (process {lock.read().strip() or 'unknown'}) already runs on {data_dir}.",
                fix="`opsroom info` shows it. End it with Ctrl-C where it runs, or name another --data-dir.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def held(data_dir: Path) -> bool:
    """Tell whether an `opsroom up` has this data directory now."""
    try:
        with (data_dir / LOCK_FILE).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def check_disk(data_dir: Path, *, least: int = _LEAST_FREE) -> None:
    """Raise `Limit` when there is too little room to start."""
    if (free := shutil.disk_usage(data_dir).free) < least:
        raise Limit(
            f"only {free / 10**6:.0f} MB are free where {data_dir} is; Opsroom needs {least / 10**6:.0f} MB to start.",
            fix="Free some space, or name a folder on another disk with --data-dir.",
        )


def disk_is_full(data_dir: Path) -> bool:
    """Tell whether a component may have died for want of space."""
    return shutil.disk_usage(data_dir).free < _FULL
